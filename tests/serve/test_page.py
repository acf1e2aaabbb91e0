"""The page at / in a real browser: files, token, keyboard, and that no name runs as a script."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memae import Detector
from tests.browser import needs_browser
from tests.serve.served import TOKEN, Client, png, serving
from tests.small_detectors import MALIGNANT, OTHERS, ROWS, fit

HOSTILE = "<img src=x onerror=alert(1)>"


def maps() -> Detector:
    """Of images whose score is the maximum of their map."""
    squares = np.random.default_rng(0).integers(60, 90, (60, 16, 16), dtype=np.uint8)
    return fit(squares, image={"pool": "max"}, threshold={"false_alarm_rate": 0.1})


@pytest.fixture(scope="module")
def served() -> Iterator[Client]:
    with serving({"parts": maps(), "rows": fit(ROWS)}, token=TOKEN) as client:
        yield client


@pytest.fixture
def page(browser: Any, served: Client) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1000, "height": 800})
    wrong: list[str] = []

    def refuse(dialog: Any) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", refuse)
    opened.on("console", lambda said: wrong.extend([said.text] * ("status of 4" not in said.text)))
    own = (served.url, "data:", "blob:")
    opened.on("request", lambda asked: wrong.extend([asked.url] * (not asked.url.startswith(own))))
    opened.goto(served.url)
    yield opened
    opened.close()
    assert wrong == []


def enter(page: Any) -> None:
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#model option", state="attached")


def upload(name: str, content: bytes, kind: str) -> dict[str, Any]:
    return {"name": name, "buffer": content, "mimeType": kind}


def test_its_files_need_no_token_and_run_no_other_script(served: Client) -> None:
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        reply = Client(served.url).ask(path)
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith(kind)
        assert "default-src 'none'; script-src 'self'" in reply.headers["Content-Security-Policy"]
    assert Client(served.url).ask("/index.html").status == 401  # no folder is served


@needs_browser
def test_an_image_is_shown_with_its_map_and_its_place(page: Any, served: Client) -> None:
    enter(page)
    pixels = np.full((16, 16), 75, dtype=np.uint8)
    pixels[9:14, 2:7] = 255
    page.set_input_files("#files", [upload(f"{HOSTILE}.png", png(pixels), "image/png")])
    page.wait_for_selector(".picture canvas + canvas")
    assert page.inner_text("#summary") == "1 of 1 is an anomaly"
    assert page.inner_text("h3 span") == f"{HOSTILE}.png"
    assert page.inner_text("h3 b") == "anomaly"
    alpha = page.evaluate(
        "() => { const c = document.querySelector('.picture canvas + canvas');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " return [c.height, c.width, [...d].filter((_, at) => at % 4 === 3)]; }"
    )
    opacity = np.array(alpha[2]).reshape(alpha[:2])
    half = len(opacity) // 2
    assert opacity[half:, :half].max() > 150  # the place is coloured
    assert opacity[:half, half:].mean() < opacity[half:, :half].mean() / 2
    assert page.locator(".box").count() >= 1
    page.get_by_role("checkbox", name="anomaly map").uncheck()
    assert not page.locator(".picture canvas + canvas").is_visible()


@needs_browser
def test_rows_are_shown_with_their_columns_highest_score_first(page: Any) -> None:
    enter(page)
    page.get_by_label("Model").select_option("rows")
    rows = MALIGNANT.iloc[:5]
    for name, content, kind in (
        ("today.csv", rows.to_csv(index=False), "text/csv"),
        ("today.json", json.dumps(rows.to_dict("records")), "application/json"),
    ):
        page.set_input_files("#files", [upload(name, content.encode(), kind)])
        page.wait_for_selector("#result:not([hidden])")
        assert page.locator("#samples > li").count() == 5
        shares = page.locator("#samples > li:first-child td.share div").all_inner_texts()
        assert len(shares) == 6
        assert shares == sorted(shares, key=lambda text: -float(text.split()[0]))
        assert page.inner_text("#summary").endswith("of 5 are anomalies")
        assert page.evaluate("document.activeElement.id") == "summary"  # where a screen reader goes on
    flagged = page.locator("#samples > li.anomaly").count()
    page.get_by_label("anomalies only").check()
    assert page.locator("#samples > li:not([hidden])").count() == flagged


@needs_browser
def test_it_asks_for_the_token_and_says_what_is_wrong(page: Any) -> None:
    page.get_by_text("The server asks for its token.").wait_for()
    page.get_by_label("Token").fill("another-token-of-many-letters")
    page.keyboard.press("Enter")
    page.get_by_text("The server knows no such token.").wait_for()
    enter(page)
    assert not page.locator("#access").is_visible()
    page.set_input_files("#files", [upload("note.png", b"no image", "image/png")])
    page.wait_for_selector("#status.error")
    assert page.inner_text("#status") == "note.png: is not a readable image: it is a text file"


@needs_browser
def test_a_drop_and_the_keyboard_reach_the_same(page: Any, tmp_path: Path) -> None:
    page.on(
        "filechooser", lambda _: None
    )  # playwright catches choosers from the first listener on, and takes a while
    enter(page)
    page.get_by_label("Model").select_option("rows")
    page.evaluate(
        "text => { const data = new DataTransfer(); data.items.add(new File([text], 'today.csv'));"
        " document.getElementById('drop').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true})); }",
        MALIGNANT.iloc[:2].to_csv(index=False),
    )
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#samples > li").count() == 2
    page.focus("#model")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    (tmp_path / "one.csv").write_text(MALIGNANT.iloc[:1].to_csv(index=False), encoding="utf-8")
    with page.expect_file_chooser() as chosen:
        page.keyboard.press("Enter")
    chosen.value.set_files(tmp_path / "one.csv")
    page.locator("#samples > li").nth(1).wait_for(state="detached")
    page.locator("#samples > li").wait_for()


def test_maps_come_with_what_is_explained(models: Mapping[str, Detector], client: Client) -> None:
    found = models["images"].explain(OTHERS[:1])[0]
    sample = client.files(png(OTHERS[0]), query="?explain=all").body["samples"][0]
    assert np.array(sample["map"]) == pytest.approx(found.anomaly_map, abs=1e-5)
    plain = client.files(png(OTHERS[0])).body
    assert plain["samples"][0]["map"] is plain["map_threshold"] is None
