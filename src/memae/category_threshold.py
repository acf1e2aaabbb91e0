"""The threshold of one of several kinds of normal.

A category has the p-value of its own held-out samples (Mondrian conformal prediction; Vovk, Gammerman and Shafer 2005,
section 4.5), so its normal samples are flagged at the wanted rate, however much harder another category is. Where the
category is given, its held-out samples are those that were given it; where the model takes a sample for it, they are
those that the model takes for it. So both rates hold, and the second one however often the model is wrong.

Too few held-out samples cannot promise the rate. Then a sample is flagged where it scores above all of these and above
the threshold of all categories together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from memae.threshold import Threshold

__all__ = ["CategoryThreshold"]


@dataclass(frozen=True)
class CategoryThreshold:
    """The decision on samples of one category."""

    number: int
    together: Threshold
    """Of all categories."""
    own: Threshold
    """From the held-out samples of this one, which may be none."""
    needed: int
    """Held-out samples, or groups, that the wanted rate takes."""

    @property
    def name(self) -> str:
        """Of the category."""
        assert self.together.categories is not None, "made from a threshold of several"
        return self.together.categories.names[self.number]

    @property
    def is_cautious(self) -> bool:
        """Whether its own held-out samples are too few for the rate."""
        return self.own.group_count < self.needed

    @property
    def value(self) -> float:
        """Scores above this are anomalies."""
        if self.own.at is not None or not self.is_cautious:
            return self.own.value
        return max([self.together.value, *map(float, self.own.calibration[-1:])])

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """(S,) p-values of scores (S,)."""
        if not self.is_cautious:
            return self.own.p_values(scores)
        held_out, together = self.own.calibration, self.together.p_values(scores)
        if not len(held_out):
            return together
        above = len(held_out) - np.searchsorted(held_out, scores, side="left")
        found: np.ndarray = np.maximum(above / len(held_out), together)
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """For a machine: name, value, held-out samples, the share of these that the model takes for it, caveat."""
        assert self.together.categories is not None, "made from a threshold of several"
        right = self.together.categories.named_right(self.number)
        return {
            "name": self.name,
            "value": self.value,
            "held_out": len(self.own.calibration),
            "named_right": None if math.isnan(right) else right,
            "caveat": self.caveat,
        }

    @property
    def line(self) -> str:
        """The same in words."""
        facts = self.facts
        right = "" if facts["named_right"] is None else f", {facts['named_right']:.1%} of them named right"
        return f"{self.name}: score {self.value:.6g}, from {facts['held_out']:,} held-out samples{right}"

    @property
    def caveat(self) -> str | None:
        """What to expect where its held-out samples are too few; None where the rate is promised."""
        if not self.is_cautious or self.own.at is not None:
            return None
        unit = "samples" if self.own.groups is None else "groups"
        return (
            f"{self.name}: {self.own.group_count:,} held-out {unit} are too few for a false-alarm rate of "
            f"{self.own.false_alarm_rate:g}, which takes {self.needed:,}; its threshold is cautious, at its highest "
            "held-out score or that of all categories, whichever is higher"
        )
