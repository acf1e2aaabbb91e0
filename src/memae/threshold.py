"""The decision: a threshold from held-out normal scores for a wanted false-alarm rate. No label enters.

With n calibration scores exchangeable with the normal samples to come, the conformal p-value of a score s,

    p(s) = (1 + #{ i : c_i >= s }) / (n + 1),

is at most a with probability at most a (Vovk et al. 2005; Bates et al., Annals of Statistics 2023). The least p-value
is 1 / (n + 1): a rate below that cannot be promised. That holds on average over all draws of the n scores; a user has
one draw. Flagging p <= k / (n + 1) flags a share of normal samples that is Beta(k, n - k + 1) distributed over the
draws (Vovk 2012). So the largest k whose quantile at the confidence lies below the wanted rate holds it with that
confidence.

Samples of one group, such as the photographs of one part, resemble each other, so n of them are less evidence than n
samples of their own. With G exchangeable groups, of which group g has the n_g scores c_gj, the p-value

    p(s) = (1 + sum over g of #{ j : c_gj >= s } / n_g) / (G + 1)

holds for a random sample of a new group (Dunn, Wasserman and Ramdas 2022; Lee, Barber and Willett 2023). Where each
sample is its own group, the two are the same.

Where a share of anomalies is believed to be among the scores, that share of the highest is left out first. If these are
the anomalies, all of the above holds. If no anomaly is among the scores, the rate may be that share higher.

Below 1 / rate groups that p-value never gets as low as the rate. Then a model of random effects takes its place, which
assumes more: see `memae.random_effects`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from memae.categories import HeldOutCategories, SampleCategories
from memae.category_threshold import CategoryThreshold
from memae.config import Config, ThresholdConfig
from memae.errors import ConfigError, DataError
from memae.random_effects import RandomEffects

__all__ = [
    "DEFAULT_RATE",
    "Threshold",
    "check_count",
    "check_group_count",
    "check_parts",
    "highest",
    "needed_samples",
    "reachable_rate",
]

DEFAULT_RATE = 0.01
FEWEST = 6  # samples of all three parts: with fewer a threshold promises nothing that one could use
TOO_FEW = ", too few to train on, stop early on and set a threshold on; give at least 20, better 200 normal ones"
FAR_ABOVE = 2.0  # the highest held-out score: such a threshold rarely flags anything


@dataclass(frozen=True)
class Threshold:
    """Held-out normal scores and the wanted false-alarm rate; the threshold follows from both."""

    false_alarm_rate: float
    calibration: np.ndarray
    """(n,) float64 scores of normal samples that no training saw, ascending."""
    groups: np.ndarray | None = None
    """(n,) int64: the number of the group of each of these scores; None: each is its own."""
    confidence: float | None = None
    """Probability that the rate is held, over the draw of the calibration scores; None: it is held on average."""
    at: float | None = None
    """The threshold where somebody set it by hand; the rate is then what the calibration scores say of it."""
    categories: HeldOutCategories | None = None
    """The category of each of these scores, where the model knows several kinds of normal; see `of_category`."""

    @classmethod
    def fit(
        cls,
        scores: np.ndarray,
        false_alarm_rate: float | None = None,
        groups: np.ndarray | None = None,
        confidence: float | None = None,
        categories: HeldOutCategories | None = None,
    ) -> Threshold:
        """The threshold behind scores of held-out normal samples.

        Args:
            scores: (n,) of normal samples that neither training nor early stopping saw.
            false_alarm_rate: wanted share of normal samples flagged; None asks for 0.01, or, without groups, for the
                lowest rate that n samples can promise.
            groups: (n,) the number of the group of each sample; None: each is its own.
            confidence: see the attribute.
            categories: of each sample; None: all are of one.

        Raises:
            ConfigError: there is no score; all are of one group; without groups, n samples cannot promise the wanted
                rate.
            DataError: a score is NaN or infinite.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if bad := int(np.count_nonzero(~np.isfinite(scores))):
            raise DataError(
                f"{bad:,} of {len(scores):,} held-out normal samples have no finite score, as the training went "
                "astray; lower train.learning_rate"
            )
        order = np.argsort(scores, kind="stable")
        kept = None if categories is None else categories.take(order)
        if groups is None or not len(scores):
            rate = reachable_rate(len(scores), false_alarm_rate, confidence)
            return cls(rate, scores[order], None, confidence, categories=kept)
        check_group_count(len(np.unique(groups)))
        rate = DEFAULT_RATE if false_alarm_rate is None else false_alarm_rate
        return cls(rate, scores[order], np.asarray(groups, dtype=np.int64)[order], confidence, categories=kept)

    @classmethod
    def by(
        cls,
        settings: ThresholdConfig,
        scores: np.ndarray,
        groups: np.ndarray | None = None,
        categories: HeldOutCategories | None = None,
    ) -> Threshold:
        """`fit` with the settings of a section [threshold], without the highest scores that these leave out."""
        kept = len(scores) - highest(len(scores), settings.contamination)
        if kept < len(scores) and np.isfinite(scores).all():
            order = np.argsort(scores, kind="stable")[:kept]
            scores, groups = scores[order], None if groups is None else groups[order]
            categories = None if categories is None else categories.take(order)
        return cls.fit(scores, settings.false_alarm_rate, groups, settings.confidence or None, categories)

    def moved(self, *, false_alarm_rate: float | None = None, at: float | None = None) -> Threshold:
        """The threshold of the same calibration scores for another rate, or at a score that is set by hand.

        Args:
            false_alarm_rate: wanted share of normal samples flagged.
            at: scores above this are anomalies; `false_alarm_rate` becomes the p-value of the next larger score.

        Raises:
            ConfigError: both or none of the two; a rate that the scores cannot promise; `at` is not finite.
        """
        if (false_alarm_rate is None) == (at is None):
            raise ConfigError("a threshold moves to a false-alarm rate or to a score; give one of the two")
        if at is not None:
            if not math.isfinite(at):
                raise ConfigError(f"a threshold of {at} flags nothing or everything; give a finite score")
            below_all = self.group_count / (self.group_count + 1)  # where all are flagged; a rate is below 1
            rate = min(below_all, float(self.p_values(np.nextafter([at], math.inf))[0]))
            return replace(self, false_alarm_rate=rate, at=float(at))
        assert false_alarm_rate is not None
        if not 0 < false_alarm_rate < 1:
            raise ConfigError(f"a false-alarm rate of {false_alarm_rate:g} is no share; give one between 0 and 1")
        if self.groups is None:
            reachable_rate(len(self.calibration), false_alarm_rate, self.confidence)
        return replace(self, false_alarm_rate=false_alarm_rate, at=None)

    @cached_property
    def value(self) -> float:
        """Scores above this are anomalies."""
        if self.at is not None:
            return self.at
        if self._effects:
            return self._effects.value(self.level)
        calibration = self.calibration
        p_values = self._conformal(
            np.searchsorted(calibration, calibration, side="right")
        )  # just above each score
        allowed = np.flatnonzero(p_values <= self.level)
        return float(calibration[allowed[0]]) if len(allowed) else math.inf

    @cached_property
    def level(self) -> float:
        """The p-value up to which a sample is flagged: the wanted rate, or less where a confidence is asked for."""
        if self.confidence is None or self.group_count < needed_samples(self.false_alarm_rate):
            return self.false_alarm_rate
        return _held_rank(self.group_count, self.false_alarm_rate, self.confidence) / (self.group_count + 1)

    @cached_property
    def group_count(self) -> int:
        """G: of the groups behind the scores; each sample is its own where no groups were given."""
        return len(self.calibration) if self.groups is None else len(np.unique(self.groups))

    @property
    def caveat(self) -> str | None:
        """What to expect where there are too few groups for a promise without assumptions; None where it holds."""
        if not self._effects or self.at is not None:
            return None
        rate, needed, highest_seen = (
            self.false_alarm_rate,
            needed_samples(self.false_alarm_rate),
            self.calibration[-1],
        )
        if self.value > FAR_ABOVE * highest_seen > 0:
            expected = (
                f"It lies at {self.value / highest_seen:.0f} times the highest held-out score, so expect few alarms or "
                "none; give more groups, ask for a higher rate, or set the threshold to a score of your own"
            )
        else:
            expected = "Expect most false alarms in a few of the new groups"
        return (
            f"{self.group_count:,} held-out groups are too few to promise a false-alarm rate of {rate:g} without "
            f"assumptions, which takes {needed:,}; the threshold assumes that the levels of groups are normally "
            f"distributed. {expected}"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """For a machine: value, rate, whether it was set by hand, number of groups where there are such, and caveat.

        With several categories those of each, too.
        """
        return {
            **({"categories": [one.facts for one in self.of_categories]} if self.categories else {}),
            "value": self.value,
            "false_alarm_rate": self.false_alarm_rate,
            "set_by_hand": self.at is not None,
            "groups": None if self.groups is None else self.group_count,
            "caveat": self.caveat,
        }

    @property
    def of_categories(self) -> list[CategoryThreshold]:
        """The threshold of each category that is given; empty where the model knows one kind of normal."""
        if self.categories is None:
            return []
        return [self.of_category(number, given=True) for number in range(len(self.categories.names))]

    def of_category(self, number: int, *, given: bool) -> CategoryThreshold:
        """The threshold for samples of a category that was given, or that the model takes for it."""
        assert self.categories is not None, "who knows the number of a category has looked"
        if (number, given) not in self._of_categories:
            of = self.categories.given if given else self.categories.taken
            rows = of == number
            groups = None if self.groups is None else self.groups[rows]
            own = replace(self, calibration=self.calibration[rows], groups=groups, categories=None)
            needed = needed_samples(self.false_alarm_rate)
            self._of_categories[number, given] = CategoryThreshold(number, self, own, needed)
        return self._of_categories[number, given]

    @cached_property
    def _of_categories(self) -> dict[tuple[int, bool], CategoryThreshold]:
        return {}

    def p_values(self, scores: np.ndarray, categories: SampleCategories | None = None) -> np.ndarray:
        """(S,) p-values of scores (S,): small where a normal sample, of the same category, rarely scores so high."""
        if categories is not None and self.categories is not None:
            found = np.empty(len(scores))
            for number, given, rows in categories.alike():
                found[rows] = self.of_category(number, given=given).p_values(scores[rows])
            return found
        if self._effects:
            return self._effects.p_values(np.asarray(scores, dtype=np.float64))
        return self._conformal(np.searchsorted(self.calibration, scores, side="left"))

    def values(self, samples: int, categories: SampleCategories | None = None) -> np.ndarray:
        """(S,) the threshold of each of so many samples."""
        found = np.full(samples, self.value)
        if categories is not None and self.categories is not None:
            for number, given, rows in categories.alike():
                found[rows] = self.of_category(number, given=given).value
        return found

    def flags(self, scores: np.ndarray, categories: SampleCategories | None = None) -> np.ndarray:
        """(S,) bool: the anomalies, which are the scores above `value`, where the p-value is at most `level`."""
        return np.asarray(scores) > (self.value if categories is None else self.values(len(scores), categories))

    def _conformal(self, places: np.ndarray) -> np.ndarray:
        """(S,) p-values of scores that lie before these places (S,) of the calibration scores."""
        p_values: np.ndarray = (1 + self._above[places]) / (self.group_count + 1)
        return p_values

    @cached_property
    def _above(self) -> np.ndarray:
        """(n + 1,) the sum over the groups of the share of their scores from each place of `calibration` on."""
        if self.groups is None:
            return np.arange(len(self.calibration), -1, -1)
        _, group, sizes = np.unique(self.groups, return_inverse=True, return_counts=True)
        return np.append(np.cumsum(1 / sizes[group[::-1]])[::-1], 0.0)

    @cached_property
    def _effects(self) -> RandomEffects | None:
        """What takes the place of the conformal p-value where there are too few groups for it."""
        if self.groups is None or self.group_count >= needed_samples(self.false_alarm_rate):
            return None
        return RandomEffects.fit(self.calibration, self.groups)


def _held_rank(samples: int, rate: float, confidence: float) -> int:
    """The largest k with P(Beta(k, samples - k + 1) <= rate) >= confidence, and at least 1.

    The share of normal samples above the k-th largest of so many scores has that distribution, and its probability is
    that of at least k successes in `samples` trials of probability `rate`.
    """
    count = math.floor(rate * (samples + 1))
    logarithms = [
        math.lgamma(samples + 1)
        - math.lgamma(k + 1)
        - math.lgamma(samples - k + 1)
        + k * math.log(rate)
        + (samples - k) * math.log1p(-rate)
        for k in range(count)
    ]
    fewer = np.cumsum(np.exp(logarithms))  # than k successes, for k from 1 on
    return max(1, int(np.count_nonzero(1 - fewer >= confidence)))


def highest(samples: int, contamination: float) -> int:
    """How many of so many scores are left out as the believed share of anomalies."""
    return math.floor(contamination * samples)


def needed_samples(false_alarm_rate: float) -> int:
    """How many held-out normal samples it takes to promise a false-alarm rate."""
    most = math.floor(1 / false_alarm_rate)
    return most - 1 if 1 / most <= false_alarm_rate else most


def check_group_count(held_out: int) -> None:
    """Raises an error where a threshold for new groups is to come from a single one.

    Raises:
        ConfigError: says what to do.
    """
    if held_out < 2:
        raise ConfigError(
            "one held-out group does not tell how groups differ; give more groups, raise threshold.calibration_share, "
            "or set threshold.folds = 2, which scores each group by a model that did not see it"
        )


def reachable_rate(samples: int, wanted: float | None, confidence: float | None = None) -> float:
    """The false-alarm rate that `samples` calibration scores will hold: the wanted one, or the default.

    The default is 0.01, or the lowest rate that is held: with the confidence, or on average without one.

    Raises:
        ConfigError: so few samples cannot promise what is wanted.
    """
    if samples < 1:
        raise ConfigError(
            "no normal sample is left to set the threshold from; give more data, or raise "
            "threshold.calibration_share"
        )
    if wanted is None:
        return max(
            DEFAULT_RATE, 1 / (samples + 1) if confidence is None else 1 - (1 - confidence) ** (1 / samples)
        )
    if needed_samples(wanted) > samples:
        raise ConfigError(
            f"threshold.false_alarm_rate = {wanted:g} takes at least {needed_samples(wanted):,} held-out normal "
            f"samples, and there are {samples:,}, which can promise {1 / (samples + 1):.2g} at best; give more "
            "data, raise threshold.calibration_share, or ask for a higher rate"
        )
    return wanted


def check_count(samples: int, what: str) -> None:
    """Raises a DataError where so few samples of `what` are no use, however they are split."""
    if samples < FEWEST:
        raise DataError(what + TOO_FEW)


def check_parts(
    training: int, validation: int, calibration: int, config: Config, what: str, *, grouped: bool = False
) -> None:
    """Fails before a training whose three parts are too small for what `config` asks of them.

    Args:
        training: samples to train on.
        validation: samples that stop the training.
        calibration: samples that set the threshold.
        config: of the training.
        what: the source and its size, for the message.
        grouped: the threshold comes from groups, which have one of their own where they are too few.

    Raises:
        DataError: too few samples.
        ConfigError: a false-alarm rate that so few samples cannot promise, or settings that need a part of share 0.
    """
    share, wanted = config.threshold.calibration_share, config.threshold.false_alarm_rate
    needs_validation = bool(config.train.patience)
    if needs_validation and not config.train.validation_share:
        raise ConfigError(
            "train.patience needs held-out samples: raise train.validation_share, or set train.patience=0"
        )
    if share:
        check_count(training + validation + calibration, what)
    if training < 2 or (share and not calibration) or validation < needs_validation:
        raise DataError(what + TOO_FEW)
    if calibration:
        if not grouped:
            reachable_rate(calibration - highest(calibration, config.threshold.contamination), wanted)
    elif wanted is not None:
        raise ConfigError(
            f"threshold.false_alarm_rate = {wanted:g} needs held-out samples: raise "
            "threshold.calibration_share above 0"
        )
