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

from memae.config import Pool
from memae.data.encoded import Encoded, fitting
from memae.data.samples import Key, Skipped
from memae.data.tiles import Tiles
from memae.losses import squared_error
from memae.memory import MemoryModule
from memae.memory_room import Room
from memae.models.autoencoder import Autoencoder, Reconstruction
from memae.models.inference import inference_form
from memae.ops import MemoryRead
from memae.stages import Advance

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
]

SMALLEST = 1e-12  # usual error that is divided by
HEAT_PX = 1 / 64  # of the longer side of an image: what a map is smoothed by before anyone looks for places in it
WEIGHT_BYTES = 64 << 20  # of the addressing weights of rows per forward pass
PIECE = 16  # px of a line of a map that are smoothed as channels: as many as a register holds
FLOOR = 0.1  # of the mean usual error: where next to nothing is usual, rounding is no anomaly
BATCH_BYTES = 8 << 20  # of encoded input per forward pass: large enough for the matrix units, small for memory


@dataclass(frozen=True)
class Measure:
    """How what is left of a rebuilt image becomes its error map and its score; rows have one way only."""

    smooth_px: float = 0.0
    """Standard deviation of the Gaussian that smooths what is left (S, C, H, W) before it is squared, px."""
    pool: Pool | None = None
    """What of its map is the score of an image; None is the mean."""
    usual: Tensor | None = None
    """(H, W) float32: the squared error that normal images have at each px. Where it is given, maps and scores are
    multiples of it."""

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
        if self.usual is None:
            return found.div_(x.shape[1])
        usual = (self.usual + FLOOR * self.usual.mean()).clamp_min(SMALLEST)
        return found.div_(usual.mul_(x.shape[1]).to(found))


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
    read: MemoryRead | None
    pool: Pool | None = None
    """What of its errors is the score of an image; None, and that of a row, is the mean."""

    @property
    def scores(self) -> np.ndarray:
        """(B,) float64: the score of each sample."""
        if self.pool == "max" and self.errors.ndim == 3:
            return hottest(self.maps)
        scores: np.ndarray = self.errors.flatten(1).mean(dim=1).double().cpu().numpy()
        return scores

    @property
    def maps(self) -> np.ndarray:
        """(B, H, W) float32: the errors of images."""
        maps: np.ndarray = self.errors.cpu().numpy()
        return maps


def error_maps(
    model: Autoencoder, x: Encoded, measure: Measure = ERRORS, room: Room | None = None
) -> Iterator[ErrorMap]:
    """The error maps of encoded samples (S, ...), in batches, on the device of the model.

    Args:
        model: what rebuilds them.
        x: the samples.
        measure: what becomes of the errors of images.
        room: remembers how many samples fit, where memory ran out before; the batch is halved where it does.

    Raises:
        OutOfMemoryError: there is no room for one sample.
    """
    return _Scorer.of(model, measure, room).maps(x, 0, len(x), _at_once(model, x))


@dataclass(frozen=True)
class _Scorer:
    rebuild: Callable[[Tensor], Reconstruction]
    device: torch.device
    measure: Measure
    room: Room

    @classmethod
    def of(cls, model: Autoencoder, measure: Measure, room: Room | None) -> _Scorer:
        return cls(inference_form(model), next(model.parameters()).device, measure, room or Room("scoring"))

    @torch.inference_mode()
    def maps(self, x: Encoded, start: int, stop: int, wanted: int) -> Iterator[ErrorMap]:
        """Of the samples from `start` to `stop`, at most `wanted` at a time."""
        while start < stop:
            size = min(self.room.fit(wanted), stop - start)
            try:
                batch = x[start : start + size].to(self.device)
                rebuilt = self.rebuild(batch)
                errors = self.measure.errors(batch, rebuilt.x)
            except (MemoryError, RuntimeError) as error:
                self.room.halve(error, size)
                continue
            yield ErrorMap(rebuilt.x, errors, rebuilt.read, self.measure.pool)
            start += size

    def scores(self, x: Encoded, start: int, stop: int, wanted: int) -> np.ndarray:
        """(stop - start,) float64."""
        return np.concatenate([part.scores for part in self.maps(x, start, stop, wanted)])


