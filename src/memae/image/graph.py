"""The scoring of images as one graph: from decoded pixels of any size to scores and anomaly maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from memae.errors import DataError
from memae.image.arrays import ArraySource
from memae.image.extent import TOO_FAR
from memae.image.predict import predict
from memae.image.preprocess import ImagePreprocess
from memae.image.resize import levels, luma, resized
from memae.image.scoring import ErrorMap, map_settings, map_threshold
from memae.modality import Artifact, Layout, Port, Request, ScoringGraph, above

__all__ = ["has_levels", "scoring_graph"]

COLOUR = 3  # channels of the layout "anomalib"
MOST_LEVEL = 255.0


class ImageGraph(nn.Module):
    """From pixels (S, C, H, W) of any size to scores (S,), verdicts (S,) and anomaly maps (S, h, w)."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        self.preprocess: ImagePreprocess = artifact.preprocess
        self.model, self.settings, self.threshold = artifact.model, map_settings(artifact), artifact.threshold

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Scores the images."""
        measured = self.measured(pixels.float())
        scores = measured.device_scores
        return scores, above(scores, self.threshold), measured.anomaly_maps

    def measured(self, pixels: Tensor) -> ErrorMap:
        """The errors and maps of pixels (S, C, H, W) float32."""
        seen, whole = self.preprocess, has_levels(self.preprocess)
        if not seen.keep_aspect:
            pixels = resized(pixels, seen.height, seen.width, whole=whole)
        x = seen.encode_pixels(pixels)
        return self.settings(x, self.model(x))


class AnomalibGraph(ImageGraph):
    """The same from colour (S, 3, H, W) of 0 to 1, with the outputs of anomalib; maps have the size of the network."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self.map_threshold = np.inf if artifact.threshold is None else map_threshold(artifact)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Scores the images."""
        pixels = levels(pixels * MOST_LEVEL)
        measured = self.measured(luma(pixels) if self.preprocess.channels == 1 else pixels)
        scores, maps = measured.device_scores[:, None], measured.anomaly_maps[:, None]
        size = [self.preprocess.height, self.preprocess.width]
        maps = F.interpolate(maps, size=size, mode="nearest")
        return scores, above(scores, self.threshold), maps, maps > self.map_threshold


def scoring_graph(artifact: Artifact, layout: Layout) -> ScoringGraph:
    """The scoring of a model of images; see `memae.modality.Modality.scoring_graph`."""
    preprocess: ImagePreprocess = artifact.preprocess
    if preprocess.overlap is not None:
        raise DataError(
            "a model that cuts images into tiles cannot be exported, as their number differs from image to image; "
            "load it with memae, or train one with image.size_px in place of image.tile_px"
        )
    images = _golden_images(preprocess)
    found = list(predict(artifact, ArraySource.of(images, "the golden images"), Request(), lambda *_: None, None))
    scores = np.concatenate([part.scores for part in found])
    build = _anomalib if layout == "anomalib" else _own
    return build(artifact, images, scores)


def has_levels(preprocess: ImagePreprocess) -> bool:
    """Whether the model was trained on images of 8 bits."""
    return (preprocess.low, preprocess.high) == (0.0, MOST_LEVEL)


def _own(artifact: Artifact, images: np.ndarray, scores: np.ndarray) -> ScoringGraph:
    preprocess = artifact.preprocess
    said = "pixels, rows from the top; " + (
        "levels of 8 bits" if has_levels(preprocess) else "of the training range"
    )
    return ScoringGraph(
        ImageGraph(artifact).eval(),
        (Port("image", ("batch", preprocess.channels, *_input_size(preprocess)), said),),
        (
            Port("score", ("batch",), "higher is more anomalous"),
            Port("is_anomaly", ("batch",), "the score is above the threshold"),
            Port("anomaly_map", _map_axes(artifact), "one value for each patch; see image.map_threshold"),
        ),
        (images,),
        scores,
        {"image": _outside(artifact)},
        notes=_notes(preprocess),
    )


def _anomalib(artifact: Artifact, images: np.ndarray, scores: np.ndarray) -> ScoringGraph:
    preprocess = artifact.preprocess
    if not has_levels(preprocess) or preprocess.channels not in (1, COLOUR):
        raise DataError(
            f"the layout 'anomalib' has colour of 0 to 1, and this model takes {preprocess.channels} channels of "
            f"{preprocess.low:g} to {preprocess.high:g}; take the layout 'memae'"
        )
    size = (preprocess.height, preprocess.width)
    colour = np.broadcast_to(images, (len(images), COLOUR, *size)).astype(np.float32) / np.float32(MOST_LEVEL)
    return ScoringGraph(
        AnomalibGraph(artifact).eval(),
        (Port("input", ("batch", COLOUR, *_input_size(preprocess)), "colour from 0 to 1, rows from the top"),),
        (
            Port("pred_score", ("batch", 1), "higher is more anomalous; not scaled to 0 ... 1"),
            Port("pred_label", ("batch", 1), "the score is above the threshold"),
            Port("anomaly_map", ("batch", 1, *size), "not scaled to 0 ... 1"),
            Port("pred_mask", ("batch", 1, *size), "the anomaly map is above its threshold"),
        ),
        (colour,),
        scores[:, None],
        {"image": _outside(artifact)},
        notes=_notes(preprocess),
    )


def _input_size(preprocess: ImagePreprocess) -> tuple[int | str, int | str]:
    """The graph resizes; but an image that keeps its shape would leave places empty, and it has no means for these."""
    return (preprocess.height, preprocess.width) if preprocess.keep_aspect else ("height", "width")


def _notes(preprocess: ImagePreprocess) -> tuple[str, ...]:
    if not preprocess.keep_aspect:
        return ()
    size = f"{preprocess.width} x {preprocess.height} px"
    return (f"the model keeps the shape of images (image.keep_aspect), and the graph takes images of {size} only",)


def _map_axes(artifact: Artifact) -> tuple[int | str, ...]:
    patch = map_settings(artifact).patch_px
    return "batch", -(-artifact.preprocess.height // patch), -(-artifact.preprocess.width // patch)


def _outside(artifact: Artifact) -> Mapping[str, Any]:
    """What a program has to know about images, beside the ports."""
    preprocess: ImagePreprocess = artifact.preprocess
    extent = preprocess.extent
    return {
        "channels": preprocess.channels,
        "height": preprocess.height,
        "width": preprocess.width,
        "map_threshold": None if artifact.threshold is None else map_threshold(artifact),
        "most_enlarged": max(TOO_FAR, extent.enlarged if extent else 1.0),
        "most_stretched": max(TOO_FAR, extent.stretched if extent else 1.0),
    }


def _golden_images(preprocess: ImagePreprocess) -> np.ndarray:
    """(3, C, H, W) in the units of training: a wave, the same with a bright spot, and noise."""
    channels, height, width = preprocess.shape
    rows, columns = np.mgrid[:height, :width]
    wave = 0.5 + 0.25 * np.sin(rows / 5 + np.arange(channels)[:, None, None]) * np.cos(columns / 7)
    spot = wave.copy()
    spot[:, height // 3 : height // 2 + 1, width // 3 : width // 2 + 1] = 0.95
    noise = np.random.default_rng(0).uniform(0.2, 0.8, wave.shape)
    images = preprocess.low + (preprocess.high - preprocess.low) * np.stack([wave, spot, noise])
    return images.round().astype(np.uint8) if has_levels(preprocess) else images.astype(np.float32)
