"""The report in a real browser: sorting, filtering, zoom, keyboard, and that no name runs as a script."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memae.report.page import scan, write_report
from tests.browser import needs_browser
from tests.report.small_report import TABLE_ROWS, image_detector, table_detector
from tests.small_detectors import OTHERS

pytestmark = needs_browser


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind, detector, x in (("table", table_detector(), TABLE_ROWS), ("image", image_detector(), OTHERS[:30])):
        made[kind] = tmp_path_factory.mktemp("report") / f"{kind}.html"
        source = detector.open(x)
        write_report(scan(detector, source, most=15), detector, source, made[kind])
    return made


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1200, "height": 800})
    wrong: list[str] = []

    def refuse(dialog: Any) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", refuse)
    opened.on("request", lambda asked: wrong.extend([asked.url] * (not asked.url.startswith(("file:", "data:")))))
    yield opened
    opened.close()
    assert not wrong


def scores(page: Any) -> list[float]:
    return page.eval_on_selector_all(  # type: ignore[no-any-return]
        "#ranked > tbody > tr:not([hidden])", "rows => rows.map(row => Number(row.cells[2].dataset.value))"
    )


def test_the_list_is_sorted_by_a_click_and_by_the_keyboard(page: Any, reports: dict[str, Path]) -> None:
    page.goto(reports["table"].as_uri())
    first = scores(page)
    assert first == sorted(first, reverse=True)
    page.locator("#ranked").get_by_role("button", name="score", exact=True).click()
    assert scores(page) == sorted(first)
    assert page.get_attribute("#ranked > thead th:nth-child(3)", "aria-sort") == "ascending"
    page.keyboard.press("Enter")  # the button has the focus
    assert scores(page) == first
    assert page.get_attribute("#ranked > thead th:nth-child(3)", "aria-sort") == "descending"


def test_the_filter_leaves_what_contains_its_text_and_says_how_many(page: Any, reports: dict[str, Path]) -> None:
    page.goto(reports["table"].as_uri())
    key = page.inner_text("#ranked > tbody > tr:nth-child(2) > td:nth-child(2)")
    page.get_by_label("Filter").fill(key)
    shown = page.inner_text("#matches")
    assert shown == f"{len(scores(page))} of 15 shown"
    assert 1 <= len(scores(page)) < 15
    page.get_by_label("Filter").fill("no sample has this text")
    assert page.inner_text("#matches") == "0 of 15 shown"


def test_a_picture_grows_by_the_keyboard_and_escape_gives_the_focus_back(
    page: Any, reports: dict[str, Path]
) -> None:
    page.goto(reports["image"].as_uri())
    page.locator(".why button.zoom").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] img").bounding_box()["width"] > 300
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.className") == "zoom"


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["table", "image"])
def test_the_page_fits_and_is_readable(
    page: Any, reports: dict[str, Path], kind: str, scheme: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto(reports[kind].as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground, ink = (_light(page, name) for name in ("backgroundColor", "color"))
    assert (ground > ink) == (scheme == "light")
    page.get_by_role("button", name="Dark or light").click()
    assert (_light(page, "backgroundColor") > _light(page, "color")) == (scheme == "dark")


def test_a_screen_reader_finds_a_name_for_every_picture_chart_and_button(
    page: Any, reports: dict[str, Path]
) -> None:
    for report in reports.values():
        page.goto(report.as_uri())
        nameless = page.eval_on_selector_all(
            "img:not([alt]), svg:not([aria-label]), button:not([aria-label])",
            "found => found.filter(one => one.tagName != 'BUTTON' || !one.textContent.trim()).length",
        )
        assert nameless == 0
        assert page.get_by_role("img").count() > 3
        assert page.locator("h2").first.inner_text() == "Scores"


def _light(page: Any, name: str) -> int:
    colour = page.evaluate(f"getComputedStyle(document.body).{name}")
    return sum(map(int, colour[colour.index("(") + 1 : -1].split(",")[:3]))
