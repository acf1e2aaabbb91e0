"""The scoring of clips by motion as one graph: from grey frames of the network's size to the score of each frame.

Outside remains what looks further back than a clip: which clip owns a frame (`memae.video.clips`), what stands still
(`memae.video.appearance`), and events.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from memae.modality import Artifact, Layout, Port, ScoringGraph, above
from memae.video.config import VideoConfig
from memae.video.frames import FrameKey, Frames
from memae.video.predict import motion_scorer
from memae.video.scoring import ScoredFrame

__all__ = ["scoring_graph"]

GOLDEN_CLIPS = 3
NOTE = (
    "the graph scores motion alone: what stands still (video.appearance) is compared with minutes of video, which no "
    "clip holds. A frame that only appearance would flag is not flagged; memae score finds it"
)


class ClipGraph(nn.Module):
    """From clips (S, T, H, W) of grey levels to scores (S, T), verdicts (S, T) and anomaly maps (S, T, h, w)."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        self.model, self.scorer, self.threshold = artifact.model, motion_scorer(artifact), artifact.threshold

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Scores the clips."""
        found = self.scorer.measured(pixels, self.model)
        return found.scores, above(found.scores, self.threshold), found.maps


def scoring_graph(artifact: Artifact, layout: Layout) -> ScoringGraph:
    """The scoring of a model of video; see `memae.modality.Modality.scoring_graph`."""
    preprocess, settings = artifact.preprocess, VideoConfig.of(artifact.config)
    length, *size = preprocess.shape[1:]
    clips, windows = _golden_clips(length, *size), motion_scorer(artifact).windows
    found = [_scored_alone(artifact, clip, settings.dilation) for clip in clips]
    looks_back = artifact.reference is not None and artifact.reference.appearance is not None
    return ScoringGraph(
        ClipGraph(artifact).eval(),
        (Port("clip", ("batch", length, *size), "frames of grey levels of 8 bits, rows from the top"),),
        (
            Port("score", ("batch", length), "of each frame of the clip, by motion; higher is more anomalous"),
            Port("is_anomaly", ("batch", length), "the score is above the threshold"),
            Port("anomaly_map", ("batch", length, *found[0][0].anomaly_map.shape), "one value for each patch"),
        ),
        (clips,),
        np.array([[frame.score for frame in frames] for frames in found]),
        {
            "clip": {
                "frames": length,
                "height": size[0],
                "width": size[1],
                "stride": windows.stride,
                "dilation": settings.dilation,
                "first_owned": windows.first_owned,
                "place_px": settings.place_px,
            }
        },
        notes=(NOTE,) if looks_back else (),
    )


def _scored_alone(artifact: Artifact, clip: np.ndarray, dilation: int) -> list[ScoredFrame]:
    """The frames of a clip that is a whole video, with each frame as often as the dilation leaves out."""
    pixels = clip.repeat(dilation, axis=0)
    keys = [FrameKey("golden", number, number / 25) for number in range(len(pixels))]
    return list(motion_scorer(artifact).scored([Frames(pixels, keys, "the golden clip")]))[::dilation]


def _golden_clips(length: int, height: int, width: int) -> np.ndarray:
    """(3, T, H, W) uint8: a ground on which a block walks, one on which it flickers, and one before a shaken camera."""
    rows, columns = np.mgrid[:height, :width]
    ground = 110 + 50 * np.sin(rows / 6) * np.cos(columns / 9)
    clips = np.repeat(ground[None], GOLDEN_CLIPS * length, axis=0).reshape(GOLDEN_CLIPS, length, height, width)
    side = max(2, height // 5)
    for number in range(length):
        left = (2 * number + width // 4) % max(1, width - side)
        clips[0, number, height // 2 : height // 2 + side, left : left + side] = 220
        clips[1, number, height // 4 : height // 4 + side, left : left + side] = 240 if number % 2 else 20
        clips[2, number] = np.roll(ground, (number % 3 - 1, number % 2), axis=(0, 1))
    return clips.round().astype(np.uint8)
