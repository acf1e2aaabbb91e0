"""Verdicts on rows held against a column of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memae.metrics import SampleMeter, read_labels
from memae.modality import Judged
from memae.progress import Progress

__all__ = ["evaluate"]


def evaluate(detector: Any, source: Any, options: Mapping[str, Any], progress: Progress | None) -> Judged:
    """See `memae.modality.Modality.evaluate`; options: those, and `skip_bad`, `drop`."""
    column, skip_bad = options.get("label_column"), bool(options.get("skip_bad"))
    labels = read_labels(source, column, options.get("normal") or (), skip_bad=skip_bad)
    samples = source.without([*((column,) if column else ()), *options.get("drop", ())])
    meter = SampleMeter(labels, source.origin)
    for part in detector.stream(samples, skip_bad=skip_bad, progress=progress):
        meter.add(part.keys, part.scores, part.is_anomaly, part.skipped)
    wanted = detector.threshold.false_alarm_rate
    return Judged(meter.result(wanted_false_alarm_rate=wanted, progress=progress), meter.left_out())
