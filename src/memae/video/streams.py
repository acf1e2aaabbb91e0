"""Scores of several videos whose frames come in turns, such as those of cameras, with one network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, repeat

import numpy as np

from memae.modality import Artifact
from memae.video.appearance import Appearance
from memae.video.background import StillScorer
from memae.video.clips import Clip, ClipCutter
from memae.video.config import VideoConfig
from memae.video.frames import Frames
from memae.video.predict import motion_scorer
from memae.video.scoring import FrameOrder, FrameScorer, ScoredFrame, score_clips

__all__ = ["StreamScorer"]


class StreamScorer:
    """Scores videos whose frames come in turns. Each has the scores that a pass over it alone would give.

    A frame is scored as soon as the frame after its clip is there: (clip length + stride) / 2 frames later at most, or
    `stride` with `video.latest`.
    Clips of several videos that are complete at the same time go through the network together.

    Args:
        artifact: of video.
        watched: (H, W) bool at the size of the network, by the name of a video: False leaves a place out of its scores.
        passed: told how long each pass of the network took, s.

    Raises:
        ConfigError: a mask of another size, or one that leaves nothing to score.
    """

    def __init__(
        self,
        artifact: Artifact,
        watched: Mapping[str, np.ndarray | None] | None = None,
        passed: Callable[[float], None] = lambda took_s: None,
    ) -> None:
        self._passed = passed
        self._motion = motion_scorer(artifact)
        self._appearance: Appearance | None = artifact.reference.appearance
        self._place_px = VideoConfig.of(artifact.config).place_px
        self._watched: dict[str, np.ndarray | None] = {}
        self._scorers: dict[str, FrameScorer] = {}
        self._streams: dict[str, _Stream] = {}
        for name, mask in (watched or {}).items():
            self.watch(name, mask)

    def watch(self, video: str, watched: np.ndarray | None) -> None:
        """Gives a video another mask (H, W) bool, or none, from its next beginning on.

        Raises:
            ConfigError: a mask of another size, or one that leaves nothing to score.
        """
        self._scorers[video] = self._motion.watching(watched)
        self._watched[video] = watched

    def prepare(self) -> None:
        """Lets the engine do what its first pass takes seconds for, before the first frame comes."""
        self._motion.prepare()

    def check(self, watched: np.ndarray | None) -> None:
        """Raises what `watch` would, and changes nothing; any thread may call it."""
        self._motion.watching(watched)

    def push(self, frames: Iterable[Frames]) -> Iterator[ScoredFrame]:
        """The frames that can be scored now, those of each video in order.

        Args:
            frames: the next ones of any of the videos, each of one video.
        """
        yield from self._scored(
            clip for part in frames if len(part) for clip in self._stream(part.keys[0].video).push(part)
        )

    def end(self, video: str) -> Iterator[ScoredFrame]:
        """The last frames of a video. A video of this name that comes after it begins anew."""
        stream = self._streams.get(video)
        if stream is not None:
            yield from self._scored(stream.end())
            del self._streams[video]

    def _stream(self, video: str) -> _Stream:
        if video not in self._streams:
            still = None
            if self._appearance:
                still = StillScorer(self._appearance.background, self._place_px, self._watched.get(video))
            self._streams[video] = _Stream(self._scorers.get(video, self._motion), still)
        return self._streams[video]

    def _scored(self, clips: Iterator[Clip]) -> Iterator[ScoredFrame]:
        while batch := list(islice(clips, self._motion.clips_at_once)):
            owners = [self._streams[clip.keys[0].video] for clip in batch]
            pairs = [(owner.motion, clip) for owner, clip in zip(owners, batch, strict=True)]
            begun = time.perf_counter()
            frames = list(score_clips(pairs))
            self._passed(time.perf_counter() - begun)
            for frame in frames:
                for scored, still in self._streams[frame.key.video].order.give(frame):
                    yield (
                        scored if still is None or not self._appearance else self._appearance.worse(scored, still)
                    )


class _Stream:
    """One video: its clips, and what stands still in it."""

    def __init__(self, motion: FrameScorer, still: StillScorer | None) -> None:
        self.motion, self._still = motion, still
        self.order = FrameOrder[np.ndarray | None]()
        self._cutter = ClipCutter(motion.windows)

    def push(self, frames: Frames) -> Iterator[Clip]:
        self.order.note(frames.keys, self._still.each(frames) if self._still else repeat(None))
        yield from self._cutter.push(frames)

    def end(self) -> Iterator[Clip]:
        yield from self._cutter.end()
