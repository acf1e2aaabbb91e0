"""Normal samples in three disjoint parts: for training, for early stopping, and for the threshold.

A threshold from scores that chose the epoch would promise too much, so no part serves two purposes. A group, such as
the photographs of one part or the rows of one host, never lies in two of them: the promise is then one for new groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memae.config import Config
from memae.errors import ConfigError, DataError
from memae.threshold import DEFAULT_RATE, check_parts, needed_samples, reachable_rate
from memae.training.loop import local_seed

__all__ = ["Split", "Splits", "counted", "deal", "split", "splits"]

USUAL_FOLDS = 2


class Split(NamedTuple):
    """The rows (B,) of each part."""

    train: Tensor
    validation: Tensor
    calibration: Tensor


def split(samples: int, config: Config, seed: int, origin: str, groups: np.ndarray | None = None) -> Split:
    """The parts of so many samples, in a seeded order.

    Args:
        samples: how many.
        config: with the share of each part.
        seed: of the order.
        origin: of the samples, for messages.
        groups: (S,) the number of the group of each sample, which is never divided; None: each is its own.

    Raises:
        DataError: too few samples or groups.
        ConfigError: a false-alarm rate that so few samples cannot promise.
    """
    shares = (config.train.validation_share, config.threshold.calibration_share)
    order = _order(samples, seed)
    what = f"{origin}: holds {samples} sample{'s' * (samples != 1)}"
    if groups is None:
        validation, calibration = (round(samples * share) for share in shares)
        training = samples - calibration - validation
        check_parts(training, validation, calibration, config, what)
        return Split(*torch.split(order, [training, validation, calibration]))
    part = torch.from_numpy(_parts_of(groups, shares, seed, origin))[order]
    found = Split(*(order[part == number] for number in range(3)))
    check_parts(len(found.train), len(found.validation), len(found.calibration), config, what, grouped=True)
    return found


@dataclass(frozen=True)
class Splits:
    """How the samples of a fit are split."""

    whole: Split
    """For the model; with folds its part for the threshold is empty."""
    folds: tuple[Split, ...] = ()
    """For cross-fitting: the parts for the threshold are all samples together."""
    notes: tuple[str, ...] = ()
    """Why there are folds, for the user."""

    @property
    def counts(self) -> dict[str, int]:
        """The samples of each part, as the facts of a model name them."""
        return counted(*map(len, self._parts))

    def group_counts(self, groups: np.ndarray | None) -> dict[str, int] | None:
        """How many groups (S,) there are, and in each part; None without groups."""
        if groups is None:
            return None
        sizes = (len(np.unique(groups[part.numpy()])) for part in self._parts)
        return {"all": len(np.unique(groups)), **counted(*sizes)}

    @property
    def _parts(self) -> Split:
        """Those of the model, and what the threshold comes from in all."""
        if not self.folds:
            return self.whole
        return self.whole._replace(calibration=torch.cat([fold.calibration for fold in self.folds]))


def splits(samples: int, config: Config, seed: int, origin: str, groups: np.ndarray | None = None) -> Splits:
    """One split with a held-out part for the threshold, or one for each fold of a cross-fit.

    `threshold.folds` decides. Left open, there are two folds where groups are given and the held-out part would hold
    too few of them for the wanted false-alarm rate. Arguments and errors are those of `split`.

    Raises:
        ConfigError: more folds than groups, or groups that are too few to train without a fold.
    """
    folds, notes = config.threshold.folds, tuple[str, ...]()
    if folds is None:
        folds, notes = _usual_folds(config, seed, groups)
    if not folds:
        return Splits(split(samples, config, seed, origin, groups))
    if groups is None:
        reachable_rate(samples, config.threshold.false_alarm_rate)
    _, group, sizes = np.unique(
        np.arange(samples) if groups is None else groups, return_inverse=True, return_counts=True
    )
    unit = "samples" if groups is None else "groups"
    share = config.train.validation_share
    fold_of = _folds_of(sizes, folds, seed)
    if not _can_train(fold_of, folds, config):
        raise ConfigError(
            f"{origin}: holds {len(sizes)} {unit}, too few or too unequal ones for threshold.folds = {folds}, as each "
            f"fold trains on the others; give more {unit}, or fewer folds"
        )
    order = _order(samples, seed)
    what = f"{origin}: holds {samples} sample{'s' * (samples != 1)}"

    def parted(held_out: np.ndarray, seed: int) -> Split:
        """With these groups for the threshold."""
        part = np.full(len(sizes), 2)
        part[~held_out] = deal(sizes[~held_out], [share], seed)
        rows = torch.from_numpy(part[group])[order]
        return Split(*(order[rows == number] for number in range(3)))

    whole = parted(np.zeros(len(sizes), dtype=bool), seed)
    found = tuple(parted(fold_of == fold, local_seed(seed, fold)) for fold in range(folds))
    for fold in found:
        check_parts(len(fold.train), len(fold.validation), len(fold.calibration), config, what, grouped=True)
    return Splits(whole, found, notes)


def _usual_folds(config: Config, seed: int, groups: np.ndarray | None) -> tuple[int, tuple[str, ...]]:
    """The number of folds that is left to the data, and why."""
    share, validation = config.threshold.calibration_share, config.train.validation_share
    if groups is None or not share:
        return 0, ()
    sizes = np.unique(groups, return_counts=True)[1]
    held_out = int((deal(sizes, (validation, share), seed) == 2).sum())
    rate = config.threshold.false_alarm_rate or DEFAULT_RATE
    if held_out >= needed_samples(rate) or not _can_train(
        _folds_of(sizes, USUAL_FOLDS, seed), USUAL_FOLDS, config
    ):
        return 0, ()
    return USUAL_FOLDS, (
        f"the threshold comes from cross-fitting over {USUAL_FOLDS} folds, as {held_out:,} held-out groups would be "
        f"too few for a false-alarm rate of {rate:g}, which takes {needed_samples(rate):,}; training takes about "
        f"{USUAL_FOLDS + 1} times as long (threshold.folds = 0 holds a part out instead)",
    )


def _folds_of(sizes: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(G,) the fold of each group: largest first, each to the fold with the fewest samples so far."""
    order = np.random.default_rng(local_seed(seed, 0)).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    found, samples = np.empty(len(sizes), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for group in order.tolist():
        found[group] = samples.argmin()
        samples[found[group]] += sizes[group]
    return found


def _can_train(fold_of: np.ndarray, folds: int, config: Config) -> bool:
    """Whether each fold has groups (G,), and leaves enough of them to train on and to stop early on."""
    sizes = np.bincount(fold_of, minlength=folds)
    return bool(sizes.min() > 0 and (sizes.sum() - sizes).min() >= 1 + (config.train.validation_share > 0))


def _order(samples: int, seed: int) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(local_seed(seed, 0)))


