"""The gate before a real server."""

import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memae import Detector
from memae.errors import ConfigError
from memae.web import Limits, read_token
from tests.serve.served import TOKEN, Client, head, serving
from tests.small_detectors import MALIGNANT, ROWS, fit

SCORE, JSON = "/v1/models/rows/score", "application/json"
ROW = MALIGNANT.to_dict("records")[:1]


@pytest.fixture(scope="module")
def models() -> Mapping[str, Detector]:
    return {"rows": fit(ROWS)}


@pytest.fixture(scope="module")
def gated(models: Mapping[str, Detector]) -> Iterator[Client]:
    limits = Limits(body_bytes=1000, waiting=2, waiting_bytes=1200, body_s=0.3, queue_s=0.3)
    with serving(models, limits, TOKEN) as client:
        yield client


def status(answer: str) -> int:
    return int(answer.split(" ", 2)[1])


def test_only_those_with_the_token_get_in_and_health_is_free(gated: Client) -> None:
    assert gated.rows(ROW).status == 200
    stranger = Client(gated.url)
    for path in (SCORE, "/metrics", "/v1/models", "/openapi.json", "/nowhere"):
        assert stranger.ask(path).status == 401
        for given in (TOKEN, f"Bearer {TOKEN}x", "Bearer ", "Basic é".encode().decode("latin-1")):
            reply = stranger.ask(path, Authorization=given)
            assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert stranger.ask("/health/live").status == stranger.ask("/health/ready").status == 200


def test_a_body_without_a_length_or_of_too_great_a_one_is_refused_unread(gated: Client) -> None:
    bearer = f"Authorization: Bearer {TOKEN}"
    chunked = gated.raw(head(SCORE, bearer, "Transfer-Encoding: chunked", f"Content-Type: {JSON}"))
    assert status(chunked) == 411
    begun = time.monotonic()
    large = gated.raw(head(SCORE, bearer, "Content-Length: 1001", f"Content-Type: {JSON}"))
    assert (status(large), "at most 1,000 are taken" in large) == (413, True)
    assert time.monotonic() - begun < 0.3  # nobody has waited for the body


def test_a_slow_client_is_told_so_and_makes_room_for_others(gated: Client) -> None:
    slow = head(SCORE, f"Authorization: Bearer {TOKEN}", "Content-Length: 500", f"Content-Type: {JSON}")
    with ThreadPoolExecutor(3) as clients:
        begun = time.monotonic()
        stalled = [clients.submit(gated.raw, slow + b"[") for _ in range(2)]
        time.sleep(0.1)
        full = gated.rows(ROW)
        assert (full.status, full.headers["Retry-After"]) == (503, "1")
        assert "too many requests are under way" in full.body["error"]
        assert gated.ask("/health/live").status == gated.ask("/v1/models").status == 200
        answers = [one.result() for one in stalled]
    assert [status(answer) for answer in answers] == [408, 408]
    assert "the body took longer than 0.3 s" in answers[0]
    assert 0.25 < time.monotonic() - begun < 5
    assert gated.rows(ROW).status == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_makes_room(gated: Client) -> None:
    begun = head(SCORE, f"Authorization: Bearer {TOKEN}", "Content-Length: 500", f"Content-Type: {JSON}")
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", gated.port)) as connection:
            connection.sendall(begun + b"[")
        time.sleep(0.05)
    assert gated.rows(ROW).status == 200


def test_bodies_that_are_too_large_together_wait_outside(gated: Client) -> None:
    slow = head(SCORE, f"Authorization: Bearer {TOKEN}", "Content-Length: 900", f"Content-Type: {JSON}")
    with ThreadPoolExecutor(1) as clients:
        stalled = clients.submit(gated.raw, slow)
        time.sleep(0.1)
        assert gated.ask(SCORE, b" " * 400, JSON).status == 503
        assert gated.ask(SCORE, b" " * 200, JSON).status == 422
        assert status(stalled.result()) == 408


def test_what_waits_too_long_for_the_worker_gets_503(
    models: Mapping[str, Detector], gated: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = models["rows"]
    begun, go_on, detect = threading.Event(), threading.Event(), detector.detect

    def waits(*arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return detect(*arguments, **options)

    monkeypatch.setattr(detector, "detect", waits)
    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(gated.rows, ROW)
        assert begun.wait(30)
        second = clients.submit(gated.rows, ROW)
        time.sleep(0.5)
        go_on.set()
        assert first.result().status == 200
        late = second.result()
    assert (late.status, late.headers["Retry-After"]) == (503, "1")
    assert late.body["error"] == "no time for it within 0.3 s; try again later"


def test_without_a_token_it_answers_under_local_names_only(client_without_token: Client) -> None:
    ask = client_without_token
    for host in ("127.0.0.1", "localhost", "localhost:8000", "[::1]:8000", "[::1]"):
        assert status(ask.raw(head("/v1/models", method="GET", host=host))) == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "[::2]"):
        assert status(ask.raw(head("/v1/models", method="GET", host=host))) == 421
    assert status(ask.raw(head("/health/live", method="GET", host="10.0.0.1"))) == 200


@pytest.fixture(scope="module")
def client_without_token(models: Mapping[str, Detector]) -> Iterator[Client]:
    with serving(models) as client:
        yield client


def test_metrics_count_refusals_too(gated: Client) -> None:
    def refused() -> float:
        return float(re.search(r'memae_answers_total\{status="401"\} (\S+)|$', gated.ask("/metrics").body)[1] or 0)

    before = refused()
    Client(gated.url).ask("/v1/models")
    assert refused() == before + 1


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMAE_TOKEN", raising=False)
    assert read_token(None) is None
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
    monkeypatch.setenv("MEMAE_TOKEN", TOKEN[::-1])
    assert read_token(None) == TOKEN[::-1]
    assert read_token(file) == TOKEN


@pytest.mark.parametrize(
    "text", ["", "short", "fifteen-letters", "with a space in the middle", "grüße" * 5, "a" * 20 + "\x00"]
)
def test_a_token_that_is_none_is_refused_without_being_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file = tmp_path / "token"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="a token has 16 or more printable ASCII characters") as told:
        read_token(file)
    assert not text or text not in str(told.value)


def test_a_token_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no token that can be read"):
        read_token(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff" * 20)
    with pytest.raises(ConfigError, match="holds no token that can be read"):
        read_token(tmp_path / "bytes")
