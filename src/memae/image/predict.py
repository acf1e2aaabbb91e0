"""Calibration of a model on held-out normal images, and prediction over images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch

from memae.categories import HeldOutCategories, folder_of
from memae.drift import looked_at
from memae.engine.batch_limit import BatchLimit
from memae.engine.scoring import BATCH_BYTES, SamplePredictor, Scorer, count_uses, items_used, p_value
from memae.errors import DataError
from memae.image.arrays import Images
from memae.image.config import ImageConfig
from memae.image.dataset import StoredImages
from memae.image.filters import FilterStatistics
from memae.image.item_samples import picture_around
from memae.image.maps import anomaly_map, map_maximum
from memae.image.scoring import ErrorMap, ImageReference, JoinedMap, map_settings
from memae.image.source import ImageSource
from memae.image.tiles import OwnSizeImages, Tiles
from memae.memory.item_samples import NearestQueries
from memae.modality import Artifact, Request
from memae.plots.regions import find_regions
from memae.progress import Done, Progress, stage
from memae.threshold import Threshold
from memae.types import Encoded, Explanation, Key, Prediction, Region, Skipped

__all__ = ["calibrate", "examine", "normal_scores", "predict"]

CHUNK_TILED = 64  # images that are cut into tiles whose scores are given back at a time
ENCODED_BYTES = 3 * BATCH_BYTES  # of images, encoded, that are explained at a time


def scorer_of(artifact: Artifact, action: str, progress: Progress | None) -> Scorer[ErrorMap]:
    """The scorer of the artifact; `action` names in messages what it scores for."""
    return Scorer(artifact.model, map_settings(artifact), BatchLimit(action, progress))


@dataclass(frozen=True)
class NormalImages:
    """What a model found in held-out normal images."""

    scores: np.ndarray
    """(n,) of each image."""
    maxima: np.ndarray
    """(n,) of the anomaly map of each."""
    item_shares: np.ndarray | None = None
    """See `memae.modality.NormalScores`."""


def normal_scores(artifact: Artifact, calibration: Any, progress: Progress | None) -> NormalImages:
    """The scores of held-out normal images, and the maxima of their maps."""
    if isinstance(calibration, OwnSizeImages):
        return NormalImages(*_tiled_scores(artifact, calibration, progress))
    return NormalImages(*_scores(artifact, calibration, progress))


def calibrate(
    artifact: Artifact,
    normal: Sequence[NormalImages],
    groups: np.ndarray | None = None,
    categories: HeldOutCategories | None = None,
) -> Artifact:
    """The artifact with its threshold and the scale of its maps."""
    scores, maxima = (np.concatenate([getattr(part, name) for part in normal]) for name in ("scores", "maxima"))
    threshold = Threshold.by(artifact.config.threshold, scores, groups, categories)
    kept = np.argsort(scores, kind="stable")[: len(threshold.calibration)]  # beside the groups of the threshold
    return replace(artifact, threshold=threshold, reference=replace(artifact.reference, maxima=maxima[kept]))


def examine(artifact: Artifact, training: Encoded, progress: Progress | None) -> Artifact:
    """The artifact with the usage counts of its items, the mean training error and the spread of filter responses."""
    settings, model = ImageConfig.of(artifact.config), artifact.model
    artifact = replace(artifact, reference=ImageReference(np.empty(0)))
    if model.memory is None and not settings.relative:
        return artifact
    total = count = torch.zeros((), dtype=torch.float64)

    nearest, positions = (
        NearestQueries.of(model.memory, wanted=artifact.config.memory.keep_samples),
        tuple[int, ...](),
    )

    def add(part: ErrorMap) -> None:
        nonlocal total, count, positions
        if nearest and part.read is not None:
            nearest.see(part.read)
            positions = part.rebuilt.positions
        if settings.relative:
            total = total + part.patches.nansum(dim=0, dtype=torch.float64).cpu()
            count = count + (~part.patches.isnan()).sum(dim=0).cpu()

    doing = "finding the mean training error" if model.memory is None else "counting the use of items"
    scorer = scorer_of(artifact, f"{doing} on", progress)
    with stage(progress, doing, "samples", len(training)) as done:
        uses = count_uses(scorer, training, done, add)
    # where no training image had anything, a place is as hard as all others in the mean
    mean = torch.where(count > 0, total / count, total.sum() / count.sum()).float() if settings.relative else None
    samples = nearest.samples(partial(picture_around, training, positions)) if nearest else None
    artifact = replace(artifact, uses=uses, reference=ImageReference(np.empty(0), mean), item_samples=samples)
    return _with_filters(artifact, training, progress) if settings.filters else artifact


def _with_filters(artifact: Artifact, training: Encoded, progress: Progress | None) -> Artifact:
    """The artifact with the spread of filter responses, brought to the scale of the relative errors.

    Where one of the two has far higher maxima in normal images, it would decide alone, and it is the worse one.
    """
    doing, errors, deviations = "comparing filter responses", 0.0, 0.0
    scorer, patch_px = scorer_of(artifact, f"{doing} of", progress), map_settings(artifact).patch_px
    with stage(progress, doing, "samples", len(training)) as done:
        filters, start = FilterStatistics.fit(training), 0
        for part in scorer.batches(training):
            x = training[start : start + len(part.errors)]
            errors += float(map_maximum(part.patches.cpu().numpy()).sum())
            deviations += float(map_maximum(filters.at_patches(x, patch_px).cpu().numpy()).sum())
            start += len(x)
            done(len(x))
    filters = filters.scaled(errors / deviations) if errors > 0 and deviations > 0 else filters
    return replace(artifact, reference=replace(artifact.reference, filters=filters))


def _scores(
    artifact: Artifact, x: Encoded, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(S,) scores of encoded images, (S,) the maxima of their anomaly maps, and (P, N) item shares of some."""
    with stage(progress, "setting the threshold", "samples", len(x)) as done:
        scorer = scorer_of(artifact, "setting the threshold from", progress)
        scores, shares = scorer.scored(x, done, looked_at(len(x), len(artifact.uses)))
    if ImageConfig.of(artifact.config).pool == "max" and artifact.config.memory.score == "reconstruction":
        return scores, scores, shares
    maxima = []
    with stage(progress, "setting the scale of maps", "samples", len(x)) as done:
        for part in scorer_of(artifact, "setting the scale of maps from", progress).batches(x):
            maxima.append(map_maximum(part.patches.cpu().numpy()))
            done(len(part.errors))
    return scores, np.concatenate(maxima), shares


