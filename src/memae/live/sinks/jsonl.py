"""Events as lines of JSON in append-only files."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from memae.files.atomic import unwritten
from memae.live.message import EventMessage, Message
from memae.live.sinks.settings import SinkSettings
from memae.live.sinks.sink import SinkError

__all__ = ["JsonlSettings", "JsonlSink"]

DAY_S = 86400.0
PARTS = 10  # a file has at most this share of the whole size, so that deleting one leaves most of the events


class JsonlSettings(SinkSettings):
    """Where the files lie, and how long they stay."""

    folder: Path = Field(
        description="of the files, such as events-2026-12-02-00.jsonl, one or more for a day in UTC"
    )
    keep_days: float = Field(90.0, gt=0, description="older files are deleted")
    keep_mib: float = Field(100.0, gt=0, description="of all files; the oldest are deleted")


class JsonlSink:
    """Appends each message of an event as one line, which is on the disk before the next.

    A line that could not be written whole, as where the disk is full, is taken back.
    """

    settings = JsonlSettings
    wants: tuple[type, ...] = (EventMessage,)

    def __init__(self, settings: JsonlSettings) -> None:
        self.name = settings.name or "jsonl"
        self._folder, self._keep_s = settings.folder, settings.keep_days * DAY_S
        self._most_bytes = round(settings.keep_mib * 2**20)

    def send(self, message: Message) -> None:
        """Appends a line."""
        line = json.dumps(message.as_dict(), ensure_ascii=False).encode() + b"\n"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _append(self._file(len(line)), line)
            self._delete_old()
        except OSError as error:
            raise SinkError(f"{self.name}: {unwritten(self._folder, error)}") from None

    def close(self) -> None:
        """Nothing is open between two lines."""

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("events-????-??-??-*.jsonl"))

    def _file(self, more_bytes: int) -> Path:
        """The file that the next line goes to."""
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        today = [file for file in self._files() if file.name.startswith(f"events-{day}-")]
        if today and today[-1].stat().st_size + more_bytes <= self._most_bytes / PARTS:
            return today[-1]
        number = int(today[-1].stem.rsplit("-", 1)[1]) + 1 if today else 0
        return self._folder / f"events-{day}-{number:02d}.jsonl"

    def _delete_old(self) -> None:
        *older, last = self._files()
        left_bytes = self._most_bytes - last.stat().st_size
        for file in reversed(older):
            facts = file.stat()
            left_bytes -= facts.st_size
            if left_bytes < 0 or facts.st_mtime < time.time() - self._keep_s:
                file.unlink()


def _append(path: Path, line: bytes) -> None:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(file).st_size
        if before and os.pread(file, 1, before - 1) != b"\n":  # the process was killed within a line
            line = b"\n" + line
        try:
            written = os.write(file, line)
            os.fsync(file)
            if written < len(line):
                raise OSError(28, "no space left on device")
        except OSError:
            os.ftruncate(file, before)
            raise
    finally:
        os.close(file)
