"""The application: routes, errors, and the gate before them; and the server that runs it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from memae.detector import Detector
from memae.serve.answers import problems
from memae.serve.inference import inference_health_routes, inference_routes
from memae.serve.page import PAGE, page_routes
from memae.serve.routes import health_routes, score_routes
from memae.serve.service import Service
from memae.web import Gate, Limits, RefusedError

__all__ = ["create_app", "run", "server"]

HEALTH = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"})
LEAVING_S = 0.5  # between the signal to stop and the end of listening
STALLED_S = 30  # after which a client that reads no answer is cut off


def create_app(models: Mapping[str, Detector], limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """An ASGI application that scores with these models.

    Args:
        models: fitted detectors by the names that stand in the routes.
        limits: the most that a request may have.
        token: that clients must send; see `memae.web.Gate`.

    Raises:
        MemaeError: a model that has no threshold, or of samples that are events in time.
    """
    service = Service(models, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.batcher.close)

    app = _App(
        title="memae",
        description="Scores of anomaly detection.",
        lifespan=lifespan,
        docs_url=None,  # pages that load scripts of another host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(page_routes())
    app.include_router(health_routes(service))
    app.include_router(inference_health_routes(service))
    # the gate checks the token; this says so in /openapi.json
    needs_token = [Depends(HTTPBearer(auto_error=False))] if token else []
    refusals = problems(401 if token else 421)
    for routes in (score_routes(service), inference_routes(service)):
        app.include_router(routes, dependencies=needs_token, responses=refusals)
    gate: Any = Gate
    app.add_middleware(
        gate, limits=service.limits, token=token, free=HEALTH | PAGE, count=service.metrics.answered
    )
    app.exception_handler(RefusedError)(_refused)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_failed)
    app.exception_handler(ClientDisconnect)(_gone)
    return app


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        found = super().openapi()
        found["components"]["schemas"].update(self.state.service.schemas)
        return found


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serves until SIGTERM or Ctrl-C; what was accepted before is answered.

    Args:
        app: of `create_app`.
        listener: a socket that listens.
    """
    server(app).run(sockets=[listener])


def server(app: FastAPI) -> uvicorn.Server:
    """What `run` runs; it ends once its `should_exit` is True.

    Args:
        app: of `create_app`.
    """
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, proxy_headers=False)
    return _Server(config, app.state.service)


class _Server(uvicorn.Server):
    """Goes on for a moment after the signal, and tells clients to close: what they have sent already is answered."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or ():
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # on Linux; connections inherit it
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * STALLED_S)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.leaving = True
        self.server_state.default_headers.append((b"connection", b"close"))
        await asyncio.sleep(LEAVING_S)
        await super().shutdown(sockets)


async def _refused(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status, error.headers)


async def _invalid(_: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:]))
    return JSONResponse({"error": f"{where}: {first['msg']}"}, HTTPStatus.UNPROCESSABLE_ENTITY)


async def _failed(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _gone(_: Request, __: Any) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # which nobody reads
