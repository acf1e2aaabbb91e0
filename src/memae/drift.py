"""Whether what is scored still is of the kind that the threshold was set for. A warning, and never an error.

A threshold holds for samples like the held-out normal ones. Two things tell that the normal samples have changed:

- **Scores.** Anomalies raise the highest scores; drift moves all of them. Of normal samples, a tenth, a half and nine
  tenths score below these quantiles of the held-out scores. Half of the samples may be anomalies without a word: drift
  is where less than half of such a share lies below its quantile, or of the rest above it.
- **Item use.** Each sample shares its reads among the memory items. The total variation between the mean shares of the
  samples at hand and those of held-out normal samples is the least share of reads that go to other items. Samples that
  are flagged do not count. To see it in spite of chance, one half of the samples says which items are read more and
  which less, and the other half is tested for just that; each half in turn.

Neighbours may depend on each other, as the frames of a video do. So a mean is judged by the means of 16 to 31 blocks of
neighbours (batch means; Schmeiser, Operations Research 1982), with Student's t. Where held-out samples have an order,
the mean of few samples is not taken as surer than theirs, by the number of samples. A warning takes a difference that
exceeds the margin beyond chance. Where blocks are independent, each of the two is given falsely for at most 1 of 1,000
passes over normal samples, and less where nothing has moved, because the margin comes on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["LEAST_BLOCKS", "Drift", "DriftWatch", "item_use", "looked_at"]

LEAST_SAMPLES = 50
LEAST_BLOCKS = 16
RISK = 0.001  # of a false warning, of each of the two
LEVELS = np.array([0.1, 0.5, 0.9])  # quantiles of held-out scores, below which the share of the samples is taken
USE_MARGIN = 0.1  # of total variation: a tenth of the reads may move
ALL_OF, EACH = 1024, 64  # samples that are asked what they read: the first, then one of so many
ANSWERS_BYTES = 16 << 20  # of what the first of them give to the items: of many items one of several is asked
NONE = np.empty(0, dtype=int)


@dataclass(frozen=True)
class Drift:
    """How samples compare with the held-out normal ones."""

    samples: int
    """That were scored so far."""
    above_threshold: float
    """Share of them that are flagged."""
    below_median: float
    """Share that scores below the median of held-out normal scores; about 0.5 of normal samples."""
    scores_moved: bool
    """That share, or that below another quantile, has moved beyond chance; see `memae.drift`."""
    item_distance: float | None
    """Total variation, 0 to 1, between the item use of these and of held-out normal samples, less what is due to
    chance; None where it is not known."""
    items_moved: bool
    """It exceeds 0.1 beyond chance."""

    @property
    def note(self) -> str | None:
        """What to tell who scores; None if nothing has moved."""
        found = []
        if self.scores_moved:
            found.append(
                f"{self.below_median:.0%} of the samples score below the median of held-out normal scores, where about "
                "50% of normal samples do"
            )
        if self.items_moved and self.item_distance is not None:
            found.append(
                f"samples that are not flagged read other memory items than normal samples do: "
                f"{self.item_distance:.0%} of the reads have moved"
            )
        if not found:
            return None
        return (
            f"these samples are unlike those that the threshold was set from: {'; and '.join(found)}. Unless most of "
            "them are anomalies, the data has changed (units, light, sensor, mix), and the false-alarm rate no longer "
            "holds; look at some, and train again if they are normal"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """For a machine."""
        return asdict(self)


class Blocks:
    """Means of blocks of neighbours in constant memory: there are 16 to 31, which double in length to remain so few."""

    def __init__(self, width: int = 1) -> None:
        self.length, self.count = 1, 0
        self._sums, self._counts = np.zeros((2 * LEAST_BLOCKS, width)), np.zeros(2 * LEAST_BLOCKS)

    def add(self, count: int, places: np.ndarray, values: np.ndarray) -> None:
        """The next `count` samples, of which those of an ascending index (P,) have values (P, D)."""
        end = self.count + count
        while end >= 2 * LEAST_BLOCKS * self.length:
            self._sums, self._counts = _in_pairs(self._sums), _in_pairs(self._counts)
            self.length *= 2
        blocks, starts = np.unique((self.count + places) // self.length, return_index=True)
        if len(blocks):
            self._sums[blocks] += np.add.reduceat(values, starts, axis=0)
            self._counts[blocks] += np.diff(starts, append=len(places))
        self.count = end

    @property
    def means(self) -> np.ndarray:
        """(B, D) of the blocks that are full and hold values."""
        full = self._counts[: self.count // self.length]
        return self._sums[: len(full)][full > 0] / full[full > 0, None]


def _in_pairs(sums: np.ndarray) -> np.ndarray:
    """The sums of neighbours, and as many zeros."""
    return np.concatenate([sums[::2] + sums[1::2], np.zeros_like(sums[::2])])


def looked_at(count: int, items: int, before: int = 0) -> np.ndarray:
    """(P,) ascending: which of `count` samples, behind so many others, are asked what they read of so many items."""
    thinned = -(-4 * items * ALL_OF // ANSWERS_BYTES) or 1
    places = np.arange(before, before + count)
    return np.flatnonzero(places % np.where(places < ALL_OF, thinned, thinned * EACH) == 0)


def item_use(count: int, shares: np.ndarray | None) -> np.ndarray | None:
    """(B, N) float32 mean shares of blocks of held-out samples, B = 16 to 31, as a `DriftWatch` takes them.

    Args:
        count: of the samples.
        shares: (P, N) what the samples of `looked_at(count, N)` give to each item; None without a memory.

    Returns:
        None without a memory, or where there are too few samples.
    """
    if shares is None or count < LEAST_SAMPLES:
        return None
    blocks = Blocks(shares.shape[1])
    blocks.add(count, looked_at(count, shares.shape[1]), shares)
    return blocks.means.astype(np.float32) if len(blocks.means) >= LEAST_BLOCKS else None


class DriftWatch:
    """Follows one pass of scoring, in constant memory.

    Args:
        normal: (n,) held-out normal scores.
        value: scores above this are flagged.
        in_order: (n,) the same scores where neighbours may depend on each other, in their order; None: they do not.
        item_use: of held-out normal samples, see `item_use`; None: unknown.
    """

    def __init__(
        self,
        normal: np.ndarray,
        value: float,
        in_order: np.ndarray | None = None,
        item_use: np.ndarray | None = None,
    ) -> None:
        self._value, self._normal_use = value, item_use
        self._quantiles = np.quantile(normal, LEVELS)
        below = self._below(normal if in_order is None else in_order)
        self._expected, self._variance = below.mean(axis=0), below.var(axis=0) / len(below)
        self._normal, self._new = Blocks(len(LEVELS)), Blocks(len(LEVELS))
        if in_order is not None:
            self._normal.add(len(below), np.arange(len(below)), below)
        self._items = 0 if item_use is None else item_use.shape[1]
        self._use = None if item_use is None else Blocks(self._items)
        self._scored, self._flagged, self._low = 0, 0, np.zeros(len(LEVELS))
        self._normal_count = 0 if in_order is None else len(in_order)

    def places(self, count: int) -> np.ndarray:
        """Which of the next `count` samples to give the reads of."""
        return NONE if self._use is None else looked_at(count, self._items, self._use.count)

    def look(self, scores: np.ndarray, shares_of: Callable[[np.ndarray], np.ndarray | None]) -> None:
        """The next samples, of scores (S,), of which any reads can be asked for; see `add`."""
        places = self.places(len(scores))
        self.add(scores, places, shares_of(places) if len(places) else None)

    def add(self, scores: np.ndarray, places: np.ndarray, shares: np.ndarray | None) -> None:
        """The next samples.

        Args:
            scores: (S,) of all; NaN of those that were left out.
            places: (P,) what `places(S)` gave.
            shares: (P, N) that these give to each item, together 1 for each; None without a memory.
        """
        scored, flagged = np.flatnonzero(~np.isnan(scores)), scores > self._value
        below = self._below(scores[scored])
        self._scored, self._low = self._scored + len(scored), self._low + below.sum(axis=0)
        self._flagged += int(flagged.sum())
        self._new.add(len(scores), scored, below)
        if self._use is not None:
            normal = ~(flagged | np.isnan(scores))[places]
            self._use.add(len(scores), places[normal], np.empty((0, 1)) if shares is None else shares[normal])

    @property
    def found(self) -> Drift | None:
        """What was found so far; None before there are 50 samples."""
        if self._scored < LEAST_SAMPLES:
            return None
        below, distance = self._low / self._scored, self._item_distance()
        chance = self._chance(self._new.means, self._normal.means, self._variance, RISK / len(LEVELS))
        rare = below < self._expected / 2 - chance  # fewer than where half of the samples are anomalies
        often = below > (1 + self._expected) / 2 + chance
        return Drift(
            self._scored,
            self._flagged / self._scored,
            float(below[1]),
            bool((rare | often).any()),
            None if distance is None else max(0.0, float(distance[0])),
            bool(distance and distance[1] > USE_MARGIN),
        )

    def _below(self, scores: np.ndarray) -> np.ndarray:
        """(S, 3) 1 where a score lies below a quantile, and a half where at it."""
        below: np.ndarray = (scores[:, None] < self._quantiles) + 0.5 * (scores[:, None] == self._quantiles)
        return below

    def _item_distance(self) -> tuple[float, float] | None:
        """Total variation of the item use, and how much of it is beyond chance."""
        normal = self._normal_use
        if self._use is None or normal is None or len(new := self._use.means) < LEAST_BLOCKS:
            return None
        found = []
        for half in range(2):
            says, tested = slice(half, None, 2), slice(1 - half, None, 2)
            direction = np.sign(new[says].mean(axis=0) - normal[says].mean(axis=0)) / 2
            # sums, as the matrix library ends the process where memory is short
            at_hand, before = ((use[tested] * direction).sum(axis=1) for use in (new, normal))
            distance = float(at_hand.mean() - before.mean())
            found.append((distance, distance - self._chance(at_hand, before)))
        distances, beyond = zip(*found, strict=True)
        return sum(distances) / 2, sum(beyond) / 2

    def _chance(
        self, new: np.ndarray, normal: np.ndarray, variance: np.ndarray | float = 0.0, risk: float = RISK
    ) -> Any:
        """(D,) how far the means of blocks (B, D) at hand and of held-out ones may lie apart by chance.

        Args:
            new: (B, D).
            normal: (R, D); without blocks their mean has a variance (D,).
            variance: the same.
            risk: of a larger difference.
        """
        from scipy.special import stdtrit  # Student t quantiles; not every command needs them

        own, fewer = new.var(axis=0, ddof=1) / len(new), len(new)
        if len(normal):
            variance, fewer = normal.var(axis=0, ddof=1) / len(normal), min(len(new), len(normal))
        if self._normal_count:  # as many neighbours depend on each other here as there
            counted = max(self._scored, self._normal_count / len(normal))
            own = np.maximum(own, variance * self._normal_count / counted)
        return stdtrit(fewer - 1, 1 - risk / 2) * np.sqrt(own + variance)
