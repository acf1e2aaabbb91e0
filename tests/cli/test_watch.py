"""memae watch and memae record: real processes, their ends and signals, a full disk, and what they refuse."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from memae.live.watch import Watch
from tests.cli.conftest import Done
from tests.cli.test_full_disk import limited
from tests.live.mjpeg_server import MjpegServer
from tests.live.waiting import until
from tests.small_footage import INTRUDER, scene

TOKEN = "a-token-of-this-test"
CONFIG = """
model = "camera.model"
out = "out"
{}
[[sinks]]
kind = "jsonl"
folder = "out"
"""


class Process:
    """A command under way, and what it has said so far."""

    def __init__(self, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "memae", *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.said += line

    def until(self, words: str) -> None:
        until(lambda: words in self.said or self._process.poll() is not None, 60)
        assert words in self.said, self.said

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        code = self._process.wait(60)
        self._reader.join()
        assert self._process.stdout
        self._process.stdout.close()
        return code

    def kill(self) -> None:
        self._process.kill()
        self.end()


@contextmanager
def process(*words: str) -> Iterator[Process]:
    made = Process(*words)
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    with MjpegServer(scene(5, INTRUDER)[0]) as one:
        yield one


def status(port: int, token: str | None) -> int:
    """What the page answers to someone with this token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/api/cameras", headers={"Authorization": f"Bearer {token}"} if token else {})
    found = connection.getresponse().status
    connection.close()
    return found


