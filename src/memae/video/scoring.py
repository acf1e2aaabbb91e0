"""Computes one finite score and one anomaly map for each frame of a video; higher = more anomalous.

A score depends on the clip that owns the frame (`memae.video.clips`) and on nothing else: no other clip, and no
normalisation over the video. Three scores exist:

- "mean": the mean squared error of the frame, as in the paper.
- "place": the root mean squared error of the patch with the largest error, where a patch is a square of the frame over
  nine frames. An event is small, and the mean over a whole frame hides it. With `video.worst_share` it is the mean
  over that share of the patches, those with the largest errors.
- "psnr": the PSNR of the frame beside the distance of the queries to their items (`memae.video.psnr`).

A network that predicts makes the last frame of a clip only; all frames that the clip owns have its score.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, repeat
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memae.autoencoder import Reconstruction
from memae.deprecated import renamed_attribute
from memae.engine import Rebuild, Rebuilder, yielding_threads
from memae.errors import ConfigError
from memae.losses import squared_error
from memae.video.clips import Clip, Windows
from memae.video.config import VideoConfig
from memae.video.frames import FrameKey, Frames, Picture
from memae.video.preprocess import VideoPreprocess
from memae.video.psnr import Scale, distances, psnr_score

__all__ = [
    "ClipEvidence",
    "FrameOrder",
    "FrameScorer",
    "Part",
    "ScoredFrame",
    "item_shares_of",
    "patch_errors",
    "score_clips",
]

Part: TypeAlias = Literal["motion", "appearance"]

FRAMES_AVERAGED = 9  # around each frame, within its clip: an anomaly lasts, and noise does not
CHUNK_FRAMES = 64
GPU_CLIPS = 8  # at most, per forward pass
# Torch takes up to three times as long for a single clip: with few rows of few channels it leaves oneDNN. More than two
# clips gain nothing. OpenVINO takes clips one by one.
CPU_CLIPS = 2
CPU_BYTES = 8 << 20  # of clips per forward pass, which takes many times as much; a larger clip is scored alone


class ClipEvidence(NamedTuple):
    """One clip and its reconstruction."""

    x: Tensor
    """(T, H, W) what each frame is compared with: the clip as the network saw it, or T times the predicted frame."""
    reconstruction: Tensor
    """(T, H, W)"""
    find_weights: Callable[[], Tensor | None] = lambda: None
    """Gives `weights`: few clips are explained."""

    @property
    def weights(self) -> Tensor | None:
        """(t, h, w, N) shares of the items at each position of the encoding, or (1, 1, 1, N) where it is one query;
        None without a memory."""
        return self.find_weights()


@dataclass(frozen=True)
class ScoredFrame:
    """One frame of a video."""

    key: FrameKey
    score: float
    anomaly_map: np.ndarray
    """(h, w) float32: the error of each patch, in units of the score; with the score "psnr" the mean squared one."""
    clip: ClipEvidence
    index_in_clip: int
    picture: Picture | None = None
    """The frame as it was decoded, where the source gives it."""
    part: Part = "motion"
    """Which part of the model set the score; see `memae.video.appearance`."""

    places = renamed_attribute("anomaly_map")

    def items(self, box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)) -> list[tuple[int, float]]:
        """The items that a part of the frame was reconstructed from, with their shares of it, largest first.

        Args:
            box: left, top, right, bottom as shares of the frame.
        """
        weights = self.clip.weights
        if weights is None:
            return []
        _, height, width, _ = weights.shape
        shares = (
            weights[self._place(weights), _part(box[1::2], height), _part(box[::2], width)]
            .float()
            .mean(dim=(0, 1))
            .cpu()
        )
        order = shares.argsort(descending=True)[: int((shares > 0).sum())].tolist()
        return [(item, float(shares[item])) for item in order]

    def item_shares(self) -> np.ndarray | None:
        """(N,) float32 the share of each item in the reads of the frame; None without a memory."""
        weights = self.clip.weights
        if weights is None:
            return None
        shares: np.ndarray = weights[self._place(weights)].float().mean(dim=(0, 1)).cpu().numpy()
        return shares

    def _place(self, weights: Tensor) -> int:
        return self.index_in_clip * len(weights) // len(self.clip.x)


def item_shares_of(frames: Sequence[ScoredFrame], rows: np.ndarray) -> np.ndarray | None:
    """(P, N) the item shares of the frames of an index (P,); None without a memory."""
    found = [shares for row in rows if (shares := frames[row].item_shares()) is not None]
    return np.stack(found) if found else None


def _part(ends: Sequence[float], size: int) -> slice:
    """The positions along an axis that an interval touches, at least one."""
    first, last = (end * size for end in ends)
    return slice(int(first), max(int(first) + 1, math.ceil(last)))


class _Watched(NamedTuple):
    """The pixels and patches that a mask leaves to score."""

    pixels: Tensor
    """(H, W) float32: 1 where the video is watched, else 0."""
    shares: Tensor
    """(h, w) watched share of each patch, at least a half."""
    patches: Tensor
    """(h, w) bool: the patches of which at least a half is watched."""
    patch_count: int
    """Of these patches."""


class MeasuredClips(NamedTuple):
    """The reconstruction of a batch of B clips, and the errors of their frames."""

    rebuilt: Reconstruction
    maps: Tensor
    """(B, T, h, w) the error of each patch, in units of the score."""
    scores: Tensor
    """(B, T)"""


T = TypeVar("T")


class FrameOrder(Generic[T]):
    """Gives scored frames in the order in which their keys were noted, each with what was noted beside it.

    With a dilation the clips of its phases alternate, and a frame may come before its neighbour.
    """

    def __init__(self) -> None:
        self._noted: deque[tuple[FrameKey, T]] = deque()
        self._early: dict[FrameKey, ScoredFrame] = {}

    def note(self, keys: Iterable[FrameKey], beside: Iterable[T]) -> None:
        """Adds the keys of the next frames."""
        self._noted.extend(zip(keys, beside, strict=False))

    def give(self, frame: ScoredFrame) -> Iterator[tuple[ScoredFrame, T]]:
        """The frames that come next, now that this one is there."""
        self._early[frame.key] = frame
        while self._noted and self._noted[0][0] in self._early:
            key, beside = self._noted.popleft()
            yield self._early.pop(key), beside


class FrameScorer:
    """Scores videos as they come, in constant memory.

    Args:
        rebuild: the network.
        preprocess: how it sees clips.
        video: stride, dilation and which score.
        watched: (H, W) bool at the size of the network: False leaves a pixel out of every score. None scores all.
        device: of the network.
        scale: of the score "psnr"; None leaves its terms as they are.

    Raises:
        ConfigError: a mask of another size, or one that leaves nothing to score.
    """

    def __init__(
        self,
        rebuild: Rebuild,
        preprocess: VideoPreprocess,
        video: VideoConfig,
        watched: np.ndarray | None = None,
        device: torch.device | None = None,
        scale: Scale | None = None,
    ) -> None:
        self._rebuilder, self._preprocess, self._video = Rebuilder(rebuild), preprocess, video
        self._device, self._scale = device or torch.device("cpu"), scale or Scale()
        stride, latest = min(video.stride, preprocess.clip_length), video.latest or video.task == "predict"
        self.windows = Windows(preprocess.clip_length, stride, video.dilation, latest)
        self._watched = self._watch(watched)

    def scored(self, chunks: Iterable[Frames]) -> Iterator[ScoredFrame]:
        """Every frame of the videos, in order, with its picture if the chunks hold pictures.

        Clips are scored together only where one chunk completes several: a stream of single frames never waits.
        """
        order = FrameOrder[Picture | None]()

        def noted() -> Iterator[Frames]:
            for chunk in chunks:
                order.note(chunk.keys, chunk.pictures or repeat(None))
                yield chunk

        for batch in self.windows.batches(noted(), self.clips_at_once):
            for frame in score_clips([(self, clip) for clip in batch]):
                for scored, picture in order.give(frame):
                    yield replace(scored, picture=picture) if picture else scored

    def watching(self, watched: np.ndarray | None) -> FrameScorer:
        """The same network with another mask (H, W) bool; None watches all.

        Raises:
            ConfigError: a mask of another size, or one that leaves nothing to score.
        """
        other = copy.copy(self)
        other._watched = self._watch(watched)
        return other

    @property
    def clips_at_once(self) -> int:
        """At most, for one pass of the network."""
        if self._device.type != "cpu":
            return GPU_CLIPS
        return max(1, min(CPU_CLIPS, CPU_BYTES // (4 * math.prod(self._preprocess.shape))))

    def prepare(self) -> None:
        """Lets the engine do now what its first pass would take seconds for: a camera does not wait for it."""
        self._rebuilder.never_ends()
        length, *size = self._preprocess.shape[1:]
        list(score_clips([(self, Clip(np.zeros((length, *size), dtype=np.uint8), range(0), []))]))

    def batch(self, clips: Sequence[Clip]) -> tuple[Rebuild, Tensor]:
        """What is to rebuild clips, and their pixels (B, T, H, W) uint8; B may exceed their number."""
        rebuild = self._rebuilder((len(clips), *self._preprocess.shape))
        filled = [clip.pixels for clip in clips]
        if self._device.type == "cpu" and isinstance(rebuild, nn.Module):
            # a lone clip beside itself is faster than alone, and scores to the last bit as it does beside others
            filled += filled[-1:] * (self.clips_at_once - len(filled))
        return rebuild, torch.from_numpy(np.stack(filled)).to(self._device)

    def rebuilt(self, pixels: Tensor, rebuild: Rebuild) -> tuple[Tensor, Reconstruction]:
        """Clips (B, T, H, W) uint8 as the network sees them, (B, 1, T, H, W), and what it makes of them."""
        x = self._preprocess.encode_clips(pixels, self._video.steady)
        return x, rebuild(x)

    def measured(self, pixels: Tensor, rebuild: Rebuild) -> MeasuredClips:
        """What becomes of clips (B, T, H, W) uint8; an exported model computes it by this, too."""
        x, rebuilt = self.rebuilt(pixels, rebuild)
        return MeasuredClips(rebuilt, *self.maps_and_scores(x, rebuilt))

    def maps_and_scores(
        self, x: Tensor, rebuilt: Reconstruction, part: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Maps (B, T, h, w) and scores (B, T) of those clips (B, 1, T, H, W), with their reconstruction, in `part`."""
        watched, mean = self._watched, self._video.score != "place"
        errors = squared_error(rebuilt.against(x)[part], rebuilt.x[part])[:, 0] * watched.pixels
        maps = patch_errors(errors, self._video.place_px, 1 if mean else FRAMES_AVERAGED) / watched.shares
        maps = maps if mean else maps.sqrt()
        lowest = maps.masked_fill(~watched.patches, math.inf).amin(dim=(2, 3), keepdim=True)
        maps = torch.where(watched.patches, maps, lowest)
        scores = errors.sum(dim=(2, 3)) / watched.pixels.sum() if mean else self._worst(maps)
        if self._video.score == "psnr":
            apart = distances(rebuilt, self._video.distance, watched.pixels)
            scores = psnr_score(
                scores, apart if apart is None else apart[part], self._video.psnr_weight, self._scale
            )
        return _for_each(maps, x.shape[2], axis=1), _for_each(scores, x.shape[2], axis=1)

    def _worst(self, maps: Tensor) -> Tensor:
        """(B, T) means over the largest values of maps (B, T, h, w)."""
        count = max(1, round(self._video.worst_share * self._watched.patch_count))
        return maps.flatten(2).topk(count, dim=2).values.mean(dim=2)

    def _watch(self, watched: np.ndarray | None) -> _Watched:
        size = self._preprocess.height, self._preprocess.width
        watched = np.ones(size, dtype=bool) if watched is None else watched
        if watched.shape != size:
            raise ConfigError(
                f"a mask of {' x '.join(map(str, watched.shape))} px does not fit frames of {size[0]} x {size[1]} px; "
                "resize it"
            )
        pixels = torch.from_numpy(watched.astype(np.float32)).to(self._device)
        shares = patch_errors(pixels[None, None], self._video.place_px)[0, 0]
        patches = shares >= 0.5
        if not patches.any():
            raise ConfigError("the mask leaves no place to watch; it must be True where the video is watched")
        return _Watched(pixels, shares.clamp_min(0.5), patches, int(patches.sum()))


