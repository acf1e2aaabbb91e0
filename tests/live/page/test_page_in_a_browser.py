"""The page in a real browser: cameras, the chart, zones by mouse, changes by keyboard, at two widths."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memae.live.message import ScoreMessage, StatusMessage
from tests.browser import needs_browser
from tests.live.page.small_watch import Served, served
from tests.live.sinks.small_messages import event, wait_for

pytestmark = needs_browser


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


WIDTHS = [
    pytest.param((1300, "light"), id="wide"),
    pytest.param((390, "dark"), id="phone", marks=pytest.mark.slow),
]


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Any, watch: Served) -> Iterator[Any]:
    width, scheme = request.param
    opened = browser.new_page(viewport={"width": width, "height": 850}, color_scheme=scheme)
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    own = (watch.url, "data:", f"blob:{watch.url}")
    opened.on("request", lambda asked: wrong.extend([asked.url] * (not asked.url.startswith(own))))
    opened.goto(watch.url, wait_until="commit")
    opened.wait_for_selector("#connection:has-text('connected')")
    yield opened
    opened.close()
    assert not [one for one in wrong if "422" not in one]  # the browser tells of each refused change


def test_a_person_sees_chooses_changes_and_marks(page: Any, watch: Served) -> None:
    wait_for(lambda: page.evaluate("document.querySelector('[data-name=yard] img').naturalWidth == 320"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # by keyboard: choose a camera, turn it off, and set its threshold
    page.focus("[data-name='yard']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#chart canvas")
    wait_for(lambda: page.evaluate("document.querySelector('.view img').naturalWidth == 320"))  # of the stream
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.focus("#enabled")
    page.keyboard.press("Space")
    wait_for(lambda: not watch.watch.states["yard"].is_enabled)
    page.fill("#threshold input", "2.5")
    page.keyboard.press("Enter")
    wait_for(lambda: watch.watch.states["yard"].threshold == 2.5)
    # by mouse: a mask
    page.fill("#zone-name", "tree")
    page.click("[data-draw=mask]")
    box = page.locator(".view svg").bounding_box()
    for x, y in ((0.25, 0.25), (0.75, 0.25), (0.5, 0.75)):
        page.locator(".view svg").click(position={"x": box["width"] * x, "y": box["height"] * y})
    page.click("#zone-done")
    wait_for(lambda: len(watch.watch.states["yard"].zones) == 2)
    tree = watch.watch.states["yard"].zones[1]
    assert (tree.name, tree.is_ignored) == ("tree", True)
    corners = [share for point in tree.points for share in point]
    assert corners == pytest.approx([0.25, 0.25, 0.75, 0.25, 0.5, 0.75], abs=0.01)
    page.click("[aria-label='Remove lawn']")
    wait_for(lambda: watch.watch.states["yard"].zones == (tree,))
    # a value that the watch refuses is told
    page.fill("#threshold input", "1000")
    page.press("#threshold input", "Enter")
    page.wait_for_selector("#message:has-text('give 100 or less')")


def test_messages_of_the_watch_are_shown_as_they_come(page: Any, watch: Served) -> None:
    page.wait_for_selector("#found .event:nth-child(3)")
    watch.feed.put(StatusMessage("yard", time.time(), is_up=False))
    page.wait_for_selector("[data-name=yard] .state:has-text('no frames')")
    watch.feed.put(ScoreMessage("front door", time.time(), 1.5, 1.0))
    wait_for(lambda: page.evaluate("document.querySelector('[data-name=\"front door\"] meter').value == 1.5"))
    began = event("new", "0009-n", source="front door")
    watch.sink.send(began)
    watch.feed.put(began)
    page.wait_for_selector("[data-name='front door'].alarm")
    page.wait_for_selector("#found .event.open:has-text('front door')")
    assert page.locator("#found .event").count() == 4
    page.check("#found .event.open .normal")
    wait_for(lambda: watch.history.event("0009-n")["is_normal"])
    page.select_option("[name=source]", "yard")
    page.click("#search button")
    wait_for(lambda: page.evaluate("document.querySelectorAll('#found .event').length == 2"))
    assert page.locator("#found .rebuilt img").count() == 2
