"""The Open Inference Protocol, version 2, over HTTP: what clients of Triton, KServe and MLServer speak.

The inputs of a model are the tensors of `Modality.tensors`; its outputs are `score`, `p_value` and `is_anomaly`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from memae.detector import Detector
from memae.errors import DataError
from memae.serve.answers import problems
from memae.serve.bodies import Body
from memae.serve.service import Service
from memae.serve.tensors import Tensor, TensorFacts, array_of, as_binary, datatype_of, tensor_of
from memae.types import Verdicts
from memae.web import Limits, RefusedError

__all__ = ["inference_health_routes", "inference_routes"]

JSON, BINARY = "application/json", "application/octet-stream"
HEADER = "Inference-Header-Content-Length"
OUTPUTS: Mapping[str, Any] = {"score": np.float64, "p_value": np.float64, "is_anomaly": np.bool_}


class Live(BaseModel):
    """Whether the server is alive and takes requests."""

    live: bool


class ModelReady(BaseModel):
    """Whether a model takes requests."""

    name: str
    ready: bool


class ServerFacts(BaseModel):
    """The server and what it knows beyond the protocol."""

    name: str
    version: str
    extensions: list[str]


class ModelTensors(BaseModel):
    """What a model takes and gives."""

    name: str
    platform: str
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]


class RequestedOutput(BaseModel):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferenceRequest(BaseModel):
    """Samples as tensors."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[RequestedOutput] | None = None


class InferenceResponse(BaseModel):
    """The decisions as tensors, and the threshold as a parameter."""

    model_name: str
    id: str | None = None
    parameters: dict[str, Any]
    outputs: list[Tensor]


class _Asked(NamedTuple):
    """A request, read."""

    head: InferenceRequest
    body: Body


def inference_health_routes(service: Service) -> APIRouter:
    """Whether the server is alive and takes work; these need no token."""
    routes = APIRouter(prefix="/v2/health", tags=["Open Inference Protocol"])

    @routes.get("/live", responses={503: {"model": Live, "description": "It cannot score."}})
    async def server_live(response: Response) -> Live:
        """Whether the process can score; the status is 503 where not."""
        response.status_code = 200 if service.batcher.alive else 503
        return Live(live=service.batcher.alive)

    @routes.get("/ready", responses={503: {"model": Live, "description": "It takes no work."}})
    async def server_ready(response: Response) -> Live:
        """Whether it takes work; the status is 503 where not."""
        response.status_code = 200 if service.ready else 503
        return Live(live=service.ready)

    return routes


