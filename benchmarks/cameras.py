"""Cameras for the soak: folders of JPEGs as MJPEG over HTTP, from a process of their own."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

__all__ = ["served"]


@contextmanager
def served(folders: Sequence[Path], rate: float) -> Iterator[str]:
    """Gives an address. Below it, `/0`, `/1` and so on send the JPEGs of the folders in turn, for ever.

    Args:
        folders: of JPEGs; each camera begins with another one.
        rate: frames a second.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(folders, rate, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(folders: Sequence[Path], rate: float, told: Connection) -> None:
    videos = [[path.read_bytes() for path in sorted(folder.glob("*.jpg"))] for folder in folders]

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first = int(self.path.strip("/"))
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            pictures = (picture for turn in count(first) for picture in videos[turn % len(videos)])
            begun = time.monotonic() + first / rate / 16  # cameras do not take their pictures all at once
            for number, picture in enumerate(pictures):
                time.sleep(max(0.0, begun + number / rate - time.monotonic()))
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + picture + b"\r\n")
                except OSError:
                    return

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.send(server.server_address[1])
    threading.Event().wait()
