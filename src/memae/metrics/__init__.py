"""How good scores and decisions are, where labels exist, with bootstrap intervals.

`samples` compares scores and verdicts with `labels`, and `kinds` those of each kind of anomaly. Images and video build
their own figures from `intervals`, the bootstrap, and from `curves`, what lies above each threshold.
"""

from memae.metrics.choosing import ChosenThreshold, choose_threshold
from memae.metrics.intervals import Estimate
from memae.metrics.kinds import KindEvaluation
from memae.metrics.labels import Labels, anomaly_labels, read_labels
from memae.metrics.samples import Evaluation, SampleMeter, auroc, evaluate
from memae.metrics.tables import ResultTable

__all__ = [
    "ChosenThreshold",
    "Estimate",
    "Evaluation",
    "KindEvaluation",
    "Labels",
    "ResultTable",
    "SampleMeter",
    "anomaly_labels",
    "auroc",
    "choose_threshold",
    "evaluate",
    "read_labels",
]
