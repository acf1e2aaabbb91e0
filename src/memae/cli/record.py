"""memae record: gather video of a camera to train on."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from memae.cli.console import Console
from memae.cli.options import option
from memae.cli.watch import seconds_of

__all__ = ["record"]


def record(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="rtsp://, http:// or a device.", show_default=False)
    ],
    out: Annotated[Path, option("--out/-o FOLDER", "The video files go here.")],
    length: Annotated[str, option("--for TIME", "How long, such as 1h.")] = "1h",
    segment: Annotated[str, option("--segment TIME", "Length of each file.")] = "10m",
) -> None:
    """Record a camera into video files to train on; nothing is decoded or encoded again.

    memae record rtsp://camera.lan/main --for 1h --out normal/
    """
    from memae.live.address import Address
    from memae.live.record import record as record_camera

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    files = record_camera(Address(source), out, seconds_of(length), seconds_of(segment), stop)
    Console().result([f"{len(files)} files in {out}"], files=[str(file) for file in files])
