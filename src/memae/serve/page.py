"""The page at /: a file is dropped on it, scored by the route of `routes`, and shown with its map or columns."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

__all__ = ["PAGE", "page_routes"]

PAGE = frozenset({"/", "/page.css", "/page.js"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> APIRouter:
    """The page and its two files, which need no token: they hold no data."""
    routes = APIRouter(include_in_schema=False)
    static = files("memae.serve") / "static"
    html, css, js = ((static / name).read_bytes() for name in ("index.html", "page.css", "page.js"))

    @routes.get("/")
    async def page() -> Response:
        return Response(html, media_type="text/html", headers=HEADERS)

    @routes.get("/page.css")
    async def style() -> Response:
        return Response(css, media_type="text/css", headers=HEADERS)

    @routes.get("/page.js")
    async def script() -> Response:
        return Response(js, media_type="text/javascript", headers=HEADERS)

    return routes
