"""What Prometheus reads, by the parser of its client library."""

from prometheus_client.parser import text_string_to_metric_families

from memae.live.message import ScoreMessage, StatusMessage
from memae.live.metrics import Metrics
from memae.live.sinks import Outbox
from memae.live.sinks.webhook import WebhookSettings, WebhookSink
from tests.live.sinks.receiver import receiver
from tests.live.sinks.small_messages import event, wait_for


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_all_that_a_watch_tells_is_there_under_its_name() -> None:
    metrics = Metrics()
    metrics.arrived("yard", 3)
    metrics.dropped("yard", "slow")
    metrics.reconnected("yard")
    metrics.scored("yard", 0.2)
    metrics.passed(0.03)
    for message in (
        event("new"),
        event("update"),
        event("end"),
        StatusMessage("yard", 1.0, is_up=True),
        ScoreMessage("yard", 1.0, 0.5, 1.5),
    ):
        metrics.put(message)
    found = values(metrics)
    assert found["memae_frames_total", "yard"] == 3
    assert found["memae_frames_dropped_total", "slow", "yard"] == 1
    assert found["memae_reconnects_total", "yard"] == 1
    assert found["memae_source_up", "yard"] == 1
    assert (found["memae_score", "yard"], found["memae_threshold", "yard"]) == (0.5, 1.5)
    assert found["memae_events_total", "yard"] == 1
    assert found["memae_lag_seconds_bucket", "0.1", "yard"] == 0
    assert found["memae_lag_seconds_bucket", "0.25", "yard"] == 1
    assert found["memae_inference_seconds_sum",] == 0.03
    metrics.put(StatusMessage("yard", 2.0, is_up=False))
    assert values(metrics)["memae_source_up", "yard"] == 0


def test_failures_of_a_sink_are_counted() -> None:
    with receiver(lambda one: (400, {})) as port:
        address = f"http://me:hunter22@127.0.0.1:{port}/"
        outbox = Outbox(WebhookSink(WebhookSettings.of({"url": address, "name": "hook"}, "sink")))
        metrics = Metrics([outbox])
        outbox.put(event("new"))
        wait_for(lambda: outbox.facts.failures == 1)
        outbox.close()
    found = values(metrics)
    assert (found["memae_sink_failures_total", "hook"], found["memae_sink_lost_total", "hook"]) == (1, 1)
    assert (found["memae_sink_sent_total", "hook"], found["memae_sink_waiting", "hook"]) == (0, 0)
    assert b"hunter22" not in metrics.text()
