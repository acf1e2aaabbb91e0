"""memae serve: a real process, its end, and what it refuses to begin with."""

import http.client
import json
import lzma
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from memae import Detector
from tests.cli.conftest import Done

VIDEO = Path(__file__).parents[1] / "golden" / "video"
TOKEN = "a-token-of-many-letters"


class Process(NamedTuple):
    process: subprocess.Popen[str]
    port: int


@pytest.fixture
def started(model: Callable[..., Path]) -> Iterator[Process]:
    words = ["serve", str(model("table", "rows.model")), "--port", "0", "--engine", "torch", "--device", "cpu"]
    environment = {**os.environ, "MEMAE_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "memae", *words], env=environment, stderr=subprocess.PIPE, text=True
    )
    said = process.stderr.readline()
    found = re.fullmatch(r"serving rows on http://127\.0\.0\.1:(\d+)\n", said)
    if not found:
        process.kill()
        pytest.fail(said + process.stderr.read())
    yield Process(process, int(found[1]))
    process.kill()
    process.communicate()


class Asking(threading.Thread):
    """Sends the same request again and again over one connection, until it is told that the connection closes."""

    def __init__(self, port: int, body: bytes) -> None:
        super().__init__()
        self._port, self._body = port, body
        self.statuses: list[int] = []
        self.last: bytes = b""
        self.error: Exception | None = None

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        try:
            while True:
                connection.request("POST", "/v1/models/rows/score?explain=all", self._body, headers)
                answer = connection.getresponse()
                self.last = answer.read()
                self.statuses.append(answer.status)
                if answer.will_close:
                    return
        except Exception as error:
            self.error = error
        finally:
            connection.close()


def test_sigterm_answers_every_request_that_is_under_way(started: Process, benign: pd.DataFrame) -> None:
    rows = benign.iloc[:200].to_dict("records")
    clients = [Asking(started.port, json.dumps(rows).encode()) for _ in range(8)]
    for one in clients:
        one.start()
    while not all(len(one.statuses) > 1 for one in clients):  # all are in the middle of a later request
        assert all(one.is_alive() for one in clients), [one.error for one in clients]
    started.process.send_signal(signal.SIGTERM)
    for one in clients:
        one.join(60)
    assert [one.error for one in clients] == [None] * 8
    assert {status for one in clients for status in one.statuses} == {200}
    assert len({one.last for one in clients}) == 1
    assert len(json.loads(clients[0].last)["samples"]) == 200
    _, said = started.process.communicate(timeout=60)
    assert (started.process.returncode, said) == (0, "")  # and no word of the token
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", started.port), timeout=5)


def test_what_it_cannot_serve_is_one_message(
    memae: Callable[..., Done], model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.delenv("MEMAE_TOKEN", raising=False)
    one = model("table", "rows.model")
    (folder / "other").mkdir()
    twin = model("table", "other/rows.model")
    odd = model("table", "bad name.model")
    (folder / "short").write_text("short")
    for words, message in (
        ((one, twin), "other/rows.model: rows.model is called rows, too; rename one of them"),
        ((one, "hf://team/rows@v1.0"), "rows.model is called rows, too; rename one of them"),
        ((odd,), "bad name.model: its name stands in addresses; rename it to letters, digits and . _ -"),
        (
            (one, "--host", "0.0.0.0"),
            "--host 0.0.0.0: others can reach it, so give a token by MEMAE_TOKEN or --token",
        ),
        ((one, "--token-file", "short"), "short: a token has 16 or more printable ASCII characters and no space"),
        ((one, "--token-file", "none"), "none: holds no token that can be read"),
        ((one, "--most-rows", 0), "--most-rows 0: give a number above 0"),
        ((one, "--most-wait", "nan"), "--most-wait nan: give a number above 0"),
        (("none.model",), "none.model"),
        ((one, "--port", 70_000), "--port 70000: give a number from 0 to 65535"),
    ):
        done = memae("serve", *words)
        assert (done.code, done.out) == (1, "")
        assert message in " ".join(done.err.split()), done.err


def test_a_busy_port_and_a_missing_extra_are_one_message(
    memae: Callable[..., Done], model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model("table", "rows.model")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = memae("serve", path, "--port", port)
    assert done.code == 1
    assert f"--host 127.0.0.1 --port {port}: Address already in use; take another" in " ".join(done.err.split())
    for name in [name for name in sys.modules if name.startswith("memae.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    done = memae("serve", path)
    assert done.code == 1
    assert "memae serve needs the extra 'serve': run pip install 'memae[serve]'" in " ".join(done.err.split())


def test_a_model_of_video_is_refused(memae: Callable[..., Done], folder: Path) -> None:
    shutil.copy(VIDEO / "config.json", folder)
    (folder / "model.safetensors").write_bytes(lzma.decompress((VIDEO / "model.safetensors.xz").read_bytes()))
    done = memae("serve", folder)
    assert done.code == 1
    assert "a model of videos follows what comes one after another" in " ".join(done.err.split())


def test_a_model_without_a_threshold_is_refused(memae: Callable[..., Done], benign: pd.DataFrame) -> None:
    settings = {"train": {"epochs": 1}, "threshold": {"calibration_share": 0.0}}
    Detector(settings=settings, device="cpu").fit(benign).save("rows.model")
    done = memae("serve", "rows.model")
    assert done.code == 1
    assert "threshold" in done.err