def _tiled_scores(
    artifact: Artifact, images: OwnSizeImages, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    settings, wanted = map_settings(artifact), set(looked_at(len(images), len(artifact.uses)).tolist())
    scorer, found, shares = scorer_of(artifact, "setting the threshold from", progress), [], []
    with stage(progress, "setting the threshold", "images", len(images)) as done:
        for place, pixels in enumerate(images.images):
            tiles = Tiles.of(pixels, artifact.preprocess, images.origin)
            joined = JoinedMap.of(scorer, tiles, settings.patch_px, looked_at=place in wanted)
            shares += [] if joined.item_shares is None else [joined.item_shares]
            found.append((joined.score(settings.pool), joined.score("max")))
            done(1)
    scores, maxima = (np.array(values) for values in zip(*found, strict=True))
    return scores, maxima, np.stack(shares) if shares else None


def predict(
    artifact: Artifact, source: Any, request: Request, done: Done, progress: Progress | None
) -> Iterator[Prediction]:
    """Scores and explanations of the images of a source; see `memae.modality.Modality.predict`."""
    if artifact.preprocess.overlap is not None:
        yield from _TilePredictor(artifact, request, done, progress).predictions(source)
    else:
        scorer = scorer_of(artifact, request.action, progress)
        size_of = source.size_of if isinstance(source, ImageSource) else None
        yield from _ImagePredictor(artifact, scorer, request, done, progress, size_of).predictions(source)
    if isinstance(source, ImageSource) and source.far:
        warnings.warn(source.far, stacklevel=2)


@dataclass(frozen=True)
class _ImagePredictor(SamplePredictor[ErrorMap]):
    """One pass over images that the network sees at once."""

    size_of: Callable[[Key], tuple[int, int]] | None
    """The height and width, px, of an image in its file, by its key; None: it is as the network sees it."""

    @property
    def has_regions(self) -> bool:
        return _has_regions(self.artifact)

    def regions(self, key: Key, measured: ErrorMap, row: int, threshold: float) -> tuple[Region, ...]:
        found = _present(anomaly_map(measured.patches[row].cpu().numpy()))
        height, width = self.size_of(key) if self.size_of else measured.errors.shape[1:]
        return find_regions(found, threshold, height, width)

    def said(self, samples: Images, column: str) -> Sequence[str]:
        return [folder_of(key) for key in samples.keys]

    def encode(self, samples: Images) -> tuple[Encoded, Mapping[int, str]]:
        return StoredImages(samples, None, self.artifact.preprocess), samples.unreadable

    def at_once(self, samples: Images) -> int:
        if self.request.explained == "none":
            return len(samples)
        fitting: int = ENCODED_BYTES // (4 * prod(self.artifact.preprocess.shape))
        return min(len(samples), max(1, fitting))

    def explained(
        self, samples: Images, encoded: Encoded, place: int, measured: ErrorMap, row: int
    ) -> Mapping[str, Any]:
        x, errors = encoded[place : place + 1][0].numpy(), measured.errors[row].cpu().numpy()
        found = anomaly_map(measured.patches[row].cpu().numpy())
        return {
            "x": _present(x),
            "reconstruction": _picture(measured, row),
            "error_map": _present(errors),
            "anomaly_map": _present(found),
        }


def _has_regions(artifact: Artifact) -> bool:
    """Whether the score is the maximum of the map, so that an anomaly is one by the places above the threshold."""
    of_map = artifact.config.memory.score == "reconstruction" and ImageConfig.of(artifact.config).pool == "max"
    return artifact.threshold is not None and of_map


def _regions(artifact: Artifact, found: np.ndarray, height: int, width: int) -> tuple[Region, ...]:
    """Of the anomaly map (h, w) of an image of so many px."""
    assert artifact.threshold is not None, "who asks for regions has looked for a threshold"
    return find_regions(found, artifact.threshold.value, height, width)


def _present(values: np.ndarray) -> np.ndarray:
    """The upper left (..., h, w) of an array (..., H, W), where there is an image and no NaN."""
    first = ~np.isnan(values.reshape(-1, *values.shape[-2:])[0])
    return values[..., : int(first[:, 0].sum()), : int(first[0].sum())]


def _picture(measured: ErrorMap, row: int) -> np.ndarray | None:
    """(C, H, W) a rebuilt image; None where its features were rebuilt."""
    return measured.rebuilt.x[row].cpu().numpy() if measured.rebuilt.target is None else None


class _TilePredictor:
    """One pass over images that are cut into tiles."""

    def __init__(self, artifact: Artifact, request: Request, done: Done, progress: Progress | None) -> None:
        self._artifact, self._request, self._done = artifact, request, done
        self._scorer, self._settings = scorer_of(artifact, request.action, progress), map_settings(artifact)

    def predictions(self, source: Any) -> Iterator[Prediction]:
        empty = True
        for images in source.chunks(CHUNK_TILED):
            keys, scores, skipped = list[Key](), list[float](), list[Skipped]()
            regions: dict[Key, tuple[Region, ...]] = {}
            for row, key in enumerate(images.keys):
                empty, score, why = False, math.nan, tuple[Explanation, ...]()
                if bad := images.unreadable.get(row):
                    skipped.append(Skipped(key, bad))
                elif self._request.keys is None or key in self._request.keys:
                    score, why, regions[key] = self._scored(key, images.pixels[row], images.origin)
                keys.append(key)
                scores.append(score)
                self._done(1, key)
                if why or row == len(images) - 1:  # the map of one image may be as large as all else
                    found = {key: some for key, some in regions.items() if some}
                    found_or_none = found if _has_regions(self._artifact) else None
                    yield Prediction(keys, np.array(scores), tuple(skipped), why, found_or_none)
                    keys, scores, skipped, regions = [], [], [], {}
        if empty:
            raise DataError(f"{source.origin}: holds no samples")

    def _scored(
        self, key: Key, pixels: np.ndarray, origin: str
    ) -> tuple[float, tuple[Explanation, ...], tuple[Region, ...]]:
        tiles = Tiles.of(pixels, self._artifact.preprocess, f"{origin}: image {key}")
        watch = self._request.watch
        looked_at = watch is not None and len(watch.places(1)) > 0
        joined = JoinedMap.of(self._scorer, tiles, self._settings.patch_px, looked_at=looked_at)
        score = joined.score(self._settings.pool)
        if watch:
            shares = joined.item_shares
            watch.look(np.array([score]), lambda rows: None if shares is None else shares[None][rows])
        wanted = self._request.wanted([key], np.array([score]), self._artifact.threshold)
        regions = _regions(self._artifact, joined.anomaly_map, *pixels.shape[1:]) if self._finds(score) else ()
        return score, (self._explanation(key, score, tiles, joined, regions),) if wanted else (), regions

    def _finds(self, score: float) -> bool:
        threshold = self._artifact.threshold
        return _has_regions(self._artifact) and threshold is not None and score > threshold.value

    def _explanation(
        self, key: Key, score: float, tiles: Tiles, joined: JoinedMap, regions: tuple[Region, ...]
    ) -> Explanation:
        worst = tiles.tiling.nearest(*joined.maximum_px)
        x = tiles[worst : worst + 1]
        (part,) = self._scorer.batches(x)
        row, column = tiles.tiling.places[worst].tolist()
        return Explanation(
            key=key,
            score=score,
            p_value=p_value(self._artifact, score),
            items=items_used(part.read, 0, part.rebuilt.asked) if part.read else (),
            x=x[0].numpy(),
            reconstruction=_picture(part, 0),
            error_map=part.maps[0],
            anomaly_map=joined.anomaly_map,
            tile_at=(row, column),
            regions=regions,
        )
