"""One queue before one worker: requests that came in while it scored are scored together next.

Nothing waits for company. Under load the batches grow by themselves, and a lone request starts at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from memae.detector import Detector
from memae.errors import MemaeError
from memae.types import Explained, Verdicts
from memae.web import RefusedError

__all__ = ["BatchFacts", "Batcher", "Work"]

PASS_S = 0.2  # that a pass takes at most, by the rate of the last one, unless one request takes longer
LEAST, MOST = 32, 16_384  # samples scored together, at most, unless one request has more
EXPLAINED = 64  # the same, where each comes with all that explains it


@dataclass(frozen=True)
class Work:
    """The samples of one request."""

    detector: Detector
    x: pa.Table | np.ndarray | Path | list[Path]
    """Rows, images, a CSV file, or image files."""
    count: int
    """Samples, at most."""
    explained: Explained = "none"

    def joins(self, other: Work) -> bool:
        """Whether both can be scored in one pass, with the scores that each would have alone."""
        if self.detector is not other.detector or self.explained != other.explained:
            return False
        if isinstance(self.x, pa.Table) and isinstance(other.x, pa.Table):
            return bool(self.x.schema.equals(other.x.schema))
        if isinstance(self.x, np.ndarray) and isinstance(other.x, np.ndarray):
            return self.x.dtype == other.x.dtype and self.x.shape[1:] == other.x.shape[1:]
        return isinstance(self.x, list) and isinstance(other.x, list)


class BatchFacts(NamedTuple):
    """What is measured of one pass."""

    requests: int
    samples: int
    waited_s: float
    """Of the request that waited longest."""
    took_s: float


@dataclass(frozen=True)
class _Waiting:
    work: Work
    answer: Future[Verdicts] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """Scores the work of all requests in one thread, in the order in which it came.

    Args:
        queue_s: seconds that work may wait; later it is refused.
        tell: told of each pass, in the worker's thread.
    """

    def __init__(self, queue_s: float, tell: Callable[[BatchFacts], None]) -> None:
        self._queue_s, self._tell = queue_s, tell
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._rates: dict[Detector, float] = {}  # samples a second of its last pass
        self._worker = threading.Thread(target=self._run, name="memae-scoring", daemon=True)
        self._worker.start()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._worker.is_alive()

    def submit(self, work: Work) -> Future[Verdicts]:
        """The decisions, once they are made; raises what `Detector.detect` raises, or RefusedError."""
        waiting = _Waiting(work)
        with self._changed:
            if self._closed:
                raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is about to stop; try again later")
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.answer

    def close(self) -> None:
        """Answers all that waits, and ends the worker."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.join()

    def _run(self) -> None:
        while batch := self._next():
            start = time.monotonic()
            alive = [one for one in batch if self._starts(one, start)]
            if not alive:
                continue
            _answer(alive)
            samples, since = sum(one.work.count for one in alive), min(one.since for one in alive)
            took = time.monotonic() - start
            self._rates[alive[0].work.detector] = samples / max(took, 1e-9)
            self._tell(BatchFacts(len(alive), samples, start - since, took))

    def _next(self) -> list[_Waiting]:
        """The oldest work and what joins it; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            first = self._waiting.popleft()
            batch, left, samples = [first], deque[_Waiting](), first.work.count
            most = self._most(first.work)
            for one in self._waiting:
                if first.work.joins(one.work) and samples + one.work.count <= most:
                    batch.append(one)
                    samples += one.work.count
                else:
                    left.append(one)
            self._waiting = left
            return batch

    def _most(self, work: Work) -> int:
        """Samples to be scored together.

        Fewer for a slow model, so that nobody waits for a long pass. And half of what waits, so that clients who send
        again once they are answered do so while the other half is scored, and the worker never waits for all of them.
        """
        if work.explained != "none":
            return EXPLAINED
        half = (work.count + sum(one.work.count for one in self._waiting)) // 2
        return max(LEAST, min(half, int(PASS_S * self._rates.get(work.detector, 0.0)), MOST))

    def _starts(self, one: _Waiting, now: float) -> bool:
        """Whether someone still waits for it; what waited too long is refused."""
        if not one.answer.set_running_or_notify_cancel():
            return False
        if now - one.since > self._queue_s:
            detail = f"no time for it within {self._queue_s:g} s; try again later"
            one.answer.set_exception(RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, detail))
            return False
        return True


def _answer(batch: Sequence[_Waiting]) -> None:
    """Scores all in one pass; where that fails, each alone, so that bad samples fail their own request only."""
    try:
        verdicts = _detect(_joined([one.work for one in batch]))
    except MemaeError as error:
        if len(batch) == 1:
            batch[0].answer.set_exception(error)
            return
        for one in batch:
            _answer([one])
    except Exception as error:  # any other is a defect: its request gets it, and the worker goes on
        for one in batch:
            one.answer.set_exception(error)
    else:
        start = 0
        for one in batch:
            stop = len(verdicts) if len(batch) == 1 else start + one.work.count
            one.answer.set_result(_part(verdicts, start, stop))
            start = stop


def _detect(work: Work) -> Verdicts:
    return work.detector.detect(work.x, explained=work.explained)


def _joined(works: Sequence[Work]) -> Work:
    if len(works) == 1:
        return works[0]
    parts: list[Any] = [work.x for work in works]  # all of one type, see `Work.joins`
    if isinstance(parts[0], pa.Table):
        return replace(works[0], x=pa.concat_tables(parts))
    if isinstance(parts[0], np.ndarray):
        return replace(works[0], x=np.concatenate(parts))
    return replace(works[0], x=[path for part in parts for path in part])


def _part(verdicts: Verdicts, start: int, stop: int) -> Verdicts:
    """The decisions on samples from `start` to before `stop`."""
    keys = verdicts.keys[start:stop]
    own = set(keys)
    return replace(
        verdicts,
        keys=keys,
        scores=verdicts.scores[start:stop],
        p_values=verdicts.p_values[start:stop],
        is_anomaly=verdicts.is_anomaly[start:stop],
        explanations=tuple(one for one in verdicts.explanations if one.key in own),
        regions=verdicts.regions and {key: found for key, found in verdicts.regions.items() if key in own},
        drift=None,
        categories=verdicts.categories and verdicts.categories.take(slice(start, stop)),
    )
