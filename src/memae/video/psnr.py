"""The score of MNAD and MPN: the PSNR of a frame beside the distance of its queries to the nearest items.

    S = lambda g(-PSNR) + (1 - lambda) g(D),    PSNR = -10 log10(mean squared error of grey levels in [0, 1])

In the papers, g is the minimum and maximum over the video, which looks into its future. Here g is fixed once: it takes
the lowest and the highest percent of whole training clips to 0 and 1. So a frame is scored alone, and a score may be
above 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from memae.autoencoder import Reconstruction
from memae.engine.batch_limit import BatchLimit
from memae.engine.scoring import Measured
from memae.engine.scoring import Scorer as ClipScorer
from memae.losses import squared_error
from memae.modality import Artifact
from memae.progress import Progress, stage
from memae.types import Encoded
from memae.video.config import DistanceForm, VideoConfig

__all__ = ["Scale", "decibel", "distances", "fit_scale", "psnr_score"]

LEAST = 1e-10  # error or distance that still counts: an exact copy has a PSNR of 100 dB
EDGE = 0.01  # share of the training clips below 0, and above 1
NAME = "psnr_scale"


class Scale(NamedTuple):
    """g of the PSNR and g of the distance: what becomes 0, and what becomes 1."""

    low: tuple[float, float] = (0.0, 0.0)
    high: tuple[float, float] = (1.0, 1.0)

    def scaled(self, values: Tensor, term: int) -> Tensor:
        """g of the term 0 (-PSNR, dB) or 1 (distance); where all training clips had the same value, its difference."""
        spread = self.high[term] - self.low[term]
        return (values - self.low[term]) / (spread if spread > LEAST else 1.0)

    def tensors(self) -> dict[str, Tensor]:
        """The numbers by their name in a model file."""
        return {NAME: torch.tensor([self.low, self.high], dtype=torch.float64)}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> Scale | None:
        """Reads the scale from the tensors of a model file; None where there is none.

        Raises:
            ValueError: it is of another shape, or not finite.
        """
        found = tensors.get(NAME)
        if found is None:
            return None
        if found.shape != (2, 2) or found.dtype != torch.float64 or not found.isfinite().all():
            raise ValueError(f"{NAME!r} is of shape {tuple(found.shape)} and type {found.dtype}, or not finite")
        low, high = found.tolist()
        return cls(tuple(low), tuple(high))


def decibel(values: Tensor) -> Tensor:
    """10 log10 of values >= 0; of errors of grey levels in [0, 1] that is -PSNR."""
    return 10 * values.clamp_min(LEAST).log10()


def distances(rebuilt: Reconstruction, form: DistanceForm, watched: Tensor | None = None) -> Tensor | None:
    """(B,) the distance of the queries of each clip to their nearest items, in a form; None without a memory.

    Args:
        rebuilt: from the network.
        form: see `VideoConfig.distance`.
        watched: (H, W) share of each pixel that counts; None counts all.
    """
    if rebuilt.read is None:
        return None
    each = rebuilt.read.distance
    each = each.square() if form == "square" else each
    if watched is not None and rebuilt.positions:
        _, height, width = rebuilt.positions
        shares = F.adaptive_avg_pool2d(watched[None, None], (height, width)).flatten()
        shares = shares.repeat(each.shape[1] // len(shares))
        mean = (each * shares).sum(dim=1) / shares.sum()
    else:
        mean = each.mean(dim=1)
    return decibel(mean) if form == "decibel" else mean


def psnr_score(errors: Tensor, apart: Tensor | None, weight: float, scale: Scale) -> Tensor:
    """(B, T) scores of the frames of B clips.

    Args:
        errors: (B, T) mean squared errors of frames in [-1, 1].
        apart: (B,) see `distances`; None without a memory, where the PSNR is all.
        weight: lambda.
        scale: g.
    """
    quality = scale.scaled(decibel(errors / 4), 0)  # in [0, 1] an error is half, and its square a quarter
    if apart is None:
        return quality
    return weight * quality + (1 - weight) * scale.scaled(apart, 1)[:, None]


@dataclass(frozen=True)
class _Terms(Measured):
    """The two terms of each clip of a batch, before they are scaled."""

    quality: Tensor
    """(B,)"""
    apart: Tensor
    """(B,)"""

    @property
    def device_scores(self) -> Tensor:
        return self.quality


def fit_scale(artifact: Artifact, training: Encoded, progress: Progress | None) -> Scale:
    """The scale of a trained model, from the whole clips that it was trained on."""
    form = VideoConfig.of(artifact.config).distance

    def terms(x: Tensor, rebuilt: Reconstruction) -> _Terms:
        errors = squared_error(rebuilt.against(x), rebuilt.x).flatten(1).mean(dim=1)
        apart = distances(rebuilt, form)
        return _Terms(rebuilt, decibel(errors / 4), torch.zeros_like(errors) if apart is None else apart)

    scorer, found = ClipScorer(artifact.model, terms, BatchLimit("scoring", progress)), list[Tensor]()
    with stage(progress, "scaling the score", "clips", len(training)) as done:
        for part in scorer.batches(training):
            found.append(torch.stack([part.quality, part.apart]).double().cpu())
            done(found[-1].shape[1])
    both = torch.cat(found, dim=1)
    low, high = (tuple(both.quantile(share, dim=1).tolist()) for share in (EDGE, 1 - EDGE))
    return Scale(low, high)
