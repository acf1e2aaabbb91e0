"""Normal samples in three disjoint parts: for training, for early stopping, and for the threshold.

A threshold from scores that chose the epoch would promise too much, so no part serves two purposes. A group, such as
the photographs of one part or the rows of one host, never lies in two of them: the promise is then one for new groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memae.config import Config
from memae.errors import DataError
from memae.threshold import check_parts
from memae.training.loop import local_seed

__all__ = ["Split", "counted", "counted_groups", "deal", "split"]


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
    generator = torch.Generator().manual_seed(local_seed(seed, 0))
    order = torch.randperm(samples, generator=generator)
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
    A part that would stay empty gets the smallest group that is left.

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
        training = np.flatnonzero(parts == 0)
        if share and not (parts == part).any() and len(training) > 1:
            parts[training[sizes[training].argmin()]] = part
    return parts


def counted_groups(groups: np.ndarray, parts: Split) -> dict[str, int]:
    """How many groups (S,) there are, and in each part, as the facts of a model name them."""
    sizes = (len(np.unique(groups[part.numpy()])) for part in parts)
    return {"all": len(np.unique(groups)), **counted(*sizes)}


def counted(training: int, validation: int, calibration: int) -> dict[str, int]:
    """The sizes of the parts, as the facts of a model name them."""
    return {"training": training, "held_out": validation, "calibration": calibration}
