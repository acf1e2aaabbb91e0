"""Scores of samples that do not depend on each other: batches that fit into memory, threads, one pass over a source.

What a score is, each kind of data says itself, by a function from a batch and its reconstruction to what it makes of
them. The scorer knows no label, and of the threshold only who asks for explanations of anomalies.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from memae.autoencoder import Autoencoder, Reconstruction, mean_shares
from memae.categories import SampleCategories
from memae.engine import Rebuild, Rebuilder, available_threads, one_thread, yielding_threads
from memae.engine.batch_limit import BatchLimit
from memae.errors import DataError
from memae.memory.base import MemoryRead
from memae.memory.usage import use_counts
from memae.modality import Artifact, Request
from memae.progress import Done, Progress
from memae.types import Encoded, Explanation, ItemUse, Key, Prediction, Region, Samples, Skipped, fitting

__all__ = ["Measured", "SamplePredictor", "Scorer", "count_uses", "items_used", "p_value"]

BATCH_BYTES = 8 << 20  # of encoded input per forward pass: large enough for the matrix units, small for memory
WEIGHT_BYTES = 16 << 20  # of read weights per forward pass: larger blocks would be mapped anew for each
CHUNK_SAMPLES = 65_536  # samples read, scored and given back at a time
NONE = np.empty(0, dtype=int)


@dataclass(frozen=True)
class Measured(ABC):
    """What a kind of data makes of a batch of B samples and its reconstruction."""

    rebuilt: Reconstruction
    """The samples (B, ...) in encoded units."""

    @property
    def read(self) -> MemoryRead | None:
        """How the memory was read; None for a plain autoencoder."""
        return self.rebuilt.read

    @property
    def distances(self) -> Tensor:
        """(B,): the mean distance of a sample's queries to their nearest items."""
        assert self.read is not None, "the settings ask for distances of a memory only"
        return self.read.distance.mean(dim=1)

    @property
    @abstractmethod
    def device_scores(self) -> Tensor:
        """(B,), higher = more anomalous, on the device of the model; an exported model computes them by this, too."""

    @property
    def scores(self) -> np.ndarray:
        """(B,) float64: the same on the CPU."""
        scores: np.ndarray = self.device_scores.double().cpu().numpy()
        return scores

    def item_shares(self, rows: np.ndarray) -> np.ndarray | None:
        """(P, N) float32 shares that samples of an index (P,) give to each item; None without a memory."""
        shares = self.rebuilt.item_shares(rows.tolist())
        return None if shares is None else shares.float().cpu().numpy()


M = TypeVar("M", bound=Measured)