@torch.inference_mode()
def score_clips(clips: Sequence[tuple[FrameScorer, Clip]]) -> Iterator[ScoredFrame]:
    """The frames that clips own, from one pass of the network.

    Args:
        clips: with the scorers that look at them, which differ in their masks alone; not more than `clips_at_once`.
    """
    rebuild, pixels = clips[0][0].batch([clip for _, clip in clips])
    with yielding_threads(
        rebuild
    ):  # also after the network: threads of torch that have worked once spin for a while
        x, rebuilt = clips[0][0].rebuilt(pixels, rebuild)
        found = list(_maps_and_scores([scorer for scorer, _ in clips], x, rebuilt))
    seen, made = (_for_each(one, x.shape[2], axis=2) for one in (rebuilt.against(x), rebuilt.x))
    for row, ((_, clip), (maps, scores)) in enumerate(zip(clips, found, strict=True)):
        evidence = ClipEvidence(seen[row, 0], made[row, 0], partial(_weights, rebuilt, row))
        for index, key in zip(clip.owned, clip.keys, strict=True):
            yield ScoredFrame(key, float(scores[index]), maps[index], evidence, index)


def _maps_and_scores(
    scorers: Sequence[FrameScorer], x: Tensor, rebuilt: Reconstruction
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps (T, h, w) and scores (T,) of each clip by its scorer; neighbours with the same one are taken together."""
    first = 0
    for scorer, own in groupby(scorers):
        count = sum(1 for _ in own)
        part = slice(first, first + count if first + count < len(scorers) else None)
        maps, scores = scorer.maps_and_scores(x, rebuilt, part)
        own_maps, own_scores = maps.float().cpu().numpy()[:count], scores.double().cpu().numpy()[:count]
        yield from zip(own_maps, own_scores, strict=True)
        first += count


def _for_each(values: Tensor, frames: int, axis: int) -> Tensor:
    """Values of the frames of clips; that of a single predicted one is repeated."""
    return (
        values
        if values.shape[axis] == frames
        else values.expand(*values.shape[:axis], frames, *values.shape[axis + 1 :])
    )


def _weights(rebuilt: Reconstruction, row: int) -> Tensor | None:
    read = rebuilt.read
    return None if read is None else read.shares[row].view(*(rebuilt.positions or (1, 1, 1)), -1)


def patch_errors(errors: Tensor, side: int, frames: int = 1) -> Tensor:
    """Means (B, T, h, w) of errors (B, T, H, W) over patches of `side` px at half that spacing, and over `frames`."""
    side = min(side, *errors.shape[-2:])
    means = F.avg_pool2d(errors, side, max(1, side // 2), ceil_mode=True, count_include_pad=False)
    over_time = means.flatten(2)[:, None]  # (B, 1, T, h * w)
    return F.avg_pool2d(over_time, (frames, 1), 1, (frames // 2, 0), count_include_pad=False).view_as(means)
