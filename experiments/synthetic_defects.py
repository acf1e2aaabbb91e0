"""Synthetic images with synthetic defects, to tune how the errors of an image become its score.

There are three kinds of normal images (cloth, a part with holes, marble) and defects of three extents: small, large,
and the whole image. One model is trained for each kind and network, with the settings of the preset `image`. All ways
to score are compared on the same error maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from experiments.protocols import metrics
from memae import Detector
from memae.image.maps import patch_means

__all__ = ["auroc_by_extent", "normal_image", "with_defect"]

FITTED, NORMAL, EACH = 80, 60, 20  # images to fit, normal ones to rank, and ones to rank of each defect
TRAINING = {"train": {"epochs": 30, "batch_size": 8}}
KINDS = ("cloth", "part", "marble")


def auroc_by_extent(settings: Mapping[str, Any]) -> dict[str, float]:
    """AUROC for each extent of defects, the mean over the kinds of images.

    Args:
        settings: `smoothing`, the standard deviation of the Gaussian that smooths an error map, as a share of its
            side; `top_share`, the share of the smoothed map whose mean is the score: 0 is its maximum, 1 all of it;
            `network`, `image` by default; `side` of the images, px, 96 by default: the part grows with it, the cloth,
            the marble and the defects do not; `seed`, 0 by default; `patch_px`, the side of the patches of a map, 1
            by default; `relative` for errors as multiples of the mean training error.
    """
    way = dict(settings)
    network, side, seed = way.pop("network", "image"), way.pop("side", 96), way.pop("seed", 0)
    score = {"relative": way.pop("relative", False), "patch_px": way.pop("patch_px", 1)}
    figures: dict[str, list[float]] = {extent: [] for extent in DEFECTS}
    for kind in KINDS:
        maps = _maps(kind, network, side, seed, **score)
        normal = _pooled(maps["normal"], **way)
        for extent in DEFECTS:
            anomalous = _pooled(maps[extent], **way)
            labels = np.repeat([False, True], [len(normal), len(anomalous)])
            found = metrics.ranking(labels, np.concatenate([normal, anomalous]))
            figures[extent].append(found["auroc"])
    return {extent: round(float(np.mean(values)), 5) for extent, values in figures.items()}


def _pooled(maps: np.ndarray, smoothing: float, top_share: float) -> np.ndarray:
    """(S,) scores of error maps (S, h, w)."""
    sigma = smoothing * maps.shape[-1]
    smooth = gaussian_filter(maps, (0, sigma, sigma)) if smoothing else maps
    flat = np.sort(smooth.reshape(len(smooth), -1), axis=1)
    scores: np.ndarray = flat[:, -max(1, round(top_share * flat.shape[1])) :].mean(axis=1)
    return scores


@cache
def _maps(kind: str, network: str, side: int, seed: int, **score: Any) -> dict[str, np.ndarray]:
    """Error maps (S, h, w) of normal images, and of those with a defect by its extent."""
    generator = np.random.default_rng([KINDS.index(kind), seed] if seed else KINDS.index(kind))
    draw = partial(normal_image, kind, side, generator)
    settings = {**TRAINING, "network": network, "image": {"scale": "unit", **score}}
    detector = Detector("image", seed=seed, settings=settings, device="cpu").fit(
        _stacked(draw() for _ in range(FITTED))
    )
    ranked = {"normal": _stacked(draw() for _ in range(NORMAL))}
    for extent, defects in DEFECTS.items():
        ranked[extent] = _stacked(
            with_defect(draw(), defect, generator) for defect in defects for _ in range(EACH)
        )
    maps = {}
    for name, images in ranked.items():
        errors = [found.error_map for found in detector.explain(images) if found.error_map is not None]
        maps[name] = np.stack([patch_means(error, score["patch_px"]) for error in errors])
    return maps


def _stacked(images: Iterable[np.ndarray]) -> np.ndarray:
    """(S, H, W) uint8."""
    return np.round(np.stack(list(images)).clip(0, 255)).astype(np.uint8)


def normal_image(kind: str, side: int, generator: np.random.Generator) -> np.ndarray:
    """(side, side) grey of a normal image, each a little different, from 0 to 255."""
    y, x = np.mgrid[:side, :side].astype(float)
    noise = generator.normal(0, 5, (side, side))
    if kind == "cloth":
        down, across = generator.uniform(0, 2 * np.pi, 2)
        return np.asarray(128 + 35 * np.sin(x / 1.9 + across) + 35 * np.sin(y / 1.6 + down) + noise)
    if kind == "marble":
        rough = gaussian_filter(generator.normal(0, 1, (side, side)), 3, mode="wrap")
        return np.asarray(150 + 25 * np.sin(x / 9 + 4 * rough / rough.std()) + noise)
    down, across = generator.normal(0, 1.0, 2)
    unit = side / 96
    first, last = round(12 * unit), round(84 * unit)
    grey = np.full((side, side), 60.0)
    grey[first + round(down) : last + round(down), first + round(across) : last + round(across)] = 170
    for row in (30 * unit, 66 * unit):
        for column in (30 * unit, 66 * unit):
            grey[(y - row - down) ** 2 + (x - column - across) ** 2 < (8 * unit) ** 2] = 60
    return np.asarray(gaussian_filter(grey, 0.7) + noise)


def with_defect(grey: np.ndarray, defect: tuple[str, float], generator: np.random.Generator) -> np.ndarray:
    """An image (H, W) with a defect: its name and its extent, px; of `noise` the deviation, of `mixed` the share."""
    name, size = defect
    if name == "noise":
        return np.asarray(grey + generator.normal(0, size, grey.shape))
    if name == "mixed":
        return np.asarray(
            (1 - size) * grey + size * normal_image(str(generator.choice(KINDS)), len(grey), generator)
        )
    y, x = np.mgrid[: len(grey), : len(grey)].astype(float)
    row, column = generator.uniform(len(grey) * 20 / 96, len(grey) * 76 / 96, 2)  # within the part
    if name == "missing":
        where = (abs(y - row) < size / 2) & (abs(x - column) < size / 2)
        return np.asarray(np.where(where, grey.mean(), grey))
    if name == "scratch":
        angle = generator.uniform(0, np.pi)
        along, beside = (
            (y - row) * np.sin(angle) + (x - column) * np.cos(angle),
            (y - row) * np.cos(angle) - (x - column) * np.sin(angle),
        )
        where = (abs(along) < size / 2) & (abs(beside) < 0.8)
    else:
        where = (y - row) ** 2 + (x - column) ** 2 < (size / 2) ** 2
    return np.asarray(grey + generator.choice([-50, 50]) * gaussian_filter(where.astype(float), 0.5))


DEFECTS: dict[str, tuple[tuple[str, float], ...]] = {
    "small": (("scratch", 14), ("blob", 5), ("missing", 8)),
    "large": (("scratch", 40), ("blob", 16), ("missing", 24)),
    "whole": (("noise", 15), ("mixed", 0.4)),
}
