"""The report as a file: what stands in it, and that no name becomes markup. `test_page_in_a_browser` looks at it."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memae import Detector
from memae.report.page import scan, write_report
from memae.report.page.charts import Axis, Line, Mark, histogram, lines
from memae.report.page.markup import Markup, shortened, tag
from tests.report.small_report import NASTY, TABLE_ROWS, image_detector, table_detector
from tests.small_detectors import ONES, OTHERS

ALLOWED = {"script": 1, "style": 1, "title": None}


class Elements(HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for element, attributes in self.found if element == name]


def written(detector: Detector, x: object, out: Path, **options: object) -> str:
    source = detector.open(x)
    write_report(scan(detector, source, **options), detector, source, out)  # type: ignore[arg-type]
    return out.read_text(encoding="utf-8")


def test_names_of_columns_and_categories_never_become_markup(tmp_path: Path) -> None:
    page = Elements(written(table_detector(), TABLE_ROWS, tmp_path / "report.html", most=20))
    assert len(page.named("script")) == 1
    assert not [attributes for attributes in page.named("img") if attributes.get("src") == "x"]
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    assert NASTY in (tmp_path / "report.html").read_text().replace("&lt;", "<").replace("&gt;", ">")


def test_the_file_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    text = written(image_detector(), np.concatenate([ONES[:20], OTHERS[:20]]), tmp_path / "report.html")
    page = Elements(text)
    links = [a[key] for _, a in page.found for key in ("src", "href") if a.get(key)]
    assert links
    assert all(str(link).startswith(("data:image/", "#")) for link in links)
    assert not page.named("link")
    policy = next(a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_each_of_the_shown_images_has_its_picture_reconstruction_and_map(tmp_path: Path) -> None:
    page = Elements(written(image_detector(), OTHERS[:40], tmp_path / "report.html", most=12))
    told = [str(a["alt"]) for a in page.named("img") if "item" not in str(a.get("class"))]
    kinds = [re.sub(r"\d+$", "", text) for text in told]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "sample ": len(kinds) // 3, "reconstruction of ": len(kinds) // 3, "anomaly map over ": len(kinds) // 3
    }  # fmt: skip
    assert 30 <= len(kinds) <= 36


def test_the_highest_scores_come_first_and_others_are_shown_where_few_are_flagged() -> None:
    detector = image_detector()
    found = scan(detector, detector.open(ONES[:100]), most=100)
    assert int(found.flags.sum()) < 10
    assert len(found.shown) == 10
    assert [*found.shown] == np.argsort(-found.scores, kind="stable")[:10].tolist()


@pytest.mark.parametrize("count", [10_000])
def test_the_report_of_ten_thousand_samples_has_at_most_five_megabytes(tmp_path: Path, count: int) -> None:
    random = np.random.default_rng(0)
    x = np.concatenate([OTHERS, random.integers(0, 255, (count - len(OTHERS), 8, 8)).astype(np.uint8)])
    written(image_detector(), x, tmp_path / "report.html", most=2_000)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_details_of_the_lowest_ranks_go_first_where_the_file_would_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memae.report.page.anomalies.LARGEST", 20_000)
    text = written(table_detector(), TABLE_ROWS, tmp_path / "report.html", most=40)
    assert "come without details" in text
    filled = [
        "<table" in part for part in re.findall(r'class="why">(.*?)</td></tr><tr><td data-value|$', text)[:-1]
    ]
    assert filled[0]
    assert filled == sorted(filled, reverse=True)


def test_with_labels_the_report_has_the_curves_and_the_measured_rate(
    tmp_path: Path, memae: Callable[..., object]
) -> None:
    table_detector().save("model")
    labels = np.where(np.arange(len(TABLE_ROWS)) < 100, "ok", "bad")
    pd.DataFrame(TABLE_ROWS).assign(label=labels).to_csv("all.csv", index=False)
    done = memae(
        "report", "model", "all.csv", "--out", "r.html", "--label-column", "label", "--normal", "ok", "-q"
    )
    assert (done.code, done.err) == (0, "")  # type: ignore[attr-defined]
    text = Path("r.html").read_text(encoding="utf-8")
    for part in ("ROC: recall", "Precision over recall", "measured false-alarm rate", "AUROC", "wanted rate"):
        assert part in text
    assert 'class="band main"' in text


def test_without_a_way_to_write_the_report_nothing_is_scored(memae: Callable[..., object]) -> None:
    done = memae("report", "none.model", "x.npy", "--out", "r.pdf")
    assert done.code == 1  # type: ignore[attr-defined]
    assert ".html" in done.err  # type: ignore[attr-defined]


def test_text_is_escaped_and_markup_is_not() -> None:
    made = tag(
        "p", "<b>&", tag("i", "x"), ["a", Markup("<hr>")], None, title='"<', class_="y", hidden=True, id=None
    )
    assert made == '<p title="&quot;&lt;" class="y" hidden>&lt;b&gt;&amp;<i>x</i>a<hr></p>'
    assert tag("p", "a\x1b[0m\udcff") == "<p>a\\x1b[0m\\xff</p>"
    assert len(shortened("x" * 1000)) < 210


def test_a_histogram_counts_every_score_once() -> None:
    scores = np.concatenate([np.geomspace(0.01, 100, 500), [np.nextafter(100, 200)]])
    svg = histogram("t", "a", [("normal", "main", scores)], [Mark("threshold", 3)])
    assert sum(int(count.replace(",", "")) for count in re.findall(r"normal: ([\d,]+) from", svg)) == 501


def test_a_line_breaks_where_a_value_is_missing() -> None:
    values = np.array([1.0, np.nan, 2.0, 3.0])
    svg = lines("t", "a", Axis("x", 0, 3), Axis.of("y", values), [Line("", np.arange(4.0), values)])
    path = re.search(r'class="line main" d="([^"]*)"', svg)
    assert path
    assert path[1].count("M") == 2


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.0, 0.0], [1e-12, 1e12], [-5.0, 5.0], [3.0]])
def test_an_axis_of_any_values_has_ticks_within_it(values: list[float]) -> None:
    axis = Axis.of("score", np.array(values))
    ticks = np.array(axis.ticks())
    assert len(ticks) >= 1
    assert (axis.share(ticks) >= -1e-6).all()
    assert (axis.share(ticks) <= 1 + 1e-6).all()
