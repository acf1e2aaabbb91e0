"""How good scores and decisions are, where labels exist, with bootstrap intervals.

`samples` compares scores and verdicts with `labels`. Images and video build their own figures from `intervals`, the
bootstrap, and from `curves`, what lies above each threshold.
"""

from memae.metrics.intervals import Estimate
from memae.metrics.labels import Labels, anomaly_labels, read_labels
from memae.metrics.samples import Evaluation, ResultTable, SampleMeter, auroc, evaluate

__all__ = [
    "Estimate",
    "Evaluation",
    "Labels",
    "ResultTable",
    "SampleMeter",
    "anomaly_labels",
    "auroc",
    "evaluate",
    "read_labels",
]