def inference_routes(service: Service) -> APIRouter:
    """The server, its models, and inference."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    schema = InferenceRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    service.schemas.update({**definitions, "InferenceRequest": schema})
    asked = {
        "parameters": [
            {"name": HEADER, "in": "header", "schema": {"type": "integer", "minimum": 0},
             "description": "Bytes of the JSON, where binary data follows."},
        ],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": {"$ref": "#/components/schemas/InferenceRequest"}},
                BINARY: {"schema": {"type": "string", "contentMediaType": BINARY}},
            },
        },
    }  # fmt: skip

    @routes.get("")
    async def server_facts() -> ServerFacts:
        """The server."""
        return ServerFacts(name="memae", version=version("memae"), extensions=["binary_tensor_data"])

    @routes.get("/models/{name}", responses=problems(404))
    async def model_tensors(name: str) -> ModelTensors:
        """What a model takes and gives."""
        return _tensors(name, service.model(name))

    @routes.get("/models/{name}/ready", responses=problems(404))
    async def model_ready(name: str) -> ModelReady:
        """Whether a model takes requests."""
        service.model(name)
        return ModelReady(name=name, ready=service.ready)

    @routes.post(
        "/models/{name}/infer",
        openapi_extra=asked,
        response_model=InferenceResponse,
        responses={
            200: {"content": {BINARY: {"schema": {"type": "string", "contentMediaType": BINARY}}}},
            **problems(400, 404, 408, 411, 413, 415, 422, 500, 503),
        },
    )
    async def infer(name: str, request: Request) -> Response:
        """Scores of samples that come as tensors, in JSON or as binary data behind it."""
        detector = service.model(name)
        kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if kind not in (JSON, BINARY) or "content-encoding" in request.headers:
            raise RefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {JSON}, or {BINARY} with {HEADER}, as it is"
            )
        sent, length = await request.body(), request.headers.get(HEADER)
        found = await service.read(len(sent), _read, detector, sent, length, service.limits)
        verdicts = await service.detect(name, found.body, "none")
        return _response(name, found.head, verdicts)

    return routes


def _tensors(name: str, detector: Detector) -> ModelTensors:
    inputs = [
        TensorFacts(name=one.name, datatype=datatype_of(one.dtype), shape=[-1, *one.shape])
        for one in detector.modality.tensors(detector.artifact)
    ]
    outputs = [TensorFacts(name=one, datatype=datatype_of(dtype), shape=[-1]) for one, dtype in OUTPUTS.items()]
    return ModelTensors(name=name, platform="memae", inputs=inputs, outputs=outputs)


def _read(detector: Detector, sent: bytes, length: str | None, limits: Limits) -> _Asked:
    head, binary = _divided(sent, length)
    arrays: dict[str, np.ndarray] = {}
    for tensor in head.inputs:
        size = (tensor.parameters or {}).get("binary_data_size")
        part = None
        if size is not None:
            if not isinstance(size, int) or not 0 <= size <= len(binary):
                raise _bad(f"binary_data_size {size!r}: there are {len(binary):,} bytes left")
            part, binary = binary[:size], binary[size:]
        try:
            arrays[tensor.name] = array_of(tensor, part)
        except DataError as error:
            raise _bad(str(error)) from None
    if len(binary):
        raise _bad(f"{len(binary):,} bytes of binary data belong to no tensor; give each its binary_data_size")
    count = _count(arrays, limits)
    try:
        x = detector.modality.from_tensors(detector.artifact, arrays)
    except DataError as error:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    return _Asked(head, Body(x, count))


def _divided(sent: bytes, length: str | None) -> tuple[InferenceRequest, memoryview]:
    """The JSON and the binary data behind it."""
    if length is not None and not (length.isdecimal() and length.isascii() and int(length) <= len(sent)):
        raise _bad(f"{HEADER}: give the bytes of the JSON, at most the {len(sent):,} of the body")
    end = len(sent) if length is None else int(length)
    try:
        head = InferenceRequest.model_validate_json(sent[:end])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _bad(f"{where}: {first['msg']}" if where else first["msg"]) from None
    names = [one.name for one in head.inputs]
    if len(set(names)) < len(names):
        raise _bad("two inputs have the same name")
    for output in head.outputs or ():
        if output.name not in OUTPUTS:
            raise _bad(f"no output {output.name!r}; there are {', '.join(OUTPUTS)}")
    return head, memoryview(sent)[end:]


def _count(arrays: Mapping[str, np.ndarray], limits: Limits) -> int:
    """The number of samples, which all tensors have."""
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(counts) > 1 or 0 in counts:
        raise _bad(
            f"the first axis of each input is the number of samples, 1 or more; here it is {sorted(counts)}"
        )
    (count,) = counts
    if count > limits.rows:
        detail = f"there are {count:,} samples, and at most {limits.rows:,} are taken; send fewer at once"
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    return count


def _bad(error: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, error)


def _response(name: str, asked: InferenceRequest, verdicts: Verdicts) -> Response:
    values = {"score": verdicts.scores, "p_value": verdicts.p_values, "is_anomaly": verdicts.is_anomaly}
    all_binary = (asked.parameters or {}).get("binary_data_output") is True
    binary = {
        one.name: bool((one.parameters or {}).get("binary_data", all_binary))
        for one in asked.outputs or [RequestedOutput(name=name) for name in OUTPUTS]
    }
    head = {
        "model_name": name,
        **({} if asked.id is None else {"id": asked.id}),
        "parameters": {"threshold": verdicts.threshold},
        "outputs": [tensor_of(one, values[one], binary=binary[one]) for one in binary],
    }
    text = json.dumps(head, allow_nan=False).encode()
    if not any(binary.values()):
        return Response(text, media_type=JSON)
    parts = [as_binary(values[one]) for one in binary if binary[one]]
    return Response(b"".join([text, *parts]), media_type=BINARY, headers={HEADER: str(len(text))})
