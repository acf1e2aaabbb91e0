"""The service as clients see it."""

import json
import re
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from memae import Detector, MemaeError
from memae.serve import app, create_app
from tests.serve.served import Client, head, png, running, serving
from tests.small_detectors import MALIGNANT, OTHERS, ROWS, fit

SCORE, JSON = "/v1/models/rows/score", "application/json"


def test_rows_score_as_in_the_library_as_json_and_as_csv(client: Client, models: Mapping[str, Detector]) -> None:
    rows = MALIGNANT.iloc[:5]
    wanted = models["rows"].detect(rows)
    reply = client.rows(rows.to_dict("records"), "?explain=all")
    assert reply.status == 200
    assert [one["key"] for one in reply.body["samples"]] == [0, 1, 2, 3, 4]
    assert [one["score"] for one in reply.body["samples"]] == pytest.approx(wanted.scores, rel=1e-6)
    assert [one["p_value"] for one in reply.body["samples"]] == pytest.approx(wanted.p_values)
    assert [one["is_anomaly"] for one in reply.body["samples"]] == wanted.is_anomaly.tolist()
    first = reply.body["samples"][0]
    assert sum(column["error"] for column in first["columns"]) == pytest.approx(first["score"], rel=1e-4)
    csv = client.ask(SCORE, rows.to_csv(index=False).encode(), "text/csv; charset=utf-8")
    assert [one["score"] for one in csv.body["samples"]] == pytest.approx(wanted.scores, rel=1e-6)


def test_images_score_as_in_the_library_under_the_names_of_the_client(
    client: Client, models: Mapping[str, Detector]
) -> None:
    wanted = models["images"].detect(OTHERS[:3])
    reply = client.files(*map(png, OTHERS[:3]))
    assert reply.status == 200
    assert [one["score"] for one in reply.body["samples"]] == pytest.approx(wanted.scores, rel=1e-5)
    assert [one["key"] for one in reply.body["samples"]] == ["../../0.png", "../../1.png", "../../2.png"]


def test_requests_at_once_get_each_their_own_scores_and_one_bad_one_fails_alone(client: Client) -> None:
    rows = MALIGNANT.to_dict("records")
    alone = [one["score"] for one in client.rows(rows[:40]).body["samples"]]
    bodies = [*([row] for row in rows[:40]), [{"colour": 1.0}]]
    with ThreadPoolExecutor(16) as clients:
        *replies, bad = clients.map(client.rows, bodies)
    assert [reply.body["samples"][0]["score"] for reply in replies] == pytest.approx(alone, rel=1e-5)
    assert bad.status == 422
    assert "mean radius" in bad.body["error"]


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "detail"),
    [
        (
            SCORE,
            b"x",
            "text/plain",
            415,
            "send images as multipart/form-data, or rows as application/json or text",
        ),
        (SCORE, b"x", "", 415, "send images as"),  # urllib says that it is a form
        (
            "/v1/models/other/score",
            b"[{}]",
            JSON,
            404,
            "no model of this name is served; GET /v1/models lists them",
        ),
        (SCORE + "?explain=some", b"[{}]", JSON, 422, "explain: Input should be"),
        (SCORE, b"[" + b'{"a": 1},' * 500 + b'{"a": 1}]', JSON, 413, "the body has 501 rows, and at most 500"),
        (SCORE, b"a\n" + b"1\n" * 501, "text/csv", 413, "the body has 502 rows"),
        (SCORE, b"{", JSON, 422, "the body is no JSON"),
        (SCORE, b"[" * 100_000, JSON, 422, "the body is no JSON"),
        (SCORE, b"\xff", JSON, 422, "the body is no JSON"),
        (SCORE, b"[]", JSON, 422, "the body is no list of rows"),
        (SCORE, b"", JSON, 422, "the body is no JSON"),
        (SCORE, b'[{"a": [1]}]', JSON, 422, "column 'a': its values are lists or objects; give numbers or texts"),
        (SCORE, b'[{"a": 1}, {"a": "b"}]', JSON, 422, "column 'a': its values are of several types"),
        (SCORE, b'[{"a": 123456789012345678901234567890}]', JSON, 422, "column 'a'"),
        (SCORE, b"", "text/csv", 422, "the body"),
        ("/v1/models/images/score", b'[{"a": 1}]', JSON, 422, "the body: the model was trained on images"),
        ("/v1/models/images/score", b"x", "multipart/form-data", 400, "Missing boundary in multipart."),
        (
            "/v1/models/images/score",
            b'--edge\r\nContent-Disposition: form-data; name="images"\r\n\r\ntext\r\n--edge--\r\n',
            "multipart/form-data; boundary=edge",
            422,
            "send one or more files, and no other fields",
        ),
    ],
)
def test_a_bad_request_is_refused_with_the_cure(
    client: Client, path: str, body: bytes, kind: str, status: int, detail: str
) -> None:
    reply = client.ask(path, body, kind)
    assert (reply.status, reply.body["error"][: len(detail)]) == (status, detail)
    assert "memae-serve" not in reply.body["error"]  # no path of the server


