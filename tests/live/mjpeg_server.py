"""A camera that sends MJPEG over HTTP: a real server, which can be stopped, stalled and begun again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from tests.live.camera_server import CameraServer


class MjpegServer(CameraServer):
    """Serves frames (S, H, W, 3) in a loop at a rate."""

    def __init__(self, frames: np.ndarray, rate: float = 25.0, port: int = 0) -> None:
        self.pictures = [_jpeg(frame) for frame in frames]
        super().__init__()
        self.sent = 0
        server = self

        class Camera(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                number, begun = 0, time.monotonic()
                while server.wait_until(begun + number / rate):
                    if not server.stalled:
                        picture = server.pictures[number % len(server.pictures)]
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                        try:
                            self.wfile.write(head.encode() + picture + b"\r\n")
                        except OSError:
                            return
                        server.sent += 1
                    number += 1

            def log_message(self, *args: Any) -> None:
                pass

        made = ThreadingHTTPServer(("127.0.0.1", port), Camera)
        made.daemon_threads = True
        self.serve(made)

    @property
    def url(self) -> str:
        return f"http://someone:hush@127.0.0.1:{self.port}/video?token=hush"


@contextmanager
def answering(status: int, kind: str, body: bytes) -> Iterator[str]:
    """The address of a server that gives one answer to all."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://someone:hush@127.0.0.1:{server.server_address[1]}/video?token=hush"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _jpeg(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=92)
    return file.getvalue()
