"""The decision: a threshold from held-out normal scores for a wanted false-alarm rate. No label enters.

With n calibration scores exchangeable with the normal samples to come, the conformal p-value of a score s,

    p(s) = (1 + #{ i : c_i >= s }) / (n + 1),

is at most a with probability at most a (Vovk et al. 2005; Bates et al., Annals of Statistics 2023), so flagging
p <= a holds the false-alarm rate at a. The least p-value is 1 / (n + 1): a rate below that cannot be promised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memae.config import Config
from memae.errors import ConfigError, DataError

__all__ = ["Threshold", "check_parts", "needed_samples", "reachable_rate"]

DEFAULT_RATE = 0.01
FEWEST = 6  # samples of all three parts: with fewer a threshold promises nothing that one could use


@dataclass(frozen=True)
class Threshold:
    """Held-out normal scores and the wanted false-alarm rate; the conformal threshold follows from both."""

    false_alarm_rate: float
    calibration: np.ndarray
    """(n,) float64 scores of normal samples that no training saw, ascending."""

    @classmethod
    def fit(cls, scores: np.ndarray, false_alarm_rate: float | None = None) -> Threshold:
        """The threshold behind scores of held-out normal samples.

        Args:
            scores: (n,) of normal samples that neither training nor early stopping saw.
            false_alarm_rate: wanted share of normal samples flagged; None asks for 0.01, or for the least that
                n samples can promise.

        Raises:
            ConfigError: n samples cannot promise the wanted rate.
        """
        rate = reachable_rate(len(scores), false_alarm_rate)
        return cls(rate, np.sort(np.asarray(scores, dtype=np.float64)))

    @property
    def value(self) -> float:
        """Scores above this are anomalies."""
        p_values = np.arange(1, len(self.calibration) + 1) / (len(self.calibration) + 1)
        allowed = np.count_nonzero(p_values <= self.false_alarm_rate)  # as floats, so that flags are p <= rate
        return float(self.calibration[-allowed]) if allowed else math.inf

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """(S,) conformal p-values of scores (S,): small where a normal sample rarely scores so high."""
        above = len(self.calibration) - np.searchsorted(self.calibration, scores, side="left")
        return (1 + above) / (len(self.calibration) + 1)

    def flags(self, scores: np.ndarray) -> np.ndarray:
        """(S,) bool: the anomalies, which are the scores above `value`, where the p-value is at most the rate."""
        return np.asarray(scores) > self.value


def needed_samples(false_alarm_rate: float) -> int:
    """How many held-out normal samples it takes to promise a false-alarm rate."""
    most = math.floor(1 / false_alarm_rate)
    return most - 1 if 1 / most <= false_alarm_rate else most


def reachable_rate(samples: int, wanted: float | None) -> float:
    """The false-alarm rate that `samples` calibration scores will hold: the wanted one, or the default.

    Raises:
        ConfigError: so few samples cannot promise what is wanted.
    """
    if samples < 1:
        raise ConfigError(
            "no normal sample is left to set the threshold from; give more data, or raise "
            "threshold.calibration_share"
        )
    if wanted is None:
        return max(DEFAULT_RATE, 1 / (samples + 1))
    if needed_samples(wanted) > samples:
        raise ConfigError(
            f"threshold.false_alarm_rate = {wanted:g} takes at least {needed_samples(wanted):,} held-out normal "
            f"samples, and there are {samples:,}, which can promise {1 / (samples + 1):.2g} at best; give more "
            "data, raise threshold.calibration_share, or ask for a higher rate"
        )
    return wanted


def check_parts(training: int, validation: int, calibration: int, config: Config, what: str) -> None:
    """Fails before a training whose three parts are too small for what `config` asks of them.

    Args:
        training: samples to train on.
        validation: samples that stop the training.
        calibration: samples that set the threshold.
        config: of the training.
        what: the source and its size, for the message.

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
    few = bool(share) and training + validation + calibration < FEWEST
    if few or training < 2 or (share and not calibration) or validation < needs_validation:
        raise DataError(
            f"{what}, too few to train on, stop early on and set a threshold on; give at least 20, better 200 "
            "normal ones"
        )
    if calibration:
        reachable_rate(calibration, wanted)
    elif wanted is not None:
        raise ConfigError(
            f"threshold.false_alarm_rate = {wanted:g} needs held-out samples: raise "
            "threshold.calibration_share above 0"
        )