def test_images_that_are_none_or_too_large_are_refused_before_they_are_decoded(client: Client) -> None:
    assert client.files(png(np.zeros((80, 80), dtype=np.uint8))).status == 413
    small = png(np.zeros((8, 8), dtype=np.uint8))
    assert client.files(*[small] * 9).status == 400
    unreadable = client.files(small, b"no image")
    assert unreadable.status == 422
    assert unreadable.body["error"] == "../../1.png: is not a readable image: it is a text file"
    cut = client.files(small, png(OTHERS[0])[:80])
    assert (cut.status, cut.body["error"][:12]) == (422, "../../1.png:")
    # a header that promises 40,000 x 40,000 px
    huge = small[:16] + (40_000).to_bytes(4, "big") * 2 + small[24:]
    assert "memae-serve" not in json.dumps(client.files(huge).body)


def test_health_and_metrics_tell_how_it_is(client: Client) -> None:
    assert client.ask("/health/live").body == {"ready": True}
    assert client.ask("/health/ready").status == 200
    found = client.ask("/v1/models").body["models"]
    assert [(one["name"], one["kind"]) for one in found] == [("rows", "table"), ("images", "image")]
    assert client.ask("/v1/models/rows").body == found[0]
    assert client.ask("/v1/models/none").status == 404
    before = float(re.search(r'memae_samples_total\{model="rows"\} (\S+)|$', client.ask("/metrics").body)[1] or 0)
    client.rows(MALIGNANT.to_dict("records")[:7])
    metrics = client.ask("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain; version=")
    assert f'memae_samples_total{{model="rows"}} {before + 7}' in metrics.body
    assert client.ask("/openapi.json").body["paths"].keys() >= {"/v1/models/{name}/score", "/health/ready"}


def test_a_model_of_events_or_without_a_threshold_is_refused(models: Mapping[str, Detector]) -> None:
    with pytest.raises(MemaeError, match="threshold"):
        create_app({"rows": fit(ROWS, threshold={"calibration_share": 0.0})})


def test_a_server_about_to_stop_says_that_it_takes_no_work_and_answers_all_the_same(
    models: Mapping[str, Detector],
) -> None:
    rows = MALIGNANT.to_dict("records")[:1]
    application = create_app(models)
    with running(application) as url:
        client = Client(url)
        assert client.ask("/health/ready").status == 200
        application.state.service.leaving = True
        assert client.ask("/health/ready").status == 503
        assert client.ask("/health/live").status == client.rows(rows).status == 200


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux cuts off who reads nothing")
def test_a_client_that_reads_no_answer_is_cut_off_and_holds_up_no_stop(
    models: Mapping[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STALLED_S", 1)
    body = json.dumps(MALIGNANT.to_dict("records") * 50).encode()  # whose answer no buffer of a socket holds
    with serving(models) as client, socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", client.port))
        stalled.sendall(
            head(f"{SCORE}?explain=all", f"Content-Type: {JSON}", f"Content-Length: {len(body)}") + body
        )
        assert stalled.recv(100).startswith(b"HTTP/1.1 200")
        begun = time.monotonic()
    assert time.monotonic() - begun < 15
