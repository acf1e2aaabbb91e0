"""From a model and encoded samples to error maps and scores: one finite number a sample, higher = more anomalous.

The scorer knows no label and no threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.autoencoder import Autoencoder, Reconstruction
from memae.batch_limit import BatchLimit
from memae.config import Pool
from memae.encoded import Encoded, fitting
from memae.engine import inference_form
from memae.image.tiles import Tiles
from memae.losses import squared_error
from memae.memory.base import Memory, MemoryRead
from memae.stages import Advance
from memae.types import Key, Skipped

__all__ = [
    "ErrorMap",
    "JoinedMap",
    "Measure",
    "Scores",
    "error_maps",
    "heat",
    "hottest",
    "one_thread",
    "sample_scores",
    "squares_of",
]

SMALLEST = 1e-12  # usual error that is divided by
HEAT = 1 / 64  # of the longer side of an image: what a map is smoothed by before anyone looks for places in it
WEIGHT_BYTES = 64 << 20  # of the addressing weights of rows per forward pass
BLOCK_LINES = 64  # of a map that are smoothed in one product
FLOOR = 0.1  # of the mean usual error: where next to nothing is usual, rounding is no anomaly
ROWS_APART = 4096  # rows that are worth a second thread
BATCH_BYTES = 8 << 20  # of encoded input per forward pass: large enough for the matrix units, small for memory


@dataclass(frozen=True)
class Measure:
    """How what is left of a rebuilt image becomes its error map and its score; rows have one way only."""

    smooth_px: float = 0.0
    """Standard deviation of the Gaussian that smooths what is left (S, C, H, W) before it is squared, px."""
    pool: Pool | None = None
    """What of its map is the score of an image; None is the mean."""
    square_px: int = 1
    """Side of the squares of a map, px: places are looked for in the mean errors of squares."""
    usual: Tensor | None = None
    """(h, w) float32: the mean squared error that normal images have in each square. Where it is given, maps and scores
    are multiples of it."""

    def errors(self, x: Tensor, rebuilt: Tensor) -> Tensor:
        """Of encoded samples (B, ...) and their reconstructions: (B, H, W) of images, else of each element."""
        if x.ndim != 4:
            return squared_error(x, rebuilt)
        if self.smooth_px:
            x, rebuilt = smoothed(x, rebuilt, self.smooth_px)
        first, *others = zip(x.unbind(dim=1), rebuilt.unbind(dim=1), strict=True)
        found = squared_error(*first)
        for channel in others:  # plane by plane: the library's mean goes through the channels px by px
            found += squared_error(*channel)
        usual = self._divisor
        if usual is None:
            return found.div_(x.shape[1])
        for axis, size in enumerate(found.shape[1:]):
            usual = usual.repeat_interleave(self.square_px, axis).narrow(axis, 0, size)
        return found.div_((usual * x.shape[1]).to(found))

    def squares(self, errors: Tensor) -> Tensor:
        """(B, h, w): the means of error maps (B, H, W) over squares, at their ends over the px that are left; errors of
        anything else as they are."""
        if errors.ndim != 3 or self.square_px == 1:
            return errors
        return F.avg_pool2d(errors, self.square_px, ceil_mode=True)

    @property
    def _divisor(self) -> Tensor | None:
        if self.usual is None:
            return None
        return (self.usual + FLOOR * self.usual.mean()).clamp_min(SMALLEST)


ERRORS = Measure()  # as they are, and their mean


@dataclass(frozen=True)
class Scores:
    """Reconstruction errors, one a sample."""

    values: np.ndarray
    """(S,) float64: mean squared error over the elements of the encoded sample; of an image what `Measure` makes of its
    errors; higher = more anomalous."""
    keys: Sequence[Key]
    """(S,) the path, row number or index label of each sample."""
    skipped: tuple[Skipped, ...] = ()
    """The bad samples, where the caller asked to skip them; their score is NaN."""

    def __len__(self) -> int:
        return len(self.values)


class ErrorMap(NamedTuple):
    """A batch as the scorer saw it."""

    reconstruction: Tensor
    """(B, ...) in encoded units."""
    errors: Tensor
    """Of images (B, H, W) the squared error, the mean over the channels, or by which factor it is above the usual one;
    else (B, ...) the squared error of each element."""
    squares: Tensor
    """(B, h, w) of images: their errors in the squares of the measure; else as `errors`."""
    read: MemoryRead | None
    pool: Pool | None = None
    """What of its errors is the score of an image; None, and that of a row, is the mean."""

    @property
    def scores(self) -> np.ndarray:
        """(B,) float64: the score of each sample."""
        if self.pool == "max" and self.errors.ndim == 3:
            return hottest(self.squares.cpu().numpy())
        scores: np.ndarray = self.errors.flatten(1).mean(dim=1).double().cpu().numpy()
        return scores

    @property
    def maps(self) -> np.ndarray:
        """(B, H, W) float32: the errors of images."""
        maps: np.ndarray = self.errors.cpu().numpy()
        return maps


def error_maps(
    model: Autoencoder, x: Encoded, measure: Measure = ERRORS, limit: BatchLimit | None = None
) -> Iterator[ErrorMap]:
    """The error maps of encoded samples (S, ...), in batches, on the device of the model.

    Args:
        model: what rebuilds them.
        x: the samples.
        measure: what becomes of the errors of images.
        limit: remembers how many samples fit, where memory ran out before; the batch is halved where it does.

    Raises:
        OutOfMemoryError: there is no room for one sample.
    """
    return _Scorer.of(model, measure, limit).maps(x, 0, len(x), _at_once(model, x))


@dataclass(frozen=True)
class _Scorer:
    rebuild: Callable[[Tensor], Reconstruction]
    device: torch.device
    measure: Measure
    limit: BatchLimit

    @classmethod
    def of(cls, model: Autoencoder, measure: Measure, limit: BatchLimit | None) -> _Scorer:
        return cls(inference_form(model), next(model.parameters()).device, measure, limit or BatchLimit("scoring"))

    def scores(self, x: Encoded, start: int, stop: int, wanted: int) -> np.ndarray:
        """(stop - start,) float64."""
        return np.concatenate([part.scores for part in self.maps(x, start, stop, wanted)])

    @torch.inference_mode()
    def maps(self, x: Encoded, start: int, stop: int, wanted: int) -> Iterator[ErrorMap]:
        """The error maps of the samples from `start` to `stop`, at most `wanted` at a time."""
        while start < stop:
            size = min(self.limit.fit(wanted), stop - start)
            try:
                part = self._map(x[start : start + size].to(self.device))
            except (MemoryError, RuntimeError) as error:
                self.limit.halve(error, size)
                continue
            yield part
            start += size

    def _map(self, x: Tensor) -> ErrorMap:
        rebuilt, measure = self.rebuild(x), self.measure
        errors = measure.errors(x, rebuilt.x)
        return ErrorMap(rebuilt.x, errors, measure.squares(errors), rebuilt.read, measure.pool)


def _at_once(model: Autoencoder, x: Encoded) -> int:
    """Samples per forward pass. A row is small beside its weights, one for each item."""
    most = fitting(x, BATCH_BYTES)
    memory: Memory | None = getattr(model, "memory", None)
    if memory is None or len(x.shape) != 2:
        return most
    return max(1, min(most, WEIGHT_BYTES // (4 * memory.num_items)))


def sample_scores(
    model: Autoencoder,
    x: Encoded,
    measure: Measure = ERRORS,
    done: Advance | None = None,
    limit: BatchLimit | None = None,
) -> np.ndarray:
    """(S,) float64 scores of encoded samples (S, ...), as `error_maps` finds them; `done` is told of each batch.

    On a CPU each thread takes batches of images or rows of its own.
    """
    on_cpu, threads = next(model.parameters()).device.type == "cpu", torch.get_num_threads()
    at_once, rows = _at_once(model, x), len(x.shape) == 2
    apart = on_cpu and threads > 1 and (len(x) >= ROWS_APART if rows else len(x.shape) == 4)
    if apart:  # the weights of the rows of all threads take no more room than those of one would
        at_once = max(1, min(at_once // threads if rows else at_once, -(-len(x) // threads)))
    parts = []
    with one_thread() if on_cpu else nullcontext(), _workers(threads) if apart else nullcontext() as workers:
        scorer = _Scorer.of(model, measure, limit)

        def scores_from(start: int) -> np.ndarray:
            return scorer.scores(x, start, min(start + at_once, len(x)), at_once)

        for scores in (workers.map if workers else map)(scores_from, range(0, len(x), at_once)):
            parts.append(scores)
            if done:
                done(len(scores))
    return np.concatenate(parts) if parts else np.empty(0)


def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "memae-scores", torch.set_num_threads, (1,))


@dataclass(frozen=True)
class JoinedMap:
    """The error map of one image that was cut into tiles, as `memae.image.tiles` joins it."""

    errors: np.ndarray
    """(H, W) float32, the mean over the channels."""
    seen_px: int
    """The longer side of a tile."""
    square_px: int = 1
    """Side of the squares in which places are looked for; they lie from the first px of the image on."""

    @classmethod
    def of(
        cls, model: Autoencoder, tiles: Tiles, measure: Measure = ERRORS, limit: BatchLimit | None = None
    ) -> JoinedMap:
        """From the maps of all tiles of one image; further arguments as of `error_maps`."""
        tiling = tiles.tiling
        joined, places = tiling.empty(), iter(tiling.places.tolist())
        for part in error_maps(model, tiles, measure, limit):
            for errors, (row, column) in zip(part.maps, places, strict=False):
                tiling.add(joined, row, column, errors)
        return cls(tiling.trimmed(joined), max(tiles.shape[2:]), measure.square_px)

    def score(self, pool: Pool | None) -> float:
        """Of the image."""
        return float(self.heat.max() if pool == "max" else self.errors.mean(dtype=np.float64))

    @property
    def heat(self) -> np.ndarray:
        """(h, w) of squares; smoothed as if it were the map of a tile."""
        return heat(squares_of(self.errors, self.square_px), -(-self.seen_px // self.square_px))

    @property
    def hottest_px(self) -> tuple[int, int]:
        """Row and column of the middle of its hottest square."""
        hot = self.heat
        row, column = (int(place) for place in np.unravel_index(int(hot.argmax()), hot.shape))
        return row * self.square_px + self.square_px // 2, column * self.square_px + self.square_px // 2


def squares_of(errors: np.ndarray, square_px: int) -> np.ndarray:
    """(h, w): the means of an error map (H, W) over its squares, as `Measure.squares`."""
    squares: np.ndarray = Measure(square_px=square_px).squares(torch.from_numpy(errors)[None])[0].numpy()
    return squares


def heat(errors: np.ndarray, seen: int | None = None) -> np.ndarray:
    """Error maps (..., h, w) smoothed by a Gaussian of 1/64 of the longer side: places count and not pixels.

    Args:
        errors: the maps, px by px or square by square; beyond their edges lies their mirror image.
        seen: the longer side of what the network sees at once, in places of the map; None where it sees all of it.
    """
    sigma = HEAT * (seen or max(errors.shape[-2:]))
    maps = torch.from_numpy(errors.astype(np.float32, copy=False))
    return _smooth_columns(_smooth_columns(maps, sigma).mT, sigma).mT.numpy()


def _smooth_columns(maps: Tensor, sigma: float) -> Tensor:
    """(..., h, w) smoothed along h: products with a band of the Gaussian, a block of lines at a time."""
    size = maps.shape[-2]
    bands = (_gaussian_band(size, sigma, start) for start in range(0, size, BLOCK_LINES))
    return torch.cat(
        [weights @ maps[..., first : first + weights.shape[1], :] for first, weights in bands], dim=-2
    )


@lru_cache(maxsize=256)
def _gaussian_band(size: int, sigma: float, start: int) -> tuple[int, Tensor]:
    """What the lines of a block, from line `start` of `size` on, are made of: the first line, and float32 weights
    (block, lines) of those from there on. The Gaussian reaches 4 sigma; beyond the ends lies the mirror image."""
    reach = int(4 * sigma + 0.5)
    away = torch.arange(-reach, reach + 1)
    weights = torch.exp(away.double() ** 2 / (-2 * sigma**2))
    lines = torch.arange(start, min(start + BLOCK_LINES, size))[:, None] + away
    lines %= 2 * size
    lines = torch.minimum(lines, 2 * size - 1 - lines)
    first, last = int(lines.min()), int(lines.max())
    band = torch.zeros(len(lines), last + 1 - first, dtype=torch.float64)
    band.scatter_add_(1, lines - first, (weights / weights.sum()).expand(lines.shape))
    return first, band.float()


def hottest(errors: np.ndarray) -> np.ndarray:
    """(...) float64: the greatest heat of each error map (..., h, w)."""
    return np.asarray(heat(errors).max(axis=(-2, -1)), dtype=np.float64)


@contextmanager
def one_thread() -> Iterator[None]:
    """Samples are scored in steps so short that threads wait for each other longer than they work, on a busy machine
    fifty times as long as one alone would take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def smoothed(x: Tensor, rebuilt: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Two batches of images (B, C, H, W), both smoothed by a Gaussian of `sigma` px.

    Their difference is the smoothed residual: a stroke that lies a px beside its copy leaves a positive and a
    negative line, which cancel out, and one that should not be there leaves one that does not.
    """
    down, across = (_gaussian(size, sigma).to(rebuilt) for size in rebuilt.shape[2:])
    return down @ x.to(rebuilt) @ across.T, down @ rebuilt @ across.T


def _gaussian(size: int, sigma: float) -> Tensor:
    """(size, size): row i weighs the px of a line around px i; the weights add up to 1 at the edges, too."""
    place = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)