def _at_once(model: Autoencoder, x: Encoded) -> int:
    """Samples per forward pass. A row is small beside its weights, one for each item."""
    most = fitting(x, BATCH_BYTES)
    memory: MemoryModule | None = getattr(model, "memory", None)
    if memory is None or len(x.shape) != 2:
        return most
    return max(1, min(most, WEIGHT_BYTES // (4 * memory.num_items)))


def sample_scores(
    model: Autoencoder,
    x: Encoded,
    measure: Measure = ERRORS,
    done: Advance | None = None,
    room: Room | None = None,
) -> np.ndarray:
    """(S,) float64 scores of encoded samples (S, ...), as `error_maps` finds them; `done` is told of each batch.

    On a CPU each thread takes batches of images of its own.
    """
    on_cpu, threads = next(model.parameters()).device.type == "cpu", torch.get_num_threads()
    at_once, apart = _at_once(model, x), len(x.shape) == 4 and on_cpu and threads > 1
    if apart:
        at_once = max(1, min(at_once, -(-len(x) // threads)))
    parts = []
    with one_thread() if on_cpu else nullcontext(), _workers(threads) if apart else nullcontext() as workers:
        scorer = _Scorer.of(model, measure, room)

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
    """The error map of one image that was cut into tiles, as `memae.data.tiles` joins it."""

    errors: np.ndarray
    """(H, W) float32, the mean over the channels."""
    seen_px: int
    """The longer side of a tile."""

    @classmethod
    def of(
        cls, model: Autoencoder, tiles: Tiles, measure: Measure = ERRORS, room: Room | None = None
    ) -> JoinedMap:
        """From the maps of all tiles of one image; further arguments as of `error_maps`."""
        tiling = tiles.tiling
        joined, places = tiling.empty(), iter(tiling.places.tolist())
        for part in error_maps(model, tiles, measure, room):
            for errors, (row, column) in zip(part.maps, places, strict=False):
                tiling.add(joined, row, column, errors)
        return cls(tiling.trimmed(joined), max(tiles.shape[2:]))

    def score(self, pool: Pool | None) -> float:
        """Of the image."""
        return float(self.heat.max() if pool == "max" else self.errors.mean(dtype=np.float64))

    @property
    def heat(self) -> np.ndarray:
        """(H, W); smoothed as if it were the map of a tile."""
        return heat(self.errors, self.seen_px)


def heat(errors: np.ndarray, seen_px: int | None = None) -> np.ndarray:
    """Error maps (..., H, W) smoothed by a Gaussian of 1/64 of the longer side: places count and not pixels.

    Args:
        errors: the maps; beyond their edges lies their mirror image.
        seen_px: the longer side of what the network sees at once; None where it sees all of the map.
    """
    sigma = HEAT_PX * (seen_px or max(errors.shape[-2:]))
    *_, height, width = errors.shape
    down, across = _gaussian_kernels(sigma)
    above, before = down.shape[2] // 2, PIECE * (across.shape[3] // 2)
    maps = errors.reshape(-1, height, width).astype(np.float32, copy=False)
    ends = ((0, 0), (above, above), (before, before + -width % PIECE))
    padded = torch.from_numpy(np.pad(maps, ends, "symmetric"))
    # Two convolutions whose channels are the px of a piece of a line, which lie beside each other as they are: down the
    # columns each channel alone, across the lines a product with the pieces on both sides.
    pieces = padded.view(len(maps), height + 2 * above, -1, PIECE).permute(0, 3, 1, 2)
    smooth = F.conv2d(F.conv2d(pieces, down, groups=PIECE), across).permute(0, 2, 3, 1)
    return smooth.reshape(len(maps), height, -1)[..., :width].numpy().reshape(errors.shape)


@lru_cache(maxsize=16)
def _gaussian_kernels(sigma: float) -> tuple[Tensor, Tensor]:
    """(P, 1, 2 r + 1, 1) down the columns and (P, P, 1, 2 k + 1) across the lines of pieces of P px, float32.

    Both weigh the px up to r = 4 sigma away; k pieces on each side hold these.
    """
    reach = int(4 * sigma + 0.5)
    weights = torch.exp(torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2 / (-2 * sigma**2))
    weights /= weights.sum()
    beside = -(-reach // PIECE)
    line = F.pad(weights, (beside * PIECE + PIECE - 1 - reach,) * 2)
    # what px i of piece k weighs for px o of the piece in the middle: it lies P (k - beside) + i - o px behind it
    across = torch.stack([line[PIECE - 1 - out :][: PIECE * (2 * beside + 1)] for out in range(PIECE)])
    down = weights.view(1, 1, -1, 1).expand(PIECE, 1, -1, 1)
    return down.float(), across.view(PIECE, 1, 2 * beside + 1, PIECE).permute(0, 3, 1, 2).float()


def hottest(errors: np.ndarray) -> np.ndarray:
    """(...) float64: the greatest heat of each error map (..., H, W)."""
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