@dataclass(frozen=True)
class Scorer(Generic[M]):
    """A model, what becomes of its reconstructions, and how many samples fit into memory at once."""

    model: Autoencoder
    measure: Callable[[Tensor, Reconstruction], M]
    limit: BatchLimit
    weight_numbers: int = 0
    """Read weights of one sample, which may be larger than the sample itself; 0 does not count them."""
    least_for_threads: int = 1
    """Samples that are worth a second thread."""

    def batches(self, x: Encoded) -> Iterator[M]:
        """What the measure makes of encoded samples (S, ...), batch by batch, on the device of the model.

        Raises:
            OutOfMemoryError: there is no room for one sample.
        """
        return self._batches(self._rebuilder(x.shape), x, 0, len(x), self._at_once(x))

    def scores(self, x: Encoded, done: Done | None = None) -> np.ndarray:
        """(S,) float64 scores of encoded samples (S, ...); `done` is told of each batch."""
        return self.scored(x, done)[0]

    def scored(
        self,
        x: Encoded,
        done: Done | None = None,
        looked_at: np.ndarray = NONE,
        see: Callable[[M, np.ndarray, int], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """`scores`, and (P, N) the shares that the samples of an ascending index (P,) give to each item.

        `see` is given each batch, its scores and the number of its first sample, by several threads and in any order.

        On a CPU each thread takes batches of its own: threads that share every step wait for each other longer than
        they work.
        """
        on_cpu, threads = self._device.type == "cpu", available_threads()
        at_once = self._at_once(x)
        apart = on_cpu and threads > 1 and len(x) >= self.least_for_threads
        if apart:  # the read weights of all threads take no more room than those of one would
            shared = at_once // threads if self.least_for_threads > 1 else at_once
            at_once = max(1, min(shared, -(-len(x) // threads)))
        parts, shares, rebuild = [], [], self._rebuilder(x.shape, threads if apart else 1)
        with one_thread() if on_cpu else nullcontext(), _workers(threads) if apart else nullcontext() as workers:

            def scores_from(start: int) -> tuple[np.ndarray, list[np.ndarray]]:
                found, seen = [], []
                for part in self._batches(rebuild, x, start, min(start + at_once, len(x)), at_once):
                    scores = part.scores
                    first, end = np.searchsorted(looked_at, (start, start + len(scores)))
                    if first < end and (some := part.item_shares(looked_at[first:end] - start)) is not None:
                        seen.append(some)
                    if see:
                        see(part, scores, start)
                    found.append(scores)
                    start += len(scores)
                return np.concatenate(found), seen

            for scores, seen in (workers.map if workers else map)(scores_from, range(0, len(x), at_once)):
                parts.append(scores)
                shares += seen
                if done:
                    done(len(scores))
        return np.concatenate(parts) if parts else np.empty(0), np.concatenate(shares) if shares else None

    @torch.inference_mode()
    def _batches(self, rebuild: Rebuild, x: Encoded, start: int, stop: int, wanted: int) -> Iterator[M]:
        while start < stop:
            size = min(self.limit.fit(wanted), stop - start)
            try:
                with yielding_threads(rebuild):
                    batch = x[start : start + size].to(self._device)
                    part = self.measure(batch, rebuild(batch))
            except (MemoryError, RuntimeError) as error:
                self.limit.halve(error, size)
                continue
            yield part
            start += size

    def _at_once(self, x: Encoded) -> int:
        """Samples per forward pass."""
        most = fitting(x, BATCH_BYTES)
        return max(1, min(most, WEIGHT_BYTES // (4 * self.weight_numbers))) if self.weight_numbers else most

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def _rebuilder(self) -> Rebuilder:
        return Rebuilder(self.model.eval())


def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "memae-scores", torch.set_num_threads, (1,))


@dataclass(frozen=True)
class SamplePredictor(ABC, Generic[M]):
    """One pass of an artifact over samples that do not depend on each other."""

    artifact: Artifact
    scorer: Scorer[M]
    request: Request
    done: Done
    progress: Progress | None

    @abstractmethod
    def encode(self, samples: Any) -> tuple[Encoded, Mapping[int, str]]:
        """The samples as the network takes them, and the bad ones among them with the reason."""

    def at_once(self, samples: Any) -> int:
        """How many samples to encode at a time."""
        return len(samples)

    @abstractmethod
    def explained(self, samples: Any, encoded: Encoded, place: int, measured: M, row: int) -> Mapping[str, Any]:
        """The kind's own fields of the `Explanation` of sample `place`, which is row `row` of its batch."""

    @property
    def has_regions(self) -> bool:
        """Whether scores are of places, so that anomalies have regions."""
        return False

    def regions(self, key: Key, measured: M, row: int, threshold: float) -> tuple[Region, ...]:
        """See `Explanation.regions`; of places above the threshold of the sample."""
        return ()

    def said(self, samples: Any, column: str) -> Sequence[str] | None:
        """(S,) the category that the column, or the folders, say of each sample; None where they are not there."""
        return None

    def predictions(self, source: Any) -> Iterator[Prediction]:
        """The samples of a source, part by part.

        Raises:
            DataError: samples that do not fit the model, or none at all.
        """
        for samples, encoded, bad in self._encoded(source):
            skipped = tuple(Skipped(samples.keys[row], why) for row, why in bad.items())
            categories = self._categories(samples, encoded)
            if self.request.explained == "none":
                watch, shares = self.request.watch, None
                looked_at = watch.places(len(samples)) if watch else NONE
                found: dict[Key, tuple[Region, ...]] = {}
                if self.request.follow:
                    scores = self.request.follow(encoded, ~np.isin(np.arange(len(samples)), list(bad)))
                    self.done(len(scores))
                else:
                    see = partial(self._add_regions, samples, bad, found, categories) if self.has_regions else None
                    scores, shares = self.scorer.scored(encoded, self.done, looked_at, see)
                scores[list(bad)] = np.nan
                if watch:
                    watch.add(scores, looked_at, shares)
                regions = found if self.has_regions else None
                yield Prediction(samples.keys, scores, skipped, regions=regions, categories=categories)
            elif self.request.keys is None and not bad:
                for part in self._explaining(samples, encoded, categories):
                    self.done(len(part.keys))
                    yield part
            else:
                keys = self.request.keys
                kept = (row for row, key in enumerate(samples.keys) if keys is None or key in keys)
                good = np.array([row for row in kept if row not in bad])
                yield self._together(samples, encoded, good, skipped, categories)
                self.done(len(samples))

    def _categories(self, samples: Any, encoded: Encoded) -> SampleCategories | None:
        """Of the samples; None where the model knows one kind of normal."""
        recogniser = self.artifact.recogniser
        if recogniser is None:
            return None
        said = None if recogniser.column is None else self.said(samples, recogniser.column)
        return recogniser.of(self.scorer.model, encoded, said)

    def _encoded(self, source: Any) -> Iterator[tuple[Samples, Encoded, Mapping[int, str]]]:
        """Samples, encoded, and the bad ones among them and why, which is an error unless they may be skipped."""
        good, why = 0, "holds no samples"
        limit = BatchLimit("encoding", self.progress)
        for chunk in source.chunks(CHUNK_SAMPLES):
            start = 0
            while start < len(chunk):
                size = min(limit.fit(self.at_once(chunk)), len(chunk) - start)
                part = chunk if size == len(chunk) else chunk.take(np.arange(start, start + size))
                try:
                    encoded, bad = self.encode(part)
                except (MemoryError, RuntimeError) as error:
                    limit.halve(error, size)
                    continue
                good += len(part) - len(bad)
                if bad and not good:
                    why = f"holds no sample that is not bad; the first: {next(iter(bad.values()))}"
                yield part, encoded, bad
                start += size
        if not good and not getattr(source, "is_part", False):
            raise DataError(f"{source.origin}: {why}")

    def _together(
        self,
        samples: Samples,
        encoded: Encoded,
        good: np.ndarray,
        skipped: tuple[Skipped, ...],
        categories: SampleCategories | None,
    ) -> Prediction:
        """All samples as one part; only those of the index `good` can be scored or are to be."""
        keys, scores, why = samples.keys, np.full(len(samples), np.nan), list[Explanation]()
        if len(good):
            if len(good) < len(samples):
                samples, encoded = samples.take(good), encoded[torch.from_numpy(good)]
            of = categories.take(good) if categories else None
            parts = list(self._explaining(samples, encoded, of))
            scores[good] = np.concatenate([part.scores for part in parts])
            why = [one for part in parts for one in part.explanations]
        return Prediction(keys, scores, skipped, tuple(why), self._regions_of(why), categories)

    def _explaining(
        self, samples: Samples, encoded: Encoded, categories: SampleCategories | None
    ) -> Iterator[Prediction]:
        start, batches = 0, self.scorer.batches(encoded)
        while start < len(samples):
            # steps of rows are short
            with one_thread() if self.scorer.least_for_threads > 1 else nullcontext():
                measured = next(batches)
                scores = measured.scores
                keys = samples.keys[start : start + len(scores)]
                of = categories.take(slice(start, start + len(scores))) if categories else None
                rows = self.request.wanted(keys, scores, self.artifact.threshold, of)
                why = tuple(self._explanation(samples, encoded, start, measured, scores, of, row) for row in rows)
                if self.request.watch:
                    self.request.watch.look(scores, measured.item_shares)
            yield Prediction(keys, scores, explanations=why, regions=self._regions_of(why), categories=of)
            start += len(scores)

    def _add_regions(
        self,
        samples: Samples,
        bad: Mapping[int, str],
        found: dict[Key, tuple[Region, ...]],
        categories: SampleCategories | None,
        measured: M,
        scores: np.ndarray,
        start: int,
    ) -> None:
        """Adds the regions of the anomalies in a batch of samples, from number `start` on."""
        assert self.artifact.threshold is not None, "regions are of anomalies"
        of = categories.take(slice(start, start + len(scores))) if categories else None
        values = self.artifact.threshold.values(len(scores), of)
        for row in np.flatnonzero(scores > values).tolist():
            if start + row not in bad:
                key = samples.keys[start + row]
                found[key] = self.regions(key, measured, row, values[row])

    def _regions_of(self, why: Sequence[Explanation]) -> dict[Key, tuple[Region, ...]] | None:
        return {one.key: one.regions for one in why if one.regions} if self.has_regions else None

    def _explanation(
        self,
        samples: Samples,
        encoded: Encoded,
        start: int,
        measured: M,
        scores: np.ndarray,
        categories: SampleCategories | None,
        row: int,
    ) -> Explanation:
        read, key, threshold = measured.read, samples.keys[start + row], self.artifact.threshold
        of = categories.take(slice(row, row + 1)) if categories else None
        value = threshold.values(1, of)[0] if threshold else math.inf
        return Explanation(
            key=key,
            score=float(scores[row]),
            p_value=p_value(self.artifact, float(scores[row]), of),
            items=items_used(read, row, measured.rebuilt.asked) if read else (),
            regions=self.regions(key, measured, row, value) if self.has_regions else (),
            category=of.texts[0] if of else None,
            **self.explained(samples, encoded, start + row, measured, row),
        )


def p_value(artifact: Artifact, score: float, category: SampleCategories | None = None) -> float | None:
    """The conformal p-value of one score, of a sample of a category; None for a model without a threshold."""
    threshold = artifact.threshold
    return float(threshold.p_values(np.array([score]), category)[0]) if threshold else None


def count_uses(scorer: Scorer[M], x: Encoded, done: Done, see: Callable[[M], None] | None = None) -> np.ndarray:
    """(N,) how many queries of encoded samples read each item; `see` is given each batch on the way."""
    memory = scorer.model.memory
    total = torch.zeros(0 if memory is None else memory.num_items + 2, dtype=torch.long)
    for measured in scorer.batches(x):
        if measured.read is not None:
            total += use_counts(measured.read, measured.rebuilt.asked).cpu()
        if see:
            see(measured)
        done(len(measured.rebuilt.x))
    return total[:-2].numpy()


def items_used(read: MemoryRead, row: int, asked: Tensor | None = None) -> tuple[ItemUse, ...]:
    """The items that rebuilt sample `row` of a batch, strongest first; weights averaged over its queries."""
    weights = mean_shares(read.shares[row, None], None if asked is None else asked[row, None])[0].cpu()
    used = weights.nonzero().squeeze(1)
    used = used[weights[used].argsort(descending=True, stable=True)]
    return tuple(map(ItemUse, used.tolist(), weights[used].tolist()))
