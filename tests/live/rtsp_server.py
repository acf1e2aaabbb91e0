"""A camera that speaks RTSP over TCP and wants a password: a real server, which can be stopped and stalled.

It sends H.264 in RTP packets between its answers (RFC 2326, 10.12, and RFC 6184). Debian's rtsp-server-perl gives its
clients UDP alone, which is what a watch never asks for.
"""

from __future__ import annotations

import re
import socketserver
import struct
import time
from base64 import b64encode
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from tests.live.camera_server import CameraServer

USER, PASSWORD = "someone", "hush"
CLOCK_HZ, PAYLOAD, MOST_BYTES = 90_000, 96, 1200
DESCRIPTION = f"""v=0
o=- 0 0 IN IP4 127.0.0.1
s=camera
c=IN IP4 0.0.0.0
t=0 0
a=control:*
m=video 0 RTP/AVP {PAYLOAD}
a=rtpmap:{PAYLOAD} H264/{CLOCK_HZ}
a=fmtp:{PAYLOAD} packetization-mode=1
a=control:video
""".replace("\n", "\r\n")


class RtspServer(CameraServer):
    """Serves frames (S, H, W, 3) in a loop at a rate."""

    def __init__(self, frames: np.ndarray, rate: int = 25, port: int = 0) -> None:
        self.pictures = _encoded(frames, rate)
        super().__init__()
        self.asked: list[str] = []
        """The transports that clients asked for."""
        server = self

        class Camera(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while (asked := self._asked()) and not server.is_over:
                    method, heads = asked
                    if f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}" != heads.get("authorization"):
                        self._answer("401 Unauthorized", heads, 'WWW-Authenticate: Basic realm="camera"')
                    elif method == "DESCRIBE":
                        self._answer("200 OK", heads, "Content-Type: application/sdp", body=DESCRIPTION)
                    elif method == "SETUP":
                        server.asked.append(heads["transport"])
                        self._answer("200 OK", heads, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
                    else:
                        self._answer("200 OK", heads, "Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
                    if method == "PLAY":
                        self._play()
                        return

            def _asked(self) -> tuple[str, dict[str, str]] | None:
                first = self.rfile.readline().decode().split(" ")
                lines = iter(lambda: self.rfile.readline().decode().strip(), "")
                heads = {
                    name.strip().lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
                }
                return (first[0], heads) if len(first) == 3 else None

            def _answer(self, status: str, heads: dict[str, str], *more: str, body: str = "") -> None:
                lines = [f"RTSP/1.0 {status}", f"CSeq: {heads.get('cseq', '0')}", "Session: 1", *more]
                if body:
                    lines.append(f"Content-Length: {len(body)}")
                self.wfile.write("\r\n".join([*lines, "", body]).encode())

            def _play(self) -> None:
                sequence, number, begun = 0, 0, time.monotonic()
                while server.wait_until(begun + number / rate):
                    if not server.stalled:
                        units = server.pictures[number % len(server.pictures)]
                        payloads = [part for unit in units for part in _fragments(unit)]
                        for place, payload in enumerate(payloads, 1):
                            last = 0x80 if place == len(payloads) else 0
                            when = number * CLOCK_HZ // rate & 0xFFFFFFFF
                            head = struct.pack(">BBHII", 0x80, last | PAYLOAD, sequence & 0xFFFF, when, 1)
                            sequence += 1
                            try:
                                self.wfile.write(struct.pack(">cBH", b"$", 0, 12 + len(payload)) + head + payload)
                            except OSError:
                                return
                    number += 1

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                pass  # a client that left

        self.serve(Server(("127.0.0.1", port), Camera))

    @property
    def url(self) -> str:
        return f"rtsp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/main?token={PASSWORD}"


def _encoded(frames: np.ndarray, rate: int) -> list[list[bytes]]:
    """The units (NAL) of each frame; the first is a keyframe, and none comes before its turn."""
    options = {"preset": "veryfast", "tune": "zerolatency", "g": "12", "crf": "12"}
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.height, codec.width = frames.shape[1:3]
    codec.pix_fmt, codec.time_base, codec.framerate, codec.options = "yuv420p", Fraction(1, rate), rate, options
    pictures = [av.VideoFrame.from_ndarray(pixels, "rgb24") for pixels in frames]
    packets = [packet for picture in [*pictures, None] for packet in codec.encode(picture)]
    return [re.split(rb"\x00?\x00\x00\x01", bytes(packet))[1:] for packet in packets]


def _fragments(unit: bytes) -> Iterator[bytes]:
    """A unit as the payload of one packet, or of several ones (FU-A)."""
    if len(unit) <= MOST_BYTES:
        yield unit
        return
    parts = [unit[at : at + MOST_BYTES] for at in range(1, len(unit), MOST_BYTES)]
    for place, part in enumerate(parts):
        ends = 0x80 if place == 0 else 0x40 if place == len(parts) - 1 else 0
        yield bytes([unit[0] & 0x60 | 28, ends | unit[0] & 0x1F]) + part
