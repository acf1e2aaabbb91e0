"""The routes of the service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile

from memae.detector import Detector
from memae.errors import DataError, MemaeError, OutOfMemoryError
from memae.serve.answers import Answer, ModelFacts, Models, Problem, Ready, answer
from memae.serve.batching import Batcher, Work
from memae.serve.bodies import Body, Upload, csv_body, image_body, json_body
from memae.serve.metrics import Metrics
from memae.types import Verdicts
from memae.web import Gate, Limits, RefusedError

__all__ = ["create_app", "run"]

HEALTH = frozenset({"/health/live", "/health/ready"})
JSON, CSV, FORM = "application/json", "text/csv", "multipart/form-data"
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"type": "array", "minItems": 1, "items": {"type": "object", "minProperties": 1}}},
            CSV: {"schema": {"type": "string"}},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
        },
    }
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase}
    for status in (400, 401, 404, 408, 411, 413, 415, 421, 422, 500, 503)
}


def create_app(models: Mapping[str, Detector], limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """An ASGI application that scores with these models.

    Args:
        models: fitted detectors by the names that stand in the routes.
        limits: the most that it takes.
        token: that clients must send; see `memae.web.Gate`.

    Raises:
        MemaeError: a model that has no threshold, or of samples that are one event in time.
    """
    for name, detector in models.items():
        detector.threshold  # noqa: B018  raises without one
        if detector.modality.has_events:
            raise MemaeError(
                f"{name}: a model of {detector.modality.plural} follows what comes one after another, which separate "
                "requests do not; score files with it"
            )
    limits = limits or Limits()
    metrics = Metrics(lambda: len(batcher))
    batcher = Batcher(limits.queue_s, metrics.passed)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(batcher.close)

    app = FastAPI(
        title="memae",
        description="Scores of anomaly detection.",
        lifespan=lifespan,
        docs_url=None,  # pages that load scripts of another host
        redoc_url=None,
        redirect_slashes=False,
        responses=PROBLEMS,
    )
    gate: Any = Gate
    app.add_middleware(gate, limits=limits, token=token, free=HEALTH, count=metrics.answered)
    app.exception_handler(RefusedError)(_refused)
    app.exception_handler(RequestValidationError)(_invalid)

    def detector_named(name: str) -> Detector:
        if (found := models.get(name)) is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "no model of this name is served; see /v1/models")
        return found

    async def scored(detector: Detector, body: Body, explain: Literal["none", "anomalies", "all"]) -> Verdicts:
        try:
            work = Work(detector, body.x, body.count, explain)
            return await asyncio.wrap_future(batcher.submit(work))
        except MemaeError as error:
            raise RefusedError(_status(error), body.in_words_of_client(str(error))) from None

    @app.get("/health/live")
    async def live() -> Ready:
        """Whether the process answers."""
        return Ready(ready=batcher.alive)

    @app.get("/health/ready")
    async def ready(response: Response) -> Ready:
        """Whether it takes work; the status is 503 where not."""
        response.status_code = 200 if batcher.alive else 503
        return Ready(ready=batcher.alive)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """Counts and times, for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def list_models() -> Models:
        """The models that are served."""
        return Models(models=[_facts(name, detector) for name, detector in models.items()])

    @app.get("/v1/models/{name}")
    async def model_facts(name: str) -> ModelFacts:
        """One model."""
        return _facts(name, detector_named(name))

    @app.post("/v1/models/{name}/score", openapi_extra=BODY)
    async def score(name: str, request: Request, explain: Literal["none", "anomalies", "all"] = "none") -> Answer:
        """Scores, p-values and decisions of images (multipart) or rows (a JSON list of objects, or CSV).

        `explain` says which rows get the errors of their columns.
        """
        detector = detector_named(name)
        with TemporaryDirectory(prefix="memae-serve-") as folder:
            body = await _read(request, Path(folder), limits)
            verdicts = await scored(detector, body, explain)
        metrics.scored(name, verdicts)
        return answer(name, verdicts, body.names)

    return app


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serves until SIGTERM or Ctrl-C; what was accepted before is answered.

    Args:
        app: of `create_app`.
        listener: a socket that listens.
    """
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, proxy_headers=False)
    uvicorn.Server(config).run(sockets=[listener])


async def _read(request: Request, folder: Path, limits: Limits) -> Body:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        return await run_in_threadpool(json_body, await request.body(), limits)
    if kind == CSV:
        return await run_in_threadpool(csv_body, await request.body(), folder, limits)
    if kind != FORM:
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send images as {FORM}, or rows as {JSON} or {CSV}")
    async with request.form(max_files=limits.images, max_fields=limits.images) as form:
        uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not uploads or len(uploads) < len(form.multi_items()):
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "send one or more files, and no other fields")
        return await run_in_threadpool(image_body, cast("list[Upload]", uploads), folder, limits)


def _facts(name: str, detector: Detector) -> ModelFacts:
    return ModelFacts(name=name, kind=detector.modality.name, threshold=detector.threshold.value)


def _status(error: MemaeError) -> HTTPStatus:
    if isinstance(error, DataError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return (
        HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, OutOfMemoryError) else HTTPStatus.INTERNAL_SERVER_ERROR
    )


async def _refused(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"detail": error.detail}, error.status, error.headers)


async def _invalid(_: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:]))
    return JSONResponse({"detail": f"{where}: {first['msg']}"}, HTTPStatus.UNPROCESSABLE_ENTITY)