def _parts_of(groups: np.ndarray, shares: Sequence[float], seed: int, origin: str) -> np.ndarray:
    """(S,) the part of each sample: 0 trains, the others are those of the shares."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    check_groups(len(sizes), 1 + sum(share > 0 for share in shares), origin)
    parts: np.ndarray = deal(sizes, shares, seed)[group]
    return parts


def check_groups(groups: int, parts: int, origin: str) -> None:
    """Raises an error where so many groups are too few for so many parts.

    Raises:
        DataError: says how many there are and what to do.
    """
    if groups == 1:
        raise DataError(
            f"{origin}: all samples are of one group, and a group is never divided; group by something that differs, "
            "or leave the group out"
        )
    if groups < parts:
        raise DataError(
            f"{origin}: holds {groups} groups, fewer than the {parts} parts to train on, stop early on and set a "
            "threshold on; give more groups, group more finely, or leave a part out with train.validation_share = 0"
        )


def deal(sizes: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Deals whole groups to parts, each as near to its share of the samples as whole groups allow.

    In a seeded order each group goes to the first part that comes nearer to its share by it, and else to the training.
    A part that would stay empty gets the smallest group that the training, or else another part, can spare.

    Args:
        sizes: (G,) samples of each group.
        shares: of all samples, of each part beside the training.
        seed: of the order.

    Returns:
        (G,) the part of each group: 0 trains, 1 is the part of the first share.
    """
    parts = np.zeros(len(sizes), dtype=np.int64)
    missing = [share * int(sizes.sum()) for share in shares]
    for group in np.random.default_rng(local_seed(seed, 0)).permutation(len(sizes)).tolist():
        part = next((part for part, left in enumerate(missing) if left > sizes[group] / 2), None)
        if part is not None:
            missing[part] -= sizes[group]
            parts[group] = part + 1
    for part, share in enumerate(shares, 1):
        if share and not (parts == part).any():
            counts = np.bincount(parts, minlength=len(shares) + 1)
            spared = np.flatnonzero(counts[parts] > 1)  # groups that leave others of their part behind
            if len(spared):
                parts[spared[np.lexsort((sizes[spared], parts[spared] > 0))[0]]] = part
    return parts


def counted(training: int, validation: int, calibration: int) -> dict[str, int]:
    """The sizes of the parts, as the facts of a model name them."""
    return {"training": training, "held_out": validation, "calibration": calibration}
