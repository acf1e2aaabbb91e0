"""What Prometheus reads from the service."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from memae.serve.batching import BatchFacts
from memae.types import Verdicts

__all__ = ["Metrics"]

SIZES = (1, 4, 16, 64, 256, 1024, 4096)


class Metrics:
    """Counts and times of one service, in a registry of its own."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._answers = Counter("memae_answers", "Answers by status of HTTP.", ["status"], registry=registry)
        self._samples = Counter("memae_samples", "Samples that were scored.", ["model"], registry=registry)
        self._anomalies = Counter("memae_anomalies", "Samples above the threshold.", ["model"], registry=registry)
        self._waited = Histogram("memae_queue_seconds", "Longest wait of each pass.", registry=registry)
        self._took = Histogram("memae_scoring_seconds", "Duration of each pass.", registry=registry)
        self._size = Histogram("memae_batch_samples", "Samples of each pass.", buckets=SIZES, registry=registry)
        self._joined = Histogram(
            "memae_batch_requests", "Requests of each pass.", buckets=SIZES, registry=registry
        )
        Gauge("memae_waiting_requests", "Requests in the queue.", registry=registry).set_function(waiting)

    def answered(self, status: int) -> None:
        """Counts an answer."""
        self._answers.labels(str(status)).inc()

    def scored(self, model: str, verdicts: Verdicts) -> None:
        """Counts the samples of an answer."""
        self._samples.labels(model).inc(len(verdicts))
        self._anomalies.labels(model).inc(int(verdicts.is_anomaly.sum()))

    def passed(self, facts: BatchFacts) -> None:
        """Notes one pass of the worker."""
        self._waited.observe(facts.waited_s)
        self._took.observe(facts.took_s)
        self._size.observe(facts.samples)
        self._joined.observe(facts.requests)

    def text(self) -> bytes:
        """All of them, in the text format of Prometheus."""
        return generate_latest(self._registry)
