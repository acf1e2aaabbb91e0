"""The routes of the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader
from pydantic import BaseModel, ConfigDict, Field

from memae.errors import MemaeError
from memae.live.controls import Watched, Zone
from memae.live.metrics import Metrics
from memae.live.page.feed import Feed
from memae.live.page.login import COOKIE, CookieToken, is_right, same_origin
from memae.live.sinks.history import History
from memae.web import Gate, Limits, RefusedError

__all__ = ["create_app"]

FREE = frozenset({"/login", "/static/page.css"})
LIMITS = Limits(body_bytes=1 << 20)
STREAM_FPS = 8
# all is of this server; data: is the empty icon
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
Share = Annotated[float, Field(ge=0, le=1)]


class ZoneBody(BaseModel):
    """A zone as the page sends it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=40)
    points: tuple[tuple[Share, Share], ...] = Field(min_length=3, max_length=50)
    is_ignored: bool = False


class CameraChange(BaseModel):
    """What is to change of a camera; the rest stays."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    threshold: float | None = Field(None, gt=0)
    is_enabled: bool | None = None
    zones: tuple[ZoneBody, ...] | None = Field(None, max_length=50)


class Mark(BaseModel):
    """Whether an event was normal."""

    model_config = ConfigDict(extra="forbid")

    is_normal: bool


def create_app(
    watched: Watched, history: History, feed: Feed, metrics: Metrics, token: str | None = None
) -> FastAPI:
    """An ASGI application: the page, and `/metrics`.

    Args:
        watched: the running watch.
        history: its events and scores.
        feed: gets the messages of the watch.
        metrics: of the watch.
        token: that whoever looks must give; see `memae.web.Gate`.
    """
    app = FastAPI(title="memae watch", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.mount("/static", StaticFiles(packages=[("memae.live.page", "static")]))
    app.include_router(_page_routes(watched, metrics, token))
    api = [Depends(_from_the_page)]
    app.include_router(_camera_routes(watched, history), prefix="/api", dependencies=api)
    app.include_router(_event_routes(history, feed), prefix="/api", dependencies=api)
    # what is added last comes first
    gate: Any = Gate
    app.add_middleware(gate, limits=LIMITS, token=token, free=FREE, count=lambda status: None)
    app.add_middleware(CookieToken, token=token)
    app.exception_handler(RefusedError)(_refused)
    app.exception_handler(MemaeError)(_unusable)
    return app


def _page_routes(watched: Watched, metrics: Metrics, token: str | None) -> APIRouter:
    routes = APIRouter()
    pages = Environment(loader=PackageLoader("memae.live.page", "templates"), autoescape=True)

    def page(name: str, **facts: object) -> HTMLResponse:
        headers = {
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return HTMLResponse(pages.get_template(name).render(facts), headers=headers)

    @routes.get("/")
    def index() -> HTMLResponse:
        return page("index.html", cameras=watched.cameras())

    @routes.get("/login")
    def login() -> HTMLResponse:
        return page("login.html", is_wrong=False)

    @routes.post("/login")
    async def enter(request: Request) -> Response:
        given = parse_qs((await request.body()).decode("utf-8", "replace")).get("token", [""])[0]
        if token is None or not is_right(given, token):
            await asyncio.sleep(0.5)  # guessing is slow
            return page("login.html", is_wrong=True)
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        is_secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, max_age=90 * 86400, httponly=True, samesite="strict", secure=is_secure)
        return answer

    @routes.get("/metrics")
    def numbers() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


def _camera_routes(watched: Watched, history: History) -> APIRouter:
    routes = APIRouter()

    @routes.get("/cameras")
    def cameras() -> list[dict[str, Any]]:
        return [asdict(camera) for camera in watched.cameras()]

    @routes.get("/cameras/{name}/picture")
    def picture(name: str) -> Response:
        found = watched.picture(_known(watched, name), with_anomalies=False)
        if found is None:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, f"{name}: no frame has come yet")
        return Response(found, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    @routes.get("/cameras/{name}/stream")
    def stream(name: str) -> StreamingResponse:
        parts = _parts(watched, _known(watched, name))
        return StreamingResponse(parts, media_type="multipart/x-mixed-replace; boundary=frame")

    @routes.patch("/cameras/{name}")
    def change(name: str, body: CameraChange) -> dict[str, Any]:
        _known(watched, name)
        if body.threshold is not None:
            watched.set_threshold(name, body.threshold)
        if body.is_enabled is not None:
            watched.set_enabled(name, body.is_enabled)
        if body.zones is not None:
            watched.set_zones(name, tuple(Zone(one.name, one.points, one.is_ignored) for one in body.zones))
        return next(asdict(camera) for camera in watched.cameras() if camera.name == name)

    @routes.get("/cameras/{name}/scores")
    def scores(name: str, hours: Annotated[float, Field(gt=0, le=168)] = 3) -> dict[str, list[float]]:
        found = history.scores(_known(watched, name), time.time() - hours * 3600)
        return {key: [getattr(one, key) for one in found] for key in ("at", "score", "threshold")}

    return routes


def _event_routes(history: History, feed: Feed) -> APIRouter:
    routes = APIRouter()

    @routes.get("/events")
    def events(
        source: str | None = None,
        since: float = 0.0,
        until: float = 1e12,
        most: Annotated[int, Field(ge=1, le=500)] = 50,
    ) -> list[dict[str, Any]]:
        return [_shown(one) for one in history.events(source or None, since, until, most)]

    @routes.get("/events/{name}/{kind}")
    def file(name: str, kind: str) -> FileResponse:
        event = history.event(name) if kind in ("still", "clip", "rebuilt") else None
        if event is None or not event[kind] or not Path(event[kind]).is_file():
            raise RefusedError(HTTPStatus.NOT_FOUND, f"{name}: has no {kind} any more")
        return FileResponse(event[kind])

    @routes.put("/events/{name}/normal")
    def mark(name: str, body: Mark) -> dict[str, bool]:
        if not history.mark_normal(name, body.is_normal):
            raise RefusedError(HTTPStatus.NOT_FOUND, f"{name}: there is no such event any more")
        return {"is_normal": body.is_normal}

    @routes.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(
            feed.stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    return routes


async def _parts(watched: Watched, name: str) -> AsyncIterator[bytes]:
    """Frames with heat and boxes, one part of a multipart body each."""
    last = None
    while True:
        found = await run_in_threadpool(watched.picture, name, with_anomalies=True)
        if found is not None and found != last:
            last = found
            # the boundary after the picture lets browsers show it at once
            yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(found), found)
        await asyncio.sleep(1 / STREAM_FPS)


def _known(watched: Watched, name: str) -> str:
    if name not in [camera.name for camera in watched.cameras()]:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"{name}: there is no such camera")
    return name


def _shown(event: dict[str, Any]) -> dict[str, Any]:
    """An event without the paths of this machine."""
    there = {kind: bool(event[kind]) and Path(event[kind]).is_file() for kind in ("still", "clip", "rebuilt")}
    return {**event, **there}


def _from_the_page(request: Request) -> None:
    if not same_origin(request.headers.get("origin"), request.headers.get("host", "")):
        raise RefusedError(HTTPStatus.FORBIDDEN, "another site may not use this page")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse({"detail": error.detail}, error.status, error.headers)


def _unusable(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)
