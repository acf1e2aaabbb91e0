"""The models that are served, and the one way from the body of a request to its decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

from fastapi.concurrency import run_in_threadpool

from memae.detector import Detector
from memae.errors import DataError, MemaeError, OutOfMemoryError
from memae.serve.batching import Batcher, Work
from memae.serve.bodies import Body
from memae.serve.metrics import Metrics
from memae.types import Explained, Verdicts
from memae.web import Limits, RefusedError

__all__ = ["Service"]

SMALL_BYTES = 1 << 16
READERS = 2  # bodies that are parsed at a time
P = ParamSpec("P")
T = TypeVar("T")


class Service:
    """All that the routes share.

    Args:
        models: fitted detectors by the names that stand in the routes.
        limits: the most that a request may have.

    Raises:
        MemaeError: a model that has no threshold, or of samples that are events in time.
    """

    def __init__(self, models: Mapping[str, Detector], limits: Limits) -> None:
        for name, detector in models.items():
            detector.threshold  # noqa: B018  raises without one
            if detector.modality.has_events:
                raise MemaeError(
                    f"{name}: a model of {detector.modality.plural} follows what comes one after another, which "
                    "separate requests do not; score files with it"
                )
        self.models, self.limits = dict(models), limits
        self.metrics = Metrics(lambda: len(self.batcher))
        self.batcher = Batcher(limits.queue_s, self.metrics.passed)
        self.schemas: dict[str, Any] = {}
        """Of bodies that the routes read themselves, for OpenAPI."""
        self._reading = asyncio.Semaphore(READERS)
        self.leaving = False
        """The server is about to stop, and a balancer should send its requests elsewhere."""

    @property
    def ready(self) -> bool:
        """Whether it takes work."""
        return self.batcher.alive and not self.leaving

    def model(self, name: str) -> Detector:
        """The model of a name.

        Raises:
            RefusedError: there is none.
        """
        if (found := self.models.get(name)) is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no model of this name is served; GET /v1/models lists them")
        return found

    async def read(self, size: int, reads: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """What a function makes of a body of so many bytes.

        Small ones are read at once, as a thread would take longer to begin; large ones in threads, few at a time, as
        parsed bodies are larger than sent ones.
        """
        if size <= SMALL_BYTES:
            return reads(*arguments, **options)
        async with self._reading:
            return await run_in_threadpool(reads, *arguments, **options)

    async def detect(self, name: str, body: Body, explained: Explained) -> Verdicts:
        """The decisions on the samples of one request, which may be scored together with those of others.

        Raises:
            RefusedError: samples that do not fit the model, or no time or memory for them.
        """
        work = Work(self.model(name), body.x, body.count, explained)
        try:
            verdicts = await asyncio.wrap_future(self.batcher.submit(work))
        except MemaeError as error:
            raise RefusedError(_status(error), body.in_words_of_client(str(error))) from None
        self.metrics.scored(name, verdicts)
        return verdicts


def _status(error: MemaeError) -> HTTPStatus:
    if isinstance(error, DataError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    if isinstance(error, OutOfMemoryError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR
