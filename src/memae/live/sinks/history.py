"""Events and scores in a SQLite file, which the page reads while the watch writes."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from memae.errors import DataError
from memae.live.message import EventMessage, Message, ScoreMessage
from memae.live.sinks.settings import SinkSettings
from memae.live.sinks.sink import SinkError

__all__ = ["History", "HistorySettings", "HistorySink", "StoredScore"]

DAY_S = 86400.0
BUCKET_S = 5.0
CLEAN_EVERY_S = 600.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, started_at REAL NOT NULL, updated_at REAL NOT NULL, ended_at REAL,
    score REAL NOT NULL, peak_score REAL NOT NULL, peak_at REAL NOT NULL, threshold REAL NOT NULL,
    boxes TEXT NOT NULL, still TEXT, clip TEXT, rebuilt TEXT, ended_by TEXT, is_normal INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS events_by_time ON events (started_at);
CREATE INDEX IF NOT EXISTS events_by_source ON events (source, started_at);
CREATE TABLE IF NOT EXISTS scores (
    source TEXT NOT NULL, at REAL NOT NULL, score REAL NOT NULL, threshold REAL NOT NULL, PRIMARY KEY (source, at)
) WITHOUT ROWID;
"""
COLUMNS = (
    *("id", "source", "started_at", "updated_at", "ended_at", "score", "peak_score", "peak_at", "threshold"),
    *("boxes", "still", "clip", "rebuilt", "ended_by"),
)
PUT_EVENT = (  # of the names above only
    f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{name}' for name in COLUMNS)}) "  # nosec B608
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS[3:])}"
)
PUT_SCORE = (
    "INSERT INTO scores VALUES (?, ?, ?, ?) ON CONFLICT (source, at) DO UPDATE "
    "SET score = max(score, excluded.score), threshold = excluded.threshold"
)


class HistorySettings(SinkSettings):
    """Where the file lies, and how long its rows stay."""

    path: Path = Field(description="of the SQLite file")
    keep_days: float = Field(90.0, gt=0, description="older events are deleted, but those that were marked normal")
    keep_score_days: float = Field(7.0, gt=0, description="older scores are deleted")


@dataclass(frozen=True)
class StoredScore:
    """The highest score of 5 s."""

    at: float
    """Beginning of the 5 s, in Unix seconds."""
    score: float
    threshold: float


class HistorySink:
    """Keeps the last state of each event, and the highest score of each 5 s."""

    settings = HistorySettings
    wants: tuple[type, ...] = (EventMessage, ScoreMessage)

    def __init__(self, settings: HistorySettings) -> None:
        self.name = settings.name or "history"
        self._settings = settings
        self._file: sqlite3.Connection | None = None  # opened by the thread that writes
        self._cleaned_at = 0.0

    def send(self, message: Message) -> None:
        """Writes one message."""
        try:
            if self._file is None:
                self._file = self._opened()
            with self._file:
                if isinstance(message, EventMessage):
                    facts = message.as_dict()
                    self._file.execute(PUT_EVENT, {**facts, "boxes": json.dumps(facts["boxes"])})
                elif isinstance(message, ScoreMessage):
                    at = message.at // BUCKET_S * BUCKET_S
                    self._file.execute(PUT_SCORE, (message.source, at, message.score, message.threshold))
                self._clean()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise SinkError(f"{self.name}: {self._settings.path}: cannot be written ({error})") from None

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> sqlite3.Connection:
        path = self._settings.path
        path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(path, timeout=10.0)
        file.execute("PRAGMA journal_mode = WAL")
        file.execute(
            "PRAGMA synchronous = NORMAL"
        )  # with WAL, a power cut may take the last rows and damages nothing
        with file:
            for statement in SCHEMA.split(";"):
                file.execute(statement)
            # of a process that was killed
            file.execute("UPDATE events SET ended_at = updated_at, ended_by = 'stopped' WHERE ended_at IS NULL")
        return file

    def _clean(self) -> None:
        now = time.time()
        if self._file is None or now - self._cleaned_at < CLEAN_EVERY_S:
            return
        self._cleaned_at = now
        kept, kept_scores = self._settings.keep_days * DAY_S, self._settings.keep_score_days * DAY_S
        self._file.execute("DELETE FROM events WHERE started_at < ? AND NOT is_normal", (now - kept,))
        self._file.execute("DELETE FROM scores WHERE at < ?", (now - kept_scores,))


class History:
    """Reads a file of `HistorySink`, also while it is written; any thread may use it.

    Args:
        path: of the file; before the sink has written to it, it holds nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def events(
        self, source: str | None = None, since: float = 0.0, until: float = 1e12, most: int = 100
    ) -> list[dict[str, Any]]:
        """The events that began between two times (Unix seconds), the latest first, as `EventMessage.as_dict`.

        Each also has `is_normal`: whether it was marked as normal.
        """
        with self._open() as file:
            rows = file.execute(
                "SELECT * FROM events WHERE started_at >= :since AND started_at <= :until "
                "AND (:source IS NULL OR source = :source) ORDER BY started_at DESC LIMIT :most",
                {"since": since, "until": until, "source": source, "most": most},
            )
            return [_event(row) for row in rows]

    def event(self, name: str) -> dict[str, Any] | None:
        """One event by its identifier."""
        with self._open() as file:
            row = file.execute("SELECT * FROM events WHERE id = ?", (name,)).fetchone()
            return _event(row) if row else None

    def scores(self, source: str, since: float) -> list[StoredScore]:
        """The scores of a camera since a time, the oldest first."""
        with self._open() as file:
            rows = file.execute(
                "SELECT at, score, threshold FROM scores WHERE source = ? AND at >= ? ORDER BY at", (source, since)
            )
            return [StoredScore(*row) for row in rows]

    def mark_normal(self, name: str, is_normal: bool) -> bool:
        """Marks an event as normal, for teaching, or takes the mark back; False if there is no such event."""
        with self._open() as file, file:
            changed = file.execute("UPDATE events SET is_normal = ? WHERE id = ?", (is_normal, name))
            return changed.rowcount > 0

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        file = sqlite3.connect(self._path if self._path.exists() else ":memory:", timeout=10.0)
        file.row_factory = sqlite3.Row
        try:
            if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'scores'").fetchone():
                file.close()  # the sink has not written to it yet
                file = sqlite3.connect(":memory:")
                file.executescript(SCHEMA)
                file.row_factory = sqlite3.Row
            yield file
        except sqlite3.Error as error:
            raise DataError(f"{self._path}: cannot be read as a history of events ({error})") from None
        finally:
            file.close()


def _event(row: sqlite3.Row) -> dict[str, Any]:
    facts = dict(row)
    return {**facts, "boxes": json.loads(facts["boxes"]), "is_normal": bool(facts["is_normal"])}
