"""memae serve: scores over HTTP."""

from __future__ import annotations

import math
import re
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from memae.cli import options
from memae.cli.options import option
from memae.errors import ConfigError, MissingExtraError

__all__ = ["serve"]

SWITCH_S = 5e-4  # that the thread which scores waits for the one that reads; by default, 5 ms
LOCAL = ("127.0.0.1", "::1", "localhost")


def serve(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="Model directories made by memae fit, or hf://owner/name@revision.",
            show_default=False,
        ),
    ],
    port: Annotated[int, option("--port PORT", "Port to listen on; 0 takes a free one.")] = 8000,
    host: Annotated[
        str, option("--host ADDRESS", "Address to listen on; others than this machine need a token.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None,
        option("--token-file FILE", "Token that clients must send. Default: that of MEMAE_TOKEN, if set."),
    ] = None,
    most_mb: Annotated[int, option("--most-mb MB", "Size of a body.")] = 32,
    most_rows: Annotated[int, option("--most-rows ROWS", "Rows of a request.")] = 100_000,
    most_px: Annotated[int, option("--most-px PX", "Pixels of all images of a request.")] = 64_000_000,
    most_waiting: Annotated[int, option("--most-waiting REQUESTS", "Requests under way; others get 503.")] = 256,
    most_send: Annotated[float, option("--most-send SECONDS", "Time to send a body; then it is 408.")] = 30.0,
    most_wait: Annotated[float, option("--most-wait SECONDS", "Wait for the scoring; then it is 503.")] = 10.0,
    device: options.Device = "auto",
    engine: options.Engine = "auto",
) -> None:
    """Serve each MODEL over HTTP, under the name of its directory or repository, without .model and @revision.

        memae serve flows.model parts.model --port 8000

    Send rows as JSON or CSV, and images as multipart/form-data, to /v1/models/NAME/score; see docs/serve.md. SIGTERM
    answers what was accepted, and ends.
    """
    limits = {"mb": most_mb, "rows": most_rows, "px": most_px, "waiting": most_waiting}
    for name, value in (*limits.items(), ("send", most_send), ("wait", most_wait)):
        if not 0 < value < math.inf:
            raise ConfigError(f"--most-{name} {value:g}: give a number above 0")
    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port {port}: give a number from 0 to 65535")
    named = _named(models)
    from memae.web import Limits, read_token

    token = read_token(token_file)
    if token is None and host not in LOCAL:
        raise ConfigError(f"--host {host}: others can reach it, so give a token by MEMAE_TOKEN or --token-file")
    try:
        from memae.serve import create_app, run
    except ModuleNotFoundError:
        raise MissingExtraError("memae serve", "serve") from None
    from memae.detector import Detector

    loaded = {
        name: Detector.load(model, device=options.check_device(device), engine=engine)  # type: ignore[arg-type]  # load checks it
        for name, model in named.items()
    }
    bounds = Limits(
        body_bytes=most_mb << 20, rows=most_rows, px=most_px, waiting=most_waiting,
        waiting_bytes=max(256, most_mb) << 20, body_s=most_send, queue_s=most_wait,
    )  # fmt: skip
    app = create_app(loaded, bounds, token)
    with _listening(host, port) as listener:
        # uvicorn raises a signal again once all is answered; for a server that is the normal end
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        warnings.simplefilter("ignore", UserWarning)  # about the data of each request, which would fill the log
        sys.setswitchinterval(SWITCH_S)
        where = f"[{host}]" if ":" in host else host
        typer.echo(f"serving {', '.join(loaded)} on http://{where}:{listener.getsockname()[1]}", err=True)
        run(app, listener)


def _named(models: list[Path]) -> dict[str, Path]:
    from memae.hub import Address, is_address

    named: dict[str, Path] = {}
    for model in models:
        place = Path(Address.of(model).repo) if is_address(model) else model.resolve()
        name = place.name.removesuffix(".model")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
            raise ConfigError(f"{model}: its name stands in addresses; rename it to letters, digits and . _ -")
        if name in named:
            raise ConfigError(f"{model}: {named[name]} is called {name}, too; rename one of them")
        named[name] = model
    return named


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        why = str(error.strerror or error).partition(" (")[0]
        raise ConfigError(f"--host {host} --port {port}: {why}; take another") from None
