"""Records a camera into video files, packet by packet, so that nothing is decoded or encoded again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from memae.errors import DataError, WriteError
from memae.live.address import Address
from memae.live.capture import Capture
from memae.live.packets import PacketRing

__all__ = ["record"]


def record(
    address: Address, out: Path, seconds: float, segment_s: float = 600.0, stop: threading.Event | None = None
) -> list[Path]:
    """Writes the video of a camera into `out`, in segments that each begin with a keyframe, and returns their paths.

    A camera that goes away ends a segment, and begins another when it is back.

    Args:
        address: of the camera.
        out: folder of the segments.
        seconds: how long to record.
        segment_s: length of a segment.
        stop: ends the recording early.

    Raises:
        DataError: the camera refuses, or gives no video.
        WriteError: a segment cannot be written.
    """
    stop, name = stop or threading.Event(), address.name
    ring, written, failed = PacketRing(2.0), list[Path](), list[str]()
    ended = threading.Event()

    def done(path: Path | None, why: str | None) -> None:
        written.extend([path] if path else [])
        failed.extend([why] if why else [])
        ended.set()

    capture = Capture(name, address, 1.0, (1, 1), 1, ring, copies_only=True)
    capture.start()
    ends_at, taking, taking_until = time.monotonic() + seconds, None, 0.0
    try:
        while not stop.is_set() and not failed and not capture.is_over and time.monotonic() < ends_at:
            if taking is None or ended.is_set():
                ended.clear()
                path = out / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{len(written):04}.mp4"
                taking, taking_until = ring.take(path, time.time() - 2.0, done), time.monotonic() + segment_s
            elif time.monotonic() >= taking_until:
                ring.extend(taking, time.time(), ends=True)
            stop.wait(0.05)
    finally:
        capture.stop()
        ring.end()
    if failed:
        raise WriteError(failed[0])
    if capture.failed and not written:
        raise DataError(f"{name}: {capture.failed}")
    return written
