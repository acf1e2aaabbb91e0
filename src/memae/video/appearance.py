"""The appearance part of a model of video, on the scale of its motion part.

The motion part is the network; it sees differences of frames. The appearance part is a background memory; it sees what
stands still (`memae.video.background`). The score of a frame is the worse of the two, and so is each place of its map:

    score = max(motion, scale * max of the appearance map)

The scale makes both equally high on held-out normal video: see `Appearance.scaled`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from memae.video.background import Background, StillScorer
from memae.video.frames import Frames
from memae.video.scoring import FrameScorer, ScoredFrame

__all__ = ["Appearance", "AppearanceScorer"]

HIGH = 0.99  # quantile of held-out normal frames at which the two parts are equally high
LEAST_HIGH = 6.0  # however calm held-out video is: changed light and a shaken camera stay below it (docs/trials)
SCALES = "background.scales"


@dataclass(frozen=True)
class Appearance:
    """A background memory and its scales; with scales of 0 it has no say."""

    background: Background
    of_score: float = 0.0
    """The score of a frame whose appearance map has the maximum 1."""
    of_map: float = 0.0
    """The value in the anomaly map of an appearance of 1."""

    def scaled(self, scores: np.ndarray, maxima: np.ndarray, still: np.ndarray) -> Appearance:
        """With scales at which appearance is no higher than motion on held-out normal frames.

        That holds at their 0.99 quantile and at the highest of them. So neither part has more false alarms than the
        other, and a threshold just above all of them is no higher than with motion alone.

        Args:
            scores: (n,) of the motion part.
            maxima: (n,) of its maps.
            still: (n,) of the appearance maps of the same frames.
        """
        return replace(self, of_score=_scale(scores, still), of_map=_scale(maxima, still))

    def maxima(self, segments: Sequence[Frames], place_px: int) -> np.ndarray:
        """(n,) maxima of the appearance maps of all frames of segments, each as if it were a video of its own."""
        maps = (still for segment in segments for still in StillScorer(self.background, place_px).each(segment))
        return np.array([float(still.max()) for still in maps])

    def worse(self, frame: ScoredFrame, still: np.ndarray) -> ScoredFrame:
        """A frame that was scored by motion, with the worse of that and its appearance map (h, w)."""
        score = self.of_score * float(still.max())
        return replace(
            frame,
            score=max(score, frame.score),
            anomaly_map=np.maximum(frame.anomaly_map, np.float32(self.of_map) * still),
            part="appearance" if score > frame.score else "motion",
        )

    def tensors(self) -> dict[str, Tensor]:
        """Its arrays, by their names in a model file."""
        scales = torch.tensor([self.of_score, self.of_map], dtype=torch.float64)
        return {**self.background.tensors(), SCALES: scales}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> Appearance | None:
        """Reads it from the tensors of a model file; None if the model has none.

        Raises:
            KeyError: a part is missing.
            ValueError: a part of another shape or type, or a scale below 0.
        """
        background = Background.load(tensors)
        if background is None:
            return None
        scales = tensors[SCALES].numpy()
        if scales.shape != (2,) or scales.dtype != np.float64 or (scales < 0).any():
            raise ValueError(f"{SCALES!r} holds no two scales")
        return cls(background, *scales.tolist())


def _scale(motion: np.ndarray, still: np.ndarray) -> float:
    ratios = []
    for share in (HIGH, 1.0):
        high, own = (float(np.quantile(values, share, method="higher")) for values in (motion, still))
        ratios.append(high / max(own, LEAST_HIGH))
    return min(ratios)


class AppearanceScorer:
    """Scores videos by motion and by appearance, as `memae.video.scoring.FrameScorer` does by motion alone.

    Args:
        motion: scores the same frames.
        appearance: scaled.
        place_px: side of the patches of a map, px.
        watched: (H, W) bool: False leaves a pixel out; None takes all.
    """

    def __init__(
        self, motion: FrameScorer, appearance: Appearance, place_px: int, watched: np.ndarray | None = None
    ) -> None:
        self._motion, self._appearance = motion, appearance
        self._place_px, self._watched = place_px, watched

    def scored(self, chunks: Iterable[Frames]) -> Iterator[ScoredFrame]:
        """Every frame of the videos, in order; see `FrameScorer.scored`."""
        still = StillScorer(self._appearance.background, self._place_px, self._watched)
        waiting: deque[np.ndarray] = deque()

        def noted() -> Iterator[Frames]:
            for chunk in chunks:
                waiting.extend(still.each(chunk))
                yield chunk

        for frame in self._motion.scored(noted()):
            yield self._appearance.worse(frame, waiting.popleft())