def events(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP there")
def test_a_watch_reads_its_config_again_and_ends_with_its_events(
    camera: Path, enter: tuple[str, str], server: MjpegServer
) -> None:
    gate = f'[cameras.gate]\naddress = "{server.url}"\non_threshold = {enter[1]}\n'
    (camera / "watch.toml").write_text(CONFIG.format(gate))
    with process("watch", "--config", "watch.toml", "--engine", "torch", "--device", "cpu") as one:
        one.until("camera gate: up, 72 x 48 px")
        (camera / "watch.toml").write_text(CONFIG.format(gate + "zone = {}\n"))
        one.send(signal.SIGHUP)
        one.until("the config stays as it was: watch.toml: cameras.gate: zone: unknown key; did you mean 'zones'?")
        yard = f'[cameras.yard]\naddress = "{server.url}"\non_threshold = 1e9\n'
        (camera / "watch.toml").write_text(CONFIG.format(gate + yard))
        one.send(signal.SIGHUP)
        one.until("the config has been read again: 2 cameras")
        one.until("camera yard: up")
        one.until(" begins, score ")
        one.send(signal.SIGTERM)
        assert one.end() == 0
    assert one.said.count("camera gate: up, 72 x 48 px") == 1  # it was left alone
    assert "Traceback" not in one.said
    assert "hush" not in one.said
    (log,) = (camera / "out").glob("*.jsonl")
    told = events(log)
    assert {event["source"] for event in told} == {"gate"}
    assert [event["id"] for event in told if event["type"] == "new"] == [
        event["id"] for event in told if event["type"] == "end"
    ]
    assert "hush" not in log.read_text()


def test_a_page_on_this_machine_asks_for_the_token_of_its_file(camera: Path, server: MjpegServer) -> None:
    (camera / "token").write_text(f"{TOKEN}\n")
    place = ("--page", "127.0.0.1:0", "--token-file", "token")
    with process("watch", "camera.model", server.url, "--engine", "torch", "--device", "cpu", *place) as one:
        one.until("the page is on http://127.0.0.1:")
        port = int(re.findall(r"the page is on http://127\.0\.0\.1:(\d+)", one.said)[0])
        assert [status(port, token) for token in (None, "another-token-of-it", TOKEN)] == [401, 401, 200]
        with pytest.raises(OSError, match="refused"):  # no address but 127.0.0.1
            socket.create_connection(("127.0.0.2", port), 5).close()
        one.send(signal.SIGTERM)
        assert one.end() == 0
    assert TOKEN not in one.said


def test_the_first_seconds_set_the_threshold_for_a_wanted_rate(camera: Path, server: MjpegServer) -> None:
    words = ("--calibrate", "1s", "--false-alarms-per-hour", "30", "--engine", "torch", "--device", "cpu")
    with process("watch", "camera.model", server.url, "--out", "seen", *words) as one:
        one.until("camera 127-0-0-1: events begin at score")
        one.send(signal.SIGTERM)
        assert one.end() == 0
    assert "30 false alarms an hour" in one.said


def test_a_recording_has_a_file_for_each_part(folder: Path, server: MjpegServer) -> None:
    with process("record", server.url, "--for", "3s", "--segment", "1s", "--out", "normal") as one:
        assert one.end() == 0
    files = sorted(folder.glob("normal/*.mp4"))
    assert f"{len(files)} files in normal" in one.said
    assert len(files) >= 2


def test_a_recording_that_is_ended_early_is_whole(folder: Path, server: MjpegServer) -> None:
    with process("record", server.url, "--for", "1h", "--out", "normal") as one:
        until(lambda: list(folder.glob("normal/.*")) or list(folder.glob("normal/*")), 60)
        until(lambda: server.sent > 40)
        one.send(signal.SIGTERM)
        assert one.end() == 0
    assert "1 files in normal" in one.said
    assert "hush" not in one.said
    (path,) = folder.glob("normal/*")
    with av.open(str(path)) as video:
        assert len(list(video.decode(video=0))) > 10


@pytest.mark.slow
def test_a_full_disk_leaves_the_watch_and_its_events(camera: Path, enter: tuple[str, str]) -> None:
    """The log of events still has room; stills and clips do not."""
    done = limited(
        4000, "watch", "camera.model", "clip.mp4", "calm.mp4", "--out", "out", *enter, "--engine", "torch"
    )
    assert done.returncode == 0, done.stderr
    assert "no still of an event" in done.stderr
    assert "a clip could not be written" in done.stderr or "no clip of an event" in done.stderr
    assert "Traceback" not in done.stderr
    (log,) = (camera / "out").glob("*.jsonl")
    told = events(log)
    assert [event["type"] for event in told if event["type"] != "update"] == ["new", "end"]
    assert (told[-1]["clip"], told[-1]["still"]) == (None, None)
    assert list((camera / "out" / "clip").iterdir()) == []


def test_a_recording_on_a_full_disk_is_one_message(folder: Path, server: MjpegServer) -> None:
    done = limited(4000, "record", server.url, "--for", "30s", "--out", "normal")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "normal/127-0-0-1-" in done.stderr
    assert "hush" not in done.stderr
    assert list((folder / "normal").iterdir()) == []


def test_what_cannot_be_watched_is_one_message(
    memae: Callable[..., Done], camera: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "run", lambda self: pytest.fail("it began"))
    table = CONFIG.replace("camera.model", str(models / "table")).format('[cameras.gate]\naddress = "clip.mp4"')
    (camera / "table.toml").write_text(table)
    (camera / "short").write_text("hush")
    (camera / "key.toml").write_text(CONFIG.format('[cameras.gate]\nadress = "clip.mp4"'))
    (camera / "file.toml").write_text(CONFIG.format('[cameras.gate]\naddress = "none.mp4"'))
    (camera / "sink.toml").write_text(
        CONFIG.replace("jsonl", "fax").format('[cameras.gate]\naddress = "clip.mp4"')
    )
    (camera / "playlist.toml").write_text(
        CONFIG.format('[cameras.gate]\naddress = "http://me:hush@a.lan/live.m3u8"')
    )
    for words, message in (
        ((), "give MODEL and SOURCE, or --config"),
        (("camera.model",), "no camera to watch"),
        (("camera.model", "clip.mp4", "--config", "key.toml"), "give MODEL and SOURCE, or --config"),
        (("camera.model", "none.mp4"), "none.mp4: no such file"),
        (("camera.model", "ftp://me:hush@a.lan/x"), "ftp://a.lan: addresses of the scheme ftp:// are not opened"),
        (("camera.model", "clip.mp4", "clip.mp4"), "two cameras are called 'clip'"),
        (("camera.model", "clip.mp4", "--calibrate", "soon"), "soon: give a time such as 90s, 10m or 1h"),
        (("camera.model", "clip.mp4", "--page", "0.0.0.0:0"), "others can reach 0.0.0.0, so give a token"),
        (("camera.model", "clip.mp4", "--page", "here"), "--page here: give HOST:PORT, or a port alone"),
        (("camera.model", "clip.mp4", "--page", "127.0.0.1:65536"), "give HOST:PORT, or a port alone"),
        (("camera.model", "clip.mp4", "--page", "0", "--token-file", "none"), "none: holds no token"),
        (("camera.model", "clip.mp4", "--page", "0", "--token-file", "short"), "short: a token has 16 or more"),
        (("camera.model", "clip.mp4", "--token-file", "short"), "--token-file: is for the page"),
        (("--config", "key.toml", "--on-threshold", "3"), "--on-threshold: stands in the file of --config"),
        (("--config", "key.toml", "--out", "there"), "--out: stands in the file of --config"),
        (("none.model", "clip.mp4"), "none.model"),
        ((models / "table", "clip.mp4"), "cameras are watched by a model of video"),
        (("--config", "none.toml"), "none.toml"),
        (("--config", "table.toml"), "cameras are watched by a model of video"),
        (("--config", "key.toml"), "key.toml: cameras.gate: adress: unknown key; did you mean 'address'?"),
        (("--config", "file.toml"), "none.mp4: no such file"),
        (("--config", "sink.toml"), "kind = 'fax' is unknown"),
        (("--config", "playlist.toml"), "http://a.lan: is a playlist"),
    ):
        done = memae("watch", *words)
        said = " ".join(done.err.split())
        assert (done.code, done.out) == (1, ""), (words, done)
        assert message in said, (words, said)
        assert said.count("Error") <= 1, said
        assert "hush" not in said
