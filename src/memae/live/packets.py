"""The packets of a stream as they came: the last seconds of them, and files of them that nothing decodes again."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memae.errors import WriteError
from memae.files.atomic import atomic_file, no_room, unwritten

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["PacketFile", "PacketRing", "StoredPacket", "Taking"]

MOST_BYTES = 64 << 20  # of a ring: twelve seconds of 40 Mbit/s
# fragments: what is there of a file can be played even if the power went while it was written
_MP4 = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@dataclass(frozen=True, slots=True)
class StoredPacket:
    """One encoded frame."""

    data: bytes
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    is_keyframe: bool
    at: float
    """Unix seconds, by presentation time."""

    @classmethod
    def of(cls, packet: Packet[Any], at: float) -> StoredPacket | None:
        """A copy of a packet that FFmpeg gave; None without a time or content."""
        if packet.pts is None or not packet.size or packet.time_base is None:
            return None
        dts = packet.pts if packet.dts is None else packet.dts
        return cls(bytes(packet), packet.pts, dts, packet.duration or 0, packet.time_base, packet.is_keyframe, at)


class PacketFile:
    """A video file that packets are copied into; it is in place once it is closed.

    Args:
        path: of an .mp4 or .mkv.
        stream: that the packets come from, still open.

    Raises:
        WriteError: it cannot be written.
    """

    def __init__(self, path: Path, stream: VideoStream) -> None:
        import av

        self.path = path
        self._stack = ExitStack()
        part = self._stack.enter_context(atomic_file(path))
        mp4 = path.suffix == ".mp4"
        try:
            kind, options = ("mp4", _MP4) if mp4 else ("matroska", {})
            self._written = self._stack.enter_context(_NotedFile(part, "wb"))
            self._stack.callback(self._written.check)
            self._file = self._stack.enter_context(av.open(self._written, "w", format=kind, options=options))
            self._stream = self._file.add_stream_from_template(stream)
        except (av.FFmpegError, OSError, ValueError) as error:
            self.discard(error)
            raise WriteError(unwritten(path, error)) from None
        self._first_pts: int | None = None
        self._first_dts = self._last_dts = 0
        self.count = 0
        self.begun_at = self.ended_at = 0.0

    def write(self, packet: StoredPacket) -> None:
        """Adds the next packet; what comes before the first keyframe is left out.

        Raises:
            WriteError: the disk is full; nothing is left of the file.
        """
        import av

        if self._first_pts is None:
            if not packet.is_keyframe:
                return
            self._first_pts, self._first_dts, self.begun_at = packet.pts, packet.dts, packet.at
            self._last_dts = packet.dts - 1
        copied = av.Packet(packet.data)
        copied.time_base, copied.is_keyframe, copied.stream = packet.time_base, packet.is_keyframe, self._stream
        dts = max(packet.dts, self._last_dts + 1)  # no container takes one time twice
        self._last_dts, self.ended_at = dts, max(self.ended_at, packet.at)
        copied.dts, copied.pts = dts - self._first_dts, max(packet.pts, dts) - self._first_dts
        copied.duration = packet.duration
        try:
            self._file.mux(copied)
            self._written.check()
        except (av.FFmpegError, OSError) as error:
            self.discard(error)
            raise WriteError(unwritten(self.path, error)) from None
        self.count += 1

    def close(self) -> bool:
        """Puts the file in its place, and returns whether it holds anything; an empty one is dropped.

        Raises:
            WriteError: the disk is full; nothing is left of the file.
        """
        if not self.count:
            self.discard()
            return False
        try:
            self._stack.close()
        except Exception as error:
            if isinstance(error, WriteError) or not no_room(error):
                raise
            raise WriteError(unwritten(self.path, error)) from None
        return True

    def discard(self, why: BaseException | None = None) -> None:
        """Leaves nothing of the file."""
        error = why or InterruptedError()
        with suppress(Exception):  # what is thrown away may fail to close
            self._stack.__exit__(type(error), error, error.__traceback__)


class _NotedFile(io.FileIO):
    """Notes an error where another file raises it: FFmpeg loses what fails in its own files when it closes them."""

    _error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest and not self._error:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self._error = error
        return len(data)

    def check(self) -> None:
        """Raises what was noted."""
        if self._error:
            raise self._error


class PacketRing:
    """The packets of the last seconds, from a keyframe on, and the files that take what comes.

    One thread adds packets; another begins and ends files.

    Args:
        seconds: at least so much is held, as long as it stays below `MOST_BYTES`.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._stream: VideoStream | None = None
        self._packets: deque[StoredPacket] = deque()
        self._bytes = 0
        self._files: list[Taking] = []

    def begin(self, stream: VideoStream) -> None:
        """Takes the packets of a stream that has been opened."""
        with self._lock:
            self._stream = stream

    def end(self) -> None:
        """The stream is about to be closed: ends all files, and forgets its packets."""
        with self._lock:
            self._stream = None
            self._packets.clear()
            self._bytes = 0
            for taking in self._files:
                taking.ends = True
            self._finish(float("inf"))

    def add(self, packet: StoredPacket) -> None:
        """Adds the next packet."""
        with self._lock:
            self._packets.append(packet)
            self._bytes += len(packet.data)
            self._drop_old(packet.at)
            for taking in list(self._files):
                taking.waiting.append(packet)
                self._write(taking)
            self._finish(packet.at)

    def take(
        self,
        path: Path,
        since: float,
        done: Callable[[Path | None, str | None], None],
        until: float = float("inf"),
    ) -> Taking | None:
        """Begins a file with the packets from the keyframe before `since` on (Unix seconds); None without a stream.

        Args:
            path: of the file.
            since: it begins then, or up to one keyframe earlier.
            until: so far; see `extend`.
            done: called once, by any thread: with the path when the file is in place, or with None and the reason.

        Raises:
            WriteError: it cannot be written.
        """
        with self._lock:
            if self._stream is None:
                return None
            waiting = deque(_from_keyframe(self._packets, since))
            taking = Taking(PacketFile(path, self._stream), done, waiting, until)
            self._files.append(taking)
            self._write(taking)
            return taking

    def extend(self, taking: Taking, until: float, *, ends: bool = False) -> None:
        """Lets a file go on to a time (Unix seconds), which may be yet to come, and end there."""
        with self._lock:
            taking.until, taking.ends = until, ends
            if taking in self._files:
                self._write(taking)
                self._finish(self._packets[-1].at if self._packets else float("inf"))

    def _finish(self, at: float) -> None:
        for taking in [one for one in self._files if one.ends and one.until <= at]:
            self._files.remove(taking)
            try:
                taking.done(taking.file.path if taking.file.close() else None, None)
            except WriteError as error:
                taking.done(None, str(error))

    def _write(self, taking: Taking) -> None:
        """Writes what lies before the end so far. A file that cannot be written is given up; its camera goes on."""
        try:
            while taking.waiting and taking.waiting[0].at <= taking.until:
                taking.file.write(taking.waiting.popleft())
        except WriteError as error:
            self._files.remove(taking)
            taking.done(None, str(error))

    def _drop_old(self, now: float) -> None:
        """Drops whole groups of pictures: what is left begins with a keyframe."""
        while len(self._packets) > 1 and (
            self._bytes > MOST_BYTES or self._second_keyframe_at() <= now - self._seconds
        ):
            self._bytes -= len(self._packets.popleft().data)
            while len(self._packets) > 1 and not self._packets[0].is_keyframe:
                self._bytes -= len(self._packets.popleft().data)

    def _second_keyframe_at(self) -> float:
        after = (packet.at for number, packet in enumerate(self._packets) if number and packet.is_keyframe)
        return next(after, float("inf"))


@dataclass(eq=False)
class Taking:
    """A file that takes packets."""

    file: PacketFile
    done: Callable[[Path | None, str | None], None]
    waiting: deque[StoredPacket]
    """They may lie behind its end: that is known later."""
    until: float
    ends: bool = False
    """Nothing will extend it any more."""


def _from_keyframe(packets: Iterable[StoredPacket], since: float) -> list[StoredPacket]:
    """From the last keyframe that is not after `since`, or from the first one that is there."""
    found: list[StoredPacket] = []
    for packet in packets:
        if packet.is_keyframe and packet.at <= since:
            found = []
        found.append(packet)
    return found
