"""The Open Inference Protocol, by the client of Triton and by plain HTTP."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memae import Detector
from memae.web import Limits
from tests.serve.served import TOKEN, Client, serving
from tests.small_detectors import MALIGNANT, OTHERS, ROWS, fit

INFER, JSON, BINARY = "/v2/models/rows/infer", "application/json", "application/octet-stream"
HEADER = "Inference-Header-Content-Length"


def tensors(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": rows[name].tolist()}
        for name in rows.columns
    ]


def test_the_client_of_triton_asks_for_the_server_and_its_models(client: Client) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    with http.InferenceServerClient(f"127.0.0.1:{client.port}") as triton:
        assert triton.is_server_live()
        assert triton.is_server_ready()
        assert triton.is_model_ready("rows")
        assert not triton.is_model_ready("other")
        assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        found = triton.get_model_metadata("rows")
        assert [one["name"] for one in found["inputs"]] == list(ROWS.columns)
        assert {(one["datatype"], *one["shape"]) for one in found["inputs"]} == {("FP64", -1)}
        assert [(one["name"], one["datatype"]) for one in found["outputs"]] == [
            ("score", "FP64"),
            ("p_value", "FP64"),
            ("is_anomaly", "BOOL"),
        ]
        (pixels,) = triton.get_model_metadata("images")["inputs"]
        assert pixels["shape"] == [-1, 1, 8, 8]
        with pytest.raises(http.InferenceServerException, match="no model of this name is served"):
            triton.get_model_metadata("other")


@pytest.mark.parametrize("binary", [True, False])
def test_the_client_of_triton_gets_the_scores_of_the_library(
    client: Client, models: Mapping[str, Detector], binary: bool
) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    rows, images = MALIGNANT.iloc[:9], OTHERS[:4, None]
    inputs = []
    for place, name in enumerate(rows.columns):
        values = rows[name].to_numpy(np.float64 if place % 2 else np.float32)
        inputs.append(http.InferInput(name, [9, 1] if place == 1 else [9], "FP64" if place % 2 else "FP32"))
        inputs[-1].set_data_from_numpy(values.reshape(inputs[-1].shape()), binary_data=binary)
    outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in ("is_anomaly", "score")]
    with http.InferenceServerClient(f"127.0.0.1:{client.port}") as triton:
        found = triton.infer("rows", inputs, outputs=outputs, request_id="42")
        pixels = http.InferInput("image", list(images.shape), "UINT8")
        pixels.set_data_from_numpy(images, binary_data=binary)
        of_images = triton.infer("images", [pixels])
    wanted = models["rows"].detect(rows)
    assert found.as_numpy("score") == pytest.approx(wanted.scores, rel=1e-5)  # half of the columns came as float32
    assert found.as_numpy("is_anomaly").tolist() == wanted.is_anomaly.tolist()
    assert found.as_numpy("p_value") is None
    assert found.get_response()["id"] == "42"
    assert found.get_response()["parameters"] == {"threshold": wanted.threshold}
    wanted = models["images"].detect(OTHERS[:4])
    assert of_images.as_numpy("score") == pytest.approx(wanted.scores, rel=1e-6)
    assert of_images.as_numpy("p_value") == pytest.approx(wanted.p_values)
    assert of_images.as_numpy("is_anomaly").tolist() == wanted.is_anomaly.tolist()


def test_texts_truth_values_and_missing_numbers_score_as_in_the_library() -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    frame = ROWS.iloc[:, :2].assign(
        colour=["red", "grün"] * (len(ROWS) // 2) + ["red"], on=np.arange(len(ROWS)) % 3 == 0
    )
    frame.loc[frame.index[::7], "mean radius"] = np.nan
    detector = fit(frame)
    part = frame.iloc[:6].assign(colour=["red", "grün", "blue", "", "red", "grün"])
    datatypes = {"colour": "BYTES", "on": "BOOL"}
    with serving({"rows": detector}, token=TOKEN) as client:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        with http.InferenceServerClient(f"127.0.0.1:{client.port}") as triton:
            assert triton.is_server_ready()
            with pytest.raises(http.InferenceServerException, match="Authorization: Bearer TOKEN"):
                triton.get_server_metadata()
            inputs = []
            for name in frame.columns:
                datatype = datatypes.get(name, "FP64")
                inputs.append(http.InferInput(name, [6], datatype))
                values = part[name].to_numpy(object if datatype == "BYTES" else None)
                inputs[-1].set_data_from_numpy(values, binary_data=True)
            found = triton.infer("rows", inputs, headers=bearer)
        plain = []
        for name in frame.columns:
            values = json.loads(part[name].to_json(orient="values"))
            plain.append({"name": name, "shape": [6], "datatype": datatypes.get(name, "FP64"), "data": values})
        as_json = client.ask(INFER, json.dumps({"inputs": plain}).encode(), JSON)
    wanted = detector.detect(part).scores
    assert found.as_numpy("score") == pytest.approx(wanted, rel=1e-6)
    assert as_json.body["outputs"][0]["data"] == pytest.approx(wanted, rel=1e-6)


def test_requests_at_once_get_each_their_own_scores(client: Client, models: Mapping[str, Detector]) -> None:
    bodies = [json.dumps({"inputs": tensors(MALIGNANT.iloc[at : at + 2])}).encode() for at in range(20)]
    with ThreadPoolExecutor(10) as clients:
        replies = list(clients.map(lambda body: client.ask(INFER, body, JSON), bodies))
    wanted = models["rows"].detect(MALIGNANT.iloc[:21]).scores
    for at, reply in enumerate(replies):
        assert reply.body["outputs"][0]["data"] == pytest.approx(wanted[at : at + 2], rel=1e-5)


def changed(**changes: Any) -> bytes:
    """A good request but for one tensor."""
    first, *others = tensors(MALIGNANT.iloc[:2])
    return json.dumps({"inputs": [{**first, **changes}, *others]}).encode()


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{", 400, "Invalid JSON"),
        (b"{}", 400, "inputs: Field required"),
        (b'{"inputs": []}', 400, "inputs: List should have at least 1 item"),
        (changed(datatype="FP128"), 400, "inputs.0.datatype: Input should be"),
        (changed(data=None), 400, "tensor 'mean radius': it has no data"),
        (changed(data=[1.0]), 400, "tensor 'mean radius': the shape [2] is of 2 values, and there are 1"),
        (changed(data=["a", "b"]), 400, "tensor 'mean radius': its data is not FP64 (such as 'a')"),
        (changed(data=[True, False]), 400, "tensor 'mean radius': its data is not FP64"),
        (
            changed(datatype="INT8", data=[1, 1000]),
            400,
            "tensor 'mean radius': its data is not INT8 (such as 1000)",
        ),
        (
            changed(datatype="INT64", data=[1, 1.5]),
            400,
            "tensor 'mean radius': its data is not INT64 (such as 1.5)",
        ),
        (changed(datatype="BYTES", data=["a", "b"]), 422, "the body: column 'mean radius' holds"),
        (changed(shape=[-2]), 400, "tensor 'mean radius': the shape [-2] has a negative size"),
        (changed(shape=[1], data=[1.0]), 400, "the first axis of each input is the number of samples"),
        (changed(shape=[], data=[1.0]), 400, "the first axis"),
        (changed(shape=[0], data=[]), 400, "the first axis"),
        (changed(shape=[1] * 9), 400, "inputs.0.shape: List should have at most 8 items"),
        (changed(shape=[2, 2], data=[1, 2, 3, 4]), 422, "column 'mean radius' has the shape [2, 2]"),
        (changed(name="colour"), 422, "no column 'colour'; the model has 'mean radius', "),
        (changed(name="mean area"), 400, "two inputs have the same name"),
        (changed(parameters={"binary_data_size": 3}), 400, "binary_data_size 3: there are 0 bytes left"),
        (
            json.dumps({"inputs": tensors(MALIGNANT.iloc[:2])[1:]}).encode(),
            422,
            "the body: no column 'mean radius'",
        ),
        (json.dumps({"inputs": tensors(ROWS.iloc[[0] * 501])}).encode(), 413, "there are 501 samples"),
        (
            json.dumps({"inputs": tensors(ROWS.iloc[:1]), "outputs": [{"name": "map"}]}).encode(),
            400,
            "no output 'map'; there are score, p_value, is_anomaly",
        ),
    ],
)
def test_a_bad_request_is_refused_by_name(client: Client, body: bytes, status: int, error: str) -> None:
    reply = client.ask(INFER, body, JSON)
    assert (reply.status, reply.body["error"][: len(error)]) == (status, error)


def test_binary_data_that_does_not_add_up_is_refused(client: Client) -> None:
    first, *others = tensors(MALIGNANT.iloc[:2])
    del first["data"]
    first["parameters"] = {"binary_data_size": 16}
    head = json.dumps({"inputs": [first, *others]}).encode()
    values = MALIGNANT["mean radius"].to_numpy()[:2].tobytes()
    size = {HEADER: str(len(head))}
    assert client.ask(INFER, head + values, BINARY, **size).status == 200
    for body, headers, error in (
        (head + values[:8], size, "binary_data_size 16: there are 8 bytes left"),
        (head + values + b"x", size, "1 bytes of binary data belong to no tensor"),
        (head + values, {HEADER: "x"}, f"{HEADER}: give the bytes of the JSON"),
        (head + values, {HEADER: str(len(head) + 17)}, f"{HEADER}: give the bytes of the JSON"),
        (head + values, {HEADER: "3"}, "Invalid JSON"),
    ):
        reply = client.ask(INFER, body, BINARY, **headers)
        assert (reply.status, reply.body["error"][: len(error)]) == (400, error)
    first["datatype"], first["parameters"] = "BYTES", {"binary_data_size": 6}
    head = json.dumps({"inputs": [first, *others]}).encode()
    reply = client.ask(INFER, head + b"\x09\x00\x00\x00ab", BINARY, **{HEADER: str(len(head))})
    assert (reply.status, "a text is longer than what was sent" in reply.body["error"]) == (400, True)
    assert client.ask(INFER, head, JSON, Content_Encoding="gzip").status == 415
    assert client.ask(INFER, head, "text/plain").status == 415


def test_images_of_another_shape_are_refused(client: Client) -> None:
    def ask(**tensor: Any) -> Any:
        return client.ask("/v2/models/images/infer", json.dumps({"inputs": [tensor]}).encode(), JSON)

    assert ask(name="pixels", shape=[1, 8, 8], datatype="UINT8", data=[0] * 64).status == 422
    assert ask(name="image", shape=[64], datatype="UINT8", data=[0] * 64).status == 422
    assert ask(name="image", shape=[1, 8, 8], datatype="BYTES", data=[""] * 64).status == 422
    assert ask(name="image", shape=[1, 8, 8], datatype="UINT8", data=[0] * 64).status == 200


def test_a_server_about_to_stop_is_not_ready(models: Mapping[str, Detector]) -> None:
    with serving(models, Limits()) as client:
        assert client.ask("/v2/health/ready").body == {"live": True}
