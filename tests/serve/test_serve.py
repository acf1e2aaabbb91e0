"""The service as clients see it: a real process, started by the command line."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from memae import Detector
from tests.small_detectors import MALIGNANT, ONES, OTHERS, ROWS, fit

TOKEN = "a-token-of-many-letters"


class Reply(NamedTuple):
    status: int
    body: Any
    headers: Any


class Server(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    folder: Path

    def ask(self, path: str, data: bytes | None = None, kind: str = "", token: str | None = TOKEN) -> Reply:
        headers = {"Content-Type": kind} if kind else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as found:
                status, text, got = found.status, found.read(), found.headers
        except urllib.error.HTTPError as error:
            status, text, got = error.code, error.read(), error.headers
        return Reply(status, json.loads(text) if "json" in got["Content-Type"] else text.decode(), got)

    def rows(self, rows: Any, query: str = "") -> Reply:
        return self.ask(f"/v1/models/rows/score{query}", json.dumps(rows).encode(), "application/json")

    def files(self, *files: bytes) -> Reply:
        parts = [
            b'--edge\r\nContent-Disposition: form-data; name="images"; filename="../../%d.png"\r\n\r\n%s\r\n'
            % (number, file)
            for number, file in enumerate(files)
        ]
        kind = "multipart/form-data; boundary=edge"
        return self.ask("/v1/models/images/score", b"".join(parts) + b"--edge--\r\n", kind)


def start(folder: Path) -> Server:
    command = [sys.executable, "-m", "memae", "serve", "rows.model", "images.model", "--port", "0"]
    limits = ["--most-mb", "1", "--most-rows", "500", "--most-px", "5000", "--engine", "torch", "--device", "cpu"]
    environment = {**os.environ, "MEMAE_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *limits], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    said = process.stderr.readline()
    found = re.fullmatch(r"serving rows, images on (http://127\.0\.0\.1:\d+)\n", said)
    assert found, said + process.stderr.read()
    return Server(process, found[1], folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    fit(ROWS).save(folder / "rows.model")
    fit(ONES).save(folder / "images.model")
    server = start(folder)
    yield server
    server.process.kill()
    server.process.communicate()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def test_rows_score_as_in_the_library_as_json_and_as_csv(server: Server) -> None:
    rows = MALIGNANT.iloc[:5]
    wanted = Detector.load(server.folder / "rows.model", device="cpu", engine="torch").detect(rows)
    reply = server.rows(rows.to_dict("records"), "?explain=all")
    assert reply.status == 200
    assert [one["key"] for one in reply.body["samples"]] == [0, 1, 2, 3, 4]
    assert [one["score"] for one in reply.body["samples"]] == pytest.approx(wanted.scores, rel=1e-6)
    assert [one["p_value"] for one in reply.body["samples"]] == pytest.approx(wanted.p_values)
    assert [one["is_anomaly"] for one in reply.body["samples"]] == wanted.is_anomaly.tolist()
    first = reply.body["samples"][0]
    assert sum(column["error"] for column in first["columns"]) == pytest.approx(first["score"], rel=1e-4)
    csv = server.ask("/v1/models/rows/score", rows.to_csv(index=False).encode(), "text/csv")
    assert [one["score"] for one in csv.body["samples"]] == pytest.approx(wanted.scores, rel=1e-6)


def test_images_score_as_in_the_library_under_the_names_of_the_client(server: Server) -> None:
    wanted = Detector.load(server.folder / "images.model", device="cpu", engine="torch").detect(OTHERS[:3])
    reply = server.files(*map(png, OTHERS[:3]))
    assert reply.status == 200
    assert [one["score"] for one in reply.body["samples"]] == pytest.approx(wanted.scores, rel=1e-5)
    assert [one["key"] for one in reply.body["samples"]] == ["../../0.png", "../../1.png", "../../2.png"]


def test_requests_at_once_get_each_their_own_scores_and_one_bad_one_fails_alone(server: Server) -> None:
    rows = MALIGNANT.to_dict("records")
    alone = [one["score"] for one in server.rows(rows[:40]).body["samples"]]
    bodies = [*([row] for row in rows[:40]), [{"colour": 1.0}]]
    with ThreadPoolExecutor(16) as clients:
        *replies, bad = clients.map(server.rows, bodies)
    assert [reply.body["samples"][0]["score"] for reply in replies] == pytest.approx(alone, rel=1e-5)
    assert bad.status == 422
    assert "mean radius" in bad.body["detail"]


def test_bad_requests_are_refused_by_name_and_no_path_of_the_server_is_told(server: Server) -> None:
    path, kind = "/v1/models/rows/score", "application/json"
    assert server.ask(path, b"x", "text/plain").status == 415
    assert server.ask("/v1/models/other/score", b"[{}]", kind).status == 404
    assert server.ask(path, b"[{}]", kind, token=None).status == 401
    assert server.ask(path, b"[{}]", kind, token=TOKEN + "x").headers["WWW-Authenticate"] == "Bearer"
    assert server.ask(path, b" " * (1 << 20) + b" ", kind).status == 413
    assert server.rows([{"a": 1}] * 501).status == 413
    assert server.files(png(np.zeros((80, 80), dtype=np.uint8))).status == 413
    for body in (b"{", b"[]", b"[" * 100_000, b'[{"a": [1]}]', b'[{"a": 1}, {"a": "b"}]'):
        assert server.ask(path, body, kind).status == 422
    unreadable = server.files(b"no image")
    assert (unreadable.status, unreadable.body["detail"][:12]) == (422, "../../0.png:")
    wrong = server.ask("/v1/models/images/score", b'[{"a": 1}]', kind)
    assert wrong.status == 422
    assert "trained on images" in wrong.body["detail"]
    assert "memae-serve" not in json.dumps([unreadable.body, wrong.body])


def test_health_needs_no_token_and_metrics_count(server: Server) -> None:
    assert server.ask("/health/live", token=None).body == {"ready": True}
    assert server.ask("/health/ready", token=None).status == 200
    assert server.ask("/metrics", token=None).status == 401
    before = float(re.search(r'memae_samples_total\{model="rows"\} (\S+)|$', server.ask("/metrics").body)[1] or 0)
    server.rows(MALIGNANT.to_dict("records")[:7])
    assert f'memae_samples_total{{model="rows"}} {before + 7}' in server.ask("/metrics").body
    assert "/v1/models/{name}/score" in server.ask("/openapi.json").body["paths"]


def test_sigterm_answers_what_was_accepted(server: Server) -> None:
    other = start(server.folder)
    rows = MALIGNANT.to_dict("records") * 2
    other.rows(rows[:1])
    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(other.rows, rows, "?explain=all") for _ in range(8)]
        while 'memae_answers_total{status="200"} 1.0' in other.ask("/metrics").body:
            pass
        other.process.send_signal(signal.SIGTERM)
        assert {one.result().status for one in asked} == {200}
    _, said = other.process.communicate(timeout=30)
    assert other.process.returncode == 0
    assert TOKEN not in said
