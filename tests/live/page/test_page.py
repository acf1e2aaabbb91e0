"""The routes of the page, over real sockets."""

import http.client
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image

from memae.errors import ConfigError
from memae.live.controls import Zone
from memae.live.message import ScoreMessage
from memae.live.page import listen
from tests.live.page.small_watch import Served, served
from tests.live.sinks.small_messages import event

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page")) as made:
        yield made


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(page: Served, method: str, path: str, body: object = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=10)
    sent = body if isinstance(body, str) or body is None else json.dumps(body)
    given = {
        "Content-Type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    connection.request(method, path, sent, given)
    answer = connection.getresponse()
    found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    connection.close()
    return found


def test_cameras_and_their_pictures(page: Served) -> None:
    found = ask(page, "GET", "/api/cameras").json
    assert [one["name"] for one in found] == ["yard", "front door"]
    picture = ask(page, "GET", f"/api/cameras/{quote('front door')}/picture")
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.body)).size == (320, 240)
    assert ask(page, "GET", "/api/cameras/attic/picture").status == 404


def test_the_page_says_that_all_is_of_this_server(page: Served) -> None:
    found = ask(page, "GET", "/")
    assert found.headers["content-security-policy"].startswith("default-src 'self'")
    assert b'data-name="front door"' in found.body
    assert ask(page, "GET", "/static/page.js").status == ask(page, "GET", "/static/uplot/LICENSE").status == 200


def test_threshold_switch_and_zones_reach_the_watch(page: Served) -> None:
    path = f"/api/cameras/{quote('front door')}"
    zone = {"name": "steps", "points": [[0, 0], [0.5, 0], [0.5, 1]], "is_ignored": True}
    found = ask(page, "PATCH", path, {"threshold": 2.5, "is_enabled": False, "zones": [zone]})
    assert (found.status, found.json["threshold"], found.json["is_enabled"]) == (200, 2.5, False)
    state = page.watch.states["front door"]
    assert state.zones == (Zone("steps", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)), True),)
    assert page.watch.states["yard"].threshold == 1.0


@pytest.mark.parametrize(
    "body",
    [
        {"threshold": -1},
        {"threshold": 1e9},
        {"treshold": 1},
        {"zones": [{"name": "z", "points": [[0, 0], [1, 1]]}]},
        {"zones": [{"name": "z", "points": [[0, 0], [1, 1], [2, 1]]}]},
        "no json",
    ],
)
def test_a_change_that_is_not_possible_is_refused_and_changes_nothing(page: Served, body: object) -> None:
    before = page.watch.states["yard"]
    assert ask(page, "PATCH", "/api/cameras/yard", body).status == 422
    assert page.watch.states["yard"] == before


def test_events_are_found_with_their_files_and_without_paths(page: Served, tmp_path: Path) -> None:
    found = ask(page, "GET", "/api/events")
    assert [one["id"] for one in found.json] == ["0002-e", "0001-e", "0000-e"]
    assert str(tmp_path.parent).encode() not in found.body
    one = found.json[0]
    assert (one["still"], one["rebuilt"], one["clip"]) == (True, True, False)
    assert Image.open(io.BytesIO(ask(page, "GET", "/api/events/0002-e/still").body)).size == (320, 240)
    for wrong in ("0002-e/clip", "none/still", "0002-e/source"):
        assert ask(page, "GET", f"/api/events/{wrong}").status == 404
    recent = ask(page, "GET", f"/api/events?source=yard&since={time.time() - 5400}").json
    assert [one["id"] for one in recent] == ["0002-e"]


def test_this_was_normal_is_kept_and_taken_back(page: Served) -> None:
    for is_normal in (True, False):
        assert ask(page, "PUT", "/api/events/0001-e/normal", {"is_normal": is_normal}).status == 200
        assert page.history.event("0001-e")["is_normal"] is is_normal
    assert ask(page, "PUT", "/api/events/none/normal", {"is_normal": True}).status == 404


def test_scores_of_the_last_hours(page: Served) -> None:
    found = ask(page, "GET", "/api/cameras/yard/scores?hours=1").json
    assert len(found["at"]) == len(found["score"]) == len(found["threshold"])
    assert 150 < len(found["at"]) < 200
    assert set(found["threshold"]) == {1.0}


def test_no_other_site_may_look_or_send(page: Served) -> None:
    change = {"is_enabled": False}
    assert ask(page, "PATCH", "/api/cameras/yard", change, Origin="http://evil.example").status == 403
    assert ask(page, "GET", "/api/cameras", Host="evil.example").status == 421
    assert page.watch.states["yard"].is_enabled
    assert ask(page, "PATCH", "/api/cameras/yard", {}, Origin=page.url).status == 200


def test_metrics_are_there(page: Served) -> None:
    page.metrics.arrived("yard")
    assert b'memae_frames_total{source="yard"} 1.0' in ask(page, "GET", "/metrics").body


def read_until(page: Served, path: str, wanted: bytes) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = b""
    while wanted not in found:
        page.feed.put(ScoreMessage("yard", 5.0, 0.5, 1.0))
        found += answer.read1(4096)
    answer.close()
    connection.close()
    return found


def test_one_stream_has_scores_and_events(page: Served) -> None:
    assert b'"source": "yard", "at": 5.0' in read_until(page, "/api/stream", b"event: score")


def test_the_chosen_camera_comes_as_one_picture_after_the_other(page: Served) -> None:
    found = read_until(page, "/api/cameras/yard/stream", b"\r\n--frame")
    head, picture = found.split(b"\r\n\r\n", 1)
    assert head.startswith(b"--frame")
    assert Image.open(io.BytesIO(picture)).size == (320, 240)


def test_an_address_that_others_reach_needs_a_token() -> None:
    with pytest.raises(ConfigError, match=r"others can reach 0\.0\.0\.0"):
        listen("0.0.0.0", 0, None)
    listen("0.0.0.0", 0, TOKEN).close()
    with listen("127.0.0.1", 0, None) as taken, pytest.raises(ConfigError, match="take another"):
        listen("127.0.0.1", taken.getsockname()[1], None)


def test_with_a_token_the_login_gives_a_cookie_that_opens_the_page(tmp_path: Path) -> None:
    with served(tmp_path, TOKEN) as page:
        assert ask(page, "GET", "/").headers["location"] == "/login"
        assert ask(page, "GET", "/login").status == 200
        for path in ("/api/cameras", "/metrics", "/static/page.js"):
            assert ask(page, "GET", path).status == 401
        wrong = ask(page, "POST", "/login", "token=wrong")
        assert "set-cookie" not in wrong.headers
        assert b"not the token" in wrong.body
        assert ask(page, "GET", "/", Cookie="memae_token=wrong").status == 303
        right = ask(page, "POST", "/login", f"token={TOKEN}")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert ask(page, "GET", "/", Cookie=cookie.partition(";")[0]).status == 200
        assert ask(page, "GET", "/api/cameras", Cookie=cookie.partition(";")[0]).status == 200
        assert ask(page, "GET", "/metrics", Authorization=f"Bearer {TOKEN}").status == 200


def test_names_and_notes_run_no_script(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        name = '"><script>alert(1)</script>'
        page.watch.states[name] = page.watch.states["yard"]
        page.watch._change(name, name=name)
        page.sink.send(event("end", "0009-x", source=name))
        assert b"<script>alert" not in ask(page, "GET", "/").body
