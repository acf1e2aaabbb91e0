"""What Prometheus reads from a watch: base units, and cameras by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from memae.live.message import EventMessage, Message, ScoreMessage, StatusMessage
from memae.live.sinks import Outbox, OutboxFacts

__all__ = ["Metrics"]

LAGS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PASSES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counts and times of one watch, in a registry of its own. Any thread may call it.

    `put` takes the messages of the watch as an outbox does.

    Args:
        outboxes: those that the messages go to, whose failures are counted.
    """

    def __init__(self, outboxes: Sequence[Outbox] = ()) -> None:
        self._registry = made = CollectorRegistry()
        by_source = ["source"]
        self._frames = Counter("memae_frames", "Frames that arrived.", by_source, registry=made)
        self._dropped = Counter(
            "memae_frames_dropped", "Frames that were not scored.", ["source", "reason"], registry=made
        )
        self._reconnects = Counter("memae_reconnects", "Connections after the first.", by_source, registry=made)
        self._up = Gauge("memae_source_up", "1 while frames arrive.", by_source, registry=made)
        self._score = Gauge("memae_score", "Score of the last frame.", by_source, registry=made)
        self._threshold = Gauge("memae_threshold", "Score that begins an event.", by_source, registry=made)
        self._events = Counter("memae_events", "Events that began.", by_source, registry=made)
        self._lag = Histogram(
            "memae_lag_seconds", "From a frame to its score.", by_source, buckets=LAGS_S, registry=made
        )
        self._inference = Histogram(
            "memae_inference_seconds", "Duration of each pass of the model.", buckets=PASSES_S, registry=made
        )
        made.register(_Outboxes(outboxes))

    def arrived(self, source: str, frames: int = 1) -> None:
        """Counts frames of a camera."""
        self._frames.labels(source).inc(frames)

    def dropped(self, source: str, reason: str, frames: int = 1) -> None:
        """Counts frames that were not scored, for a short reason such as "slow" or "corrupt"."""
        self._dropped.labels(source, reason).inc(frames)

    def reconnected(self, source: str) -> None:
        """Counts a connection after the first."""
        self._reconnects.labels(source).inc()

    def scored(self, source: str, lag_s: float) -> None:
        """Notes the time from a frame to its score."""
        self._lag.labels(source).observe(lag_s)

    def passed(self, took_s: float) -> None:
        """Notes one pass of the model, over the clips of all cameras."""
        self._inference.observe(took_s)

    def put(self, message: Message) -> None:
        """Takes what a message tells of its camera."""
        match message:
            case EventMessage(type="new"):
                self._events.labels(message.source).inc()
            case StatusMessage():
                self._up.labels(message.source).set(message.is_up)
            case ScoreMessage():
                self._score.labels(message.source).set(message.score)
                self._threshold.labels(message.source).set(message.threshold)

    def text(self) -> bytes:
        """All of them, in the text format of Prometheus."""
        return generate_latest(self._registry)


class _Outboxes(Collector):
    """What outboxes have counted, read when Prometheus asks."""

    FACTS: tuple[tuple[type, str, str, Callable[[OutboxFacts], int]], ...] = (
        (CounterMetricFamily, "sent", "Messages that a sink has.", lambda facts: facts.sent),
        (CounterMetricFamily, "failures", "Attempts that failed.", lambda facts: facts.failures),
        (CounterMetricFamily, "lost", "Messages of events that a sink will never have.", lambda facts: facts.lost),
        (GaugeMetricFamily, "waiting", "Messages that are still to be sent.", lambda facts: facts.waiting),
    )

    def __init__(self, outboxes: Sequence[Outbox]) -> None:
        self._outboxes = outboxes

    def collect(self) -> Iterator[Metric]:
        found = [(outbox.name, outbox.facts) for outbox in self._outboxes]
        for family, what, said, count in self.FACTS:
            metric = family(f"memae_sink_{what}", said, labels=["sink"])
            for name, facts in found:
                metric.add_metric([name], count(facts))
            yield metric
