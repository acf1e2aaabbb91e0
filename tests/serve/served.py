"""A server in a thread of this process, and a client that speaks plain HTTP to it."""

import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from fastapi import FastAPI
from PIL import Image

from memae import Detector
from memae.serve import create_app
from memae.serve.app import server
from memae.web import Limits

TOKEN = "a-token-of-many-letters"


class Reply(NamedTuple):
    status: int
    body: Any
    headers: Any


class Client(NamedTuple):
    """Asks one server."""

    url: str
    token: str | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(self, path: str, data: bytes | None = None, kind: str = "", **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if kind:
            named["Content-Type"] = kind
        if self.token:
            named.setdefault("Authorization", f"Bearer {self.token}")
        request = urllib.request.Request(self.url + path, data=data, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=60) as found:
                status, text, got = found.status, found.read(), found.headers
        except urllib.error.HTTPError as error:
            status, text, got = error.code, error.read(), error.headers
        return Reply(status, json.loads(text) if "json" in got["Content-Type"] else text.decode(), got)

    def rows(self, rows: Any, query: str = "") -> Reply:
        return self.ask(f"/v1/models/rows/score{query}", json.dumps(rows).encode(), "application/json")

    def files(self, *files: bytes, query: str = "") -> Reply:
        parts = [
            b'--edge\r\nContent-Disposition: form-data; name="images"; filename="../../%d.png"\r\n\r\n%s\r\n'
            % (number, file)
            for number, file in enumerate(files)
        ]
        kind = "multipart/form-data; boundary=edge"
        return self.ask(f"/v1/models/images/score{query}", b"".join(parts) + b"--edge--\r\n", kind)

    def raw(self, sent: bytes, *, then: bytes = b"", after_s: float = 0.0) -> str:
        """The answer to these bytes, whose body is one JSON object."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(sent)
            if then:
                time.sleep(after_s)
                connection.sendall(then)
            answer = b""
            while not answer.endswith(b"}"):
                part = connection.recv(1 << 16)
                assert part, answer
                answer += part
            return answer.decode()


def head(path: str, *lines: str, method: str = "POST", host: str = "127.0.0.1") -> bytes:
    """The head of a request as bytes."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


@contextmanager
def serving(
    models: Mapping[str, Detector], limits: Limits | None = None, token: str | None = None
) -> Iterator[Client]:
    """A server of these models, until the end of the block."""
    with running(create_app(models, limits, token)) as url:
        yield Client(url, token)


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address of a server of this application."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = listener.getsockname()[1]
    runs = server(app)
    thread = threading.Thread(target=runs.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        runs.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()
