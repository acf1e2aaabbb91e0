"""One thread for each camera: connects, reads, decodes, and connects again, without end."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from memae.errors import DataError
from memae.live.address import Address
from memae.live.notices import Look, SentRate
from memae.live.packets import PacketRing, StoredPacket
from memae.video.decode import DecodedPicture, Turn, is_cover, pyav, turn_of
from memae.video.frames import FrameKey, Frames

__all__ = ["Capture", "CapturedFrame", "Pace"]

_jitter = random.Random()  # nosec B311: of its own, as the caller's random state is not ours

log = logging.getLogger("memae")

CONNECT_S, READ_S = 10.0, 10.0
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
GAP_FRAMES = 5  # a longer hole begins a stretch of its own: the network knows frames at one distance
PICTURE_PX = 960  # a still shows no more


class _RefusedError(DataError):
    """A camera that will say the same to the next attempt."""


@dataclass(frozen=True)
class CapturedFrame:
    """A frame for the network, and when it was."""

    frames: Frames
    """One frame; its key counts from the beginning of its stretch without a gap."""
    picture: DecodedPicture
    at: float
    """Unix seconds of its presentation."""
    arrived: float
    """By the monotonic clock."""
    begins: bool
    """It is the first one of its stretch."""


class Pace:
    """Takes as many frames of a stream as a rate asks for; a slower stream is taken whole.

    Args:
        rate: frames a second.
    """

    def __init__(self, rate: float) -> None:
        self._period_s = 1 / rate
        self._due_s = float("-inf")

    def takes(self, time_s: float) -> bool:
        """Whether the next frame of the stream is one of those."""
        if time_s + self._period_s / 4 < self._due_s:  # so much may a frame come early
            return False
        late = time_s > self._due_s + self._period_s
        self._due_s = time_s + self._period_s if late else self._due_s + self._period_s
        return True


class Capture:
    """Reads one camera in a thread of its own, and holds the frames that are to be scored next.

    If more wait than `most`, all but the newest are dropped: a model that is too slow sees whole stretches. A file that
    cannot be read, and a camera that at first refuses the password or gives a playlist, is given up (`failed`).

    Args:
        name: of the camera; nothing else of it is shown but its host.
        address: where it is.
        rate: frames a second that the network knows.
        size: (height, width) px that it knows.
        most: frames that may wait.
        ring: takes the packets; None keeps none.
        copies_only: packets go to the ring, and no frame is decoded.
        arrived: called when a frame waits.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        rate: float,
        size: tuple[int, int],
        most: int,
        ring: PacketRing | None = None,
        arrived: Callable[[], None] = lambda: None,
        *,
        copies_only: bool = False,
        connect_s: float = CONNECT_S,
        read_s: float = READ_S,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        self.name, self.address = name, address
        self.drops: Counter[str] = Counter()
        self.is_up = self.is_over = self._was_up = False
        self.failed: str | None = None
        self._down_at = time.monotonic()
        self.note, self.fps, self.reconnects = "", 0.0, 0
        self._rate, self._size, self._most, self._ring, self._arrived = rate, size, most, ring, arrived
        self._timeouts, self._first_wait_s = (connect_s, read_s), first_wait_s
        self._copies_only = copies_only
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._waiting: deque[CapturedFrame] = deque()
        pyav("watching cameras")
        from av.video.reformatter import VideoReformatter

        # each keeps its tables between frames; the last one is for another thread, which draws
        self._scaler, self._painter, self._drawer = (VideoReformatter() for _ in range(3))
        self._look, self._sent_rate = Look(), SentRate(rate)
        self._turn: Turn | None = None
        self._begins, self._number, self._origin_s, self._last_s = True, 0, 0.0, 0.0
        self._thread = threading.Thread(target=self._run, name=f"memae camera {name}", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Ends the thread; one that waits for a camera ends with its read timeout."""
        self._stop.set()
        self._thread.join(timeout_s)

    def begin_anew(self) -> None:
        """Drops what waits, and lets the next frame begin a stretch."""
        self._begins = True
        self.take()

    def is_away(self, seconds: float) -> bool:
        """Whether no frame will come, or it has had no connection for so long."""
        return self.is_over or (not self.is_up and time.monotonic() - self._down_at >= seconds)

    @property
    def has_waiting(self) -> bool:
        """Whether frames wait."""
        return bool(self._waiting)

    def take(self) -> list[CapturedFrame]:
        """The frames that wait."""
        with self._lock:
            found = list(self._waiting)
            self._waiting.clear()
            return found

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.is_set():
            is_final = self.address.is_file
            try:
                for _ in self._read():
                    wait_s = 0.0
                    if self._stop.is_set():
                        return
                if self.address.is_file:
                    break
                why = f"{self.address}: the stream ended"
            except Exception as error:  # of whatever kind: a fault must not end the watch of a camera for ever
                why = self._why(error)
                is_final = is_final or (isinstance(error, _RefusedError) and not self._was_up)
            finally:
                self._down()
            if is_final:
                self.failed, self.note = why, "given up"
                log.error("camera %s: %s; it is given up", self.name, why)
                break
            wait_s = min(max(2 * wait_s, self._first_wait_s), LONGEST_WAIT_S)
            pause_s = wait_s * _jitter.uniform(0.5, 1.0)
            log.warning("camera %s: %s; connecting again in %.1f s", self.name, why, pause_s)
            self.reconnects += 1
            self._stop.wait(pause_s)
        self.is_over = True
        self._arrived()

    def _why(self, error: Exception) -> str:
        """Why the connection ended. FFmpeg's own words may hold the address."""
        if isinstance(error, DataError):
            return str(error)
        if isinstance(error, pyav("watching cameras").ExitError):  # of a timeout
            return f"{self.address} does not answer"
        return f"{self.address}: {getattr(error, 'strerror', None) or type(error).__name__}"

    def _down(self) -> None:
        if self.is_up:
            self._down_at = time.monotonic()
        self.is_up, self._begins = False, True
        if self._ring:
            self._ring.end()

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        av = pyav("watching cameras")
        address, options, begun = self.address, dict(self.address.options), time.monotonic()
        try:
            container = av.open(
                address.url,
                "r",
                format=address.format,
                options=options,
                timeout=self._timeouts,
                metadata_errors="replace",
            )
        except (av.HTTPUnauthorizedError, av.HTTPForbiddenError):
            raise _RefusedError(
                f"{address} refuses the user name or password (401 or 403); check these in its address"
            ) from None
        except (av.ArgumentError, av.InvalidDataError) as error:
            if time.monotonic() - begun >= self._timeouts[0]:  # some of FFmpeg's readers say the same of both
                raise DataError(f"{address} does not answer") from None
            kind = _RefusedError if isinstance(error, av.ArgumentError) and not address.is_device else DataError
            raise kind(
                f"{address} gives no video that is read here, or a playlist; give an RTSP or MJPEG stream"
            ) from None
        with container:
            stream = next((one for one in container.streams.video if not is_cover(one)), None)
            if stream is None or stream.codec_context is None:
                raise DataError(f"{address} gives no video that can be decoded")
            yield container, stream

    def _read(self) -> Iterator[None]:
        """Reads packets until the connection ends."""
        av = pyav("watching cameras")
        with self._opened() as (container, stream):
            stream.thread_type = "AUTO" if self.address.is_file else "SLICE"  # frame threads hold frames back
            # a stored file comes as fast as it can be read; a stream of JPEGs has no times of its own
            paced, untimed = bool(container.duration), container.format.name in ("mpjpeg", "mjpeg")
            clock = _Clock(untimed)
            if self._ring:
                self._ring.begin(stream)
            pace, self._look = Pace(self._rate), Look(self._look.has_colour)
            self._sent_rate.begin()
            self._turn = None
            try:
                for packet in container.demux(stream):
                    time_s = clock.time_s(packet)
                    if paced and time_s is not None and self._stop.wait(max(0.0, clock.ahead_s(time_s))):
                        return
                    self._keep(packet, clock, untimed)
                    if self._copies_only:
                        self._up(stream.width, stream.height)
                        yield
                        continue
                    try:
                        decoded = packet.decode()
                    except av.FFmpegError:
                        self.drops["corrupt"] += 1
                        decoded = []
                    for frame in decoded:
                        self._frame(frame, clock, pace)
                    yield
            finally:
                if self._ring:
                    self._ring.end()

    def _up(self, width: int, height: int) -> None:
        if self.is_up:
            return
        what = "only copied" if self._copies_only else f"scored at {self._size[1]} x {self._size[0]} px"
        log.info("camera %s: up, %d x %d px, %s", self.name, width, height, what)
        self.is_up = self._was_up = True

    def _keep(self, packet: Any, clock: _Clock, untimed: bool) -> None:
        if not self._ring:
            return
        if untimed and packet.size:
            packet.pts = packet.dts = round(clock.now_s() / packet.time_base)
        time_s = clock.time_s(packet)
        stored = StoredPacket.of(packet, clock.at(time_s)) if time_s is not None else None
        if stored:
            self._ring.add(stored)

    def _frame(self, decoded: Any, clock: _Clock, pace: Pace) -> None:
        time_s = clock.time_s(decoded)
        time_s = clock.now_s() if time_s is None else time_s
        gap_s = time_s - self._last_s
        self._up(decoded.width, decoded.height)
        changed = self._look.resized((decoded.height, decoded.width))
        if changed:
            log.warning("camera %s: the picture is now %d x %d px", self.name, decoded.width, decoded.height)
        if rate := self._sent_rate.note(time_s):
            log.warning("camera %s: %s", self.name, rate)
        begins = self._begins or changed or not 0 <= gap_s <= GAP_FRAMES / self._rate
        if not begins and not pace.takes(time_s):
            return
        begins = self._too_many_wait() or begins
        if begins:
            self._begins, self._number, self._origin_s = False, 0, time_s
            pace.takes(time_s)
        elif gap_s > 0:
            self.fps = 0.9 * self.fps + 0.1 / gap_s if self.fps else 1 / gap_s
        self._last_s = time_s
        if (
            self._turn is None or changed
        ):  # not of each frame: PyAV's side data make a cycle, which holds its picture
            self._turn = turn_of(decoded)
        turn = self._turn
        height, width = turn.of_size(self._size)
        grey = self._scaler.reformat(decoded, width, height, "gray", interpolation="AREA")
        pixels = turn(grey.to_ndarray())
        self._tell(self._look.at(pixels, decoded, time_s))
        key = FrameKey(self.name, self._number, time_s - self._origin_s)
        self._number += 1
        frames = Frames(pixels[None], [key], str(self.address))
        picture = DecodedPicture(self._shown(decoded), self._drawer, turn)
        self._put(CapturedFrame(frames, picture, clock.at(time_s), time.monotonic(), begins))

    def _shown(self, decoded: Any) -> Any:
        """A frame that a still may be made of: many wait for their score, so large ones are made smaller first."""
        if decoded.width <= PICTURE_PX:
            return decoded
        across, down = (
            2 * max(1, round(side * PICTURE_PX / decoded.width / 2)) for side in (decoded.width, decoded.height)
        )
        return self._painter.reformat(decoded, across, down, "yuv420p", interpolation="AREA")

    def _tell(self, note: str) -> None:
        if note != self.note:
            log.warning("camera %s: %s", self.name, note or "the picture is as usual again")
            self.note = note

    def _too_many_wait(self) -> bool:
        """Drops all that wait if they are too many: the next frame begins a stretch."""
        with self._lock:
            if len(self._waiting) < self._most:
                return False
            self.drops["slow"] += len(self._waiting)
            self._waiting.clear()
            return True

    def _put(self, frame: CapturedFrame) -> None:
        with self._lock:
            self._waiting.append(frame)
        self._arrived()


class _Clock:
    """Presentation times of a connection, and the wall clock that belongs to them."""

    def __init__(self, untimed: bool) -> None:
        self._untimed = untimed
        self._first: float | None = None
        self._begun, self._offset = time.monotonic(), 0.0

    def now_s(self) -> float:
        """Seconds since the connection began."""
        return time.monotonic() - self._begun

    def time_s(self, part: Any) -> float | None:
        """Of a packet or frame, from the first one; None without a time."""
        if self._untimed:
            return self.now_s()
        if part.pts is None or part.time_base is None:
            return None
        time_s = float(part.pts * part.time_base)
        self._first = time_s if self._first is None else self._first
        return time_s - self._first

    def ahead_s(self, time_s: float) -> float:
        """How long until a time has come."""
        return time_s - self.now_s()

    def at(self, time_s: float) -> float:
        """Unix seconds."""
        late_s = self.now_s() - time_s
        if abs(late_s - self._offset) > 2.0:  # a clock that was set, or runs at another pace
            self._offset = late_s
        return time.time() - late_s + self._offset
