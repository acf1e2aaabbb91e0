"""The routes of our own: health, metrics, models, and scores of images and rows."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from memae.detector import Detector
from memae.serve.answers import Answer, ModelFacts, Models, Ready, answer, problems
from memae.serve.bodies import Body, Upload, csv_body, image_body, json_body
from memae.serve.service import Service
from memae.types import Explained, Verdicts
from memae.web import RefusedError

__all__ = ["health_routes", "score_routes"]

JSON, CSV, FORM = "application/json", "text/csv", "multipart/form-data"
CELL = {"type": ["number", "string", "boolean", "null"]}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "object", "minProperties": 1, "additionalProperties": CELL},
                }
            },
            CSV: {"schema": {"type": "string"}},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                        }
                    },
                }
            },
        },
    }
}


def health_routes(service: Service) -> APIRouter:
    """Whether the server is alive and takes work; these need no token."""
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.get("/live", responses=problems(503))
    async def live(response: Response) -> Ready:
        """Whether the process can score; the status is 503 where not."""
        response.status_code = 200 if service.batcher.alive else 503
        return Ready(ready=service.batcher.alive)

    @routes.get("/ready", responses=problems(503))
    async def ready(response: Response) -> Ready:
        """Whether it takes work; the status is 503 where not, as when it is about to stop."""
        response.status_code = 200 if service.ready else 503
        return Ready(ready=service.ready)

    return routes


def score_routes(service: Service) -> APIRouter:
    """The models, their scores, and metrics."""
    routes = APIRouter(tags=["scores"])

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """Counts and times, for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @routes.get("/v1/models")
    async def list_models() -> Models:
        """The models that are served."""
        return Models(models=[_facts(name, detector) for name, detector in service.models.items()])

    @routes.get("/v1/models/{name}", responses=problems(404))
    async def model_facts(name: str) -> ModelFacts:
        """One model."""
        return _facts(name, service.model(name))

    @routes.post(
        "/v1/models/{name}/score",
        openapi_extra=BODY,
        response_model=Answer,
        responses=problems(400, 404, 408, 411, 413, 415, 422, 500, 503),
    )
    async def score(name: str, request: Request, explain: Explained = "none") -> Response:
        """Scores, p-values and decisions of images (multipart) or rows (a JSON list of objects, or CSV).

        `explain` says which samples get the errors of their columns, or their anomaly map.
        """
        detector = service.model(name)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == JSON:
            text, own = await request.body(), detector.modality.tensors(detector.artifact)
            body = await service.read(len(text), json_body, text, own, service.limits)
            verdicts = await service.detect(name, body, explain)
        elif kind in (CSV, FORM):
            with TemporaryDirectory(prefix="memae-serve-") as folder:
                body = await _files(request, kind, service, Path(folder))
                verdicts = await service.detect(name, body, explain)
        else:
            detail = f"send images as {FORM}, or rows as {JSON} or {CSV}"
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
        return Response(await run_in_threadpool(_text, name, detector, verdicts, body.names), media_type=JSON)

    return routes


def _facts(name: str, detector: Detector) -> ModelFacts:
    return ModelFacts(name=name, kind=detector.modality.name, threshold=detector.threshold.value)


def _text(name: str, detector: Detector, verdicts: Verdicts, names: Sequence[str] | None) -> str:
    return answer(name, detector, verdicts, names).model_dump_json()


async def _files(request: Request, kind: str, service: Service, folder: Path) -> Body:
    """What is read from files, which it writes into the folder."""
    limits = service.limits
    if kind == CSV:
        text = await request.body()
        return await service.read(len(text), csv_body, text, folder, limits)
    async with request.form(max_files=limits.images, max_fields=limits.images) as form:
        sent: list[Any] = [value for _, value in form.multi_items()]
        if not sent or not all(isinstance(value, UploadFile) for value in sent):
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "send one or more files, and no other fields")
        size = sum(value.size or 0 for value in sent)
        return await service.read(size, image_body, cast("list[Upload]", sent), folder, limits)
