"""How good scores and decisions are, where labels exist, with bootstrap intervals.

The parts that images and video build their own figures from are here, too: one bootstrap, one set of curves over all
thresholds, and one histogram of scores.
"""

from memae.metrics.curves import Curves, ScoreHistogram, area_share, average_precision
from memae.metrics.intervals import RESAMPLES, Estimate, Figures, bootstrap
from memae.metrics.labels import Labels, anomaly_labels, read_labels
from memae.metrics.samples import Evaluation, ResultTable, SampleMeter, auroc, evaluate, figures_of, rows_of

__all__ = [
    "RESAMPLES",
    "Curves",
    "Estimate",
    "Evaluation",
    "Figures",
    "Labels",
    "ResultTable",
    "SampleMeter",
    "ScoreHistogram",
    "anomaly_labels",
    "area_share",
    "auroc",
    "average_precision",
    "bootstrap",
    "evaluate",
    "figures_of",
    "read_labels",
    "rows_of",
]
