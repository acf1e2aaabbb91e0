"""One pass of a fitted model over a source: the scores, and why those samples scored so of which that is asked."""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch

from memae.allocator import give_back
from memae.artifact import Artifact
from memae.batch_limit import BatchLimit
from memae.counts import count, unit_of
from memae.encoded import Encoded
from memae.errors import DataError
from memae.explain import Explanation, ItemUse, items_used
from memae.hold_out import take
from memae.image.dataset import StoredImages
from memae.image.preprocess import ImagePreprocess, TablePreprocess
from memae.image.tiles import Tiles
from memae.scoring import BATCH_BYTES, ErrorMap, JoinedMap, error_maps, one_thread, sample_scores
from memae.sources import Source
from memae.stages import Advance, Watcher, stage
from memae.types import Images, Key, Samples, Skipped
from memae.video.pipeline import score_frames
from memae.video.preprocess import VideoPreprocess
from memae.video.scoring import CHUNK_FRAMES, FrameScorer, ScoredFrame

__all__ = ["Examined", "Explained", "examine", "scored_frames"]

CHUNK_TILED = 64  # images that are cut into tiles whose scores are given back at a time
CHUNK_SAMPLES = 65_536  # samples read, scored and given back at a time
ENCODED_BYTES = 3 * BATCH_BYTES  # of images, encoded, that are explained at a time
FRAMES_BETWEEN_TRIMS = 8192  # some minutes of video

Explained: TypeAlias = Literal["none", "anomalies", "all"]


class Examined(NamedTuple):
    """Some samples, in the order of the source."""

    keys: Sequence[Key]
    scores: np.ndarray
    """(S,) float64; NaN of a sample that was skipped."""
    skipped: tuple[Skipped, ...] = ()
    explanations: tuple[Explanation, ...] = ()


def examine(
    artifact: Artifact,
    source: Source,
    *,
    explained: Explained = "none",
    keys: Collection[Key] | None = None,
    skip_bad: bool = False,
    doing: str = "scoring",
    watcher: Watcher | None = None,
) -> Generator[Examined]:
    """Samples with their scores, part by part; bad videos, which have none, in a last and empty part.

    Args:
        artifact: the model; for "anomalies" it has a threshold.
        source: the samples, read as the model needs them.
        explained: which of them come with an `Explanation`.
        keys: only samples of these keys, where that saves work, and explained are no others; None is all.
        skip_bad: the score of what cannot be encoded is NaN; it is an error else.
        doing: what it is called in the words on how far it is.
        watcher: told how far the work is.

    Raises:
        DataError: samples that do not fit the model, or none at all.
        OutOfMemoryError: there is no room for a single one.
    """
    with stage(watcher, doing, unit_of(source.modality), count(source)) as done:
        examiner = _Examiner(
            artifact, explained, None if keys is None else set(keys), BatchLimit(doing, watcher), done
        )
        if isinstance(artifact.preprocess, VideoPreprocess):
            yield from examiner.video(source)
        elif isinstance(artifact.preprocess, ImagePreprocess) and artifact.preprocess.overlap is not None:
            yield from examiner.tiled(source, artifact.preprocess)
        else:
            yield from examiner.samples(source, skip_bad, BatchLimit("encoding", watcher))


def scored_frames(artifact: Artifact, source: Source, watched: np.ndarray | None = None) -> Iterator[ScoredFrame]:
    """Every frame of videos in order; see `memae.Detector.watch`."""
    assert isinstance(artifact.preprocess, VideoPreprocess)
    scorer = FrameScorer.of(artifact.model, artifact.preprocess, artifact.config.video, watched)
    for number, frame in enumerate(score_frames(source, scorer), start=1):
        yield frame
        if number % FRAMES_BETWEEN_TRIMS == 0:
            give_back()


class _Examiner:
    def __init__(
        self, artifact: Artifact, explained: Explained, keys: set[Key] | None, limit: BatchLimit, done: Advance
    ) -> None:
        self._artifact, self._explained, self._keys, self._limit, self._done = (
            artifact,
            explained,
            keys,
            limit,
            done,
        )
        self._model, self._measure, self._threshold = artifact.model, artifact.measure, artifact.threshold

    def video(self, source: Source) -> Iterator[Examined]:
        frames = scored_frames(self._artifact, source)
        while part := list(islice(frames, CHUNK_FRAMES)):
            keys, scores = [frame.key for frame in part], np.array([frame.score for frame in part])
            why = tuple(self._explain_frame(part[row]) for row in self._wanted(keys, scores))
            self._done(len(part), keys[-1])
            yield Examined(keys, scores, explanations=why)
        if bad := getattr(source, "skipped", ()):
            yield Examined([], np.empty(0), bad)

    def tiled(self, source: Source, preprocess: ImagePreprocess) -> Iterator[Examined]:
        empty = True
        for images in source.chunks(CHUNK_TILED):
            assert isinstance(images, Images)
            keys, scores, skipped = list[Key](), list[float](), list[Skipped]()
            for row, (key, pixels) in enumerate(zip(images.keys, images.pixels, strict=True)):
                empty, score, why = False, math.nan, tuple[Explanation, ...]()
                if bad := images.unreadable.get(row):
                    skipped.append(Skipped(key, bad))
                elif self._keys is None or key in self._keys:
                    tiles = Tiles.of(pixels, preprocess, f"{images.origin}: image {key}")
                    joined = JoinedMap.of(self._model, tiles, self._measure, self._limit)
                    score = joined.score(self._measure.pool)
                    if self._wanted([key], np.array([score])):
                        why = (self._explain_tiles(key, tiles, joined),)
                keys.append(key)
                scores.append(score)
                self._done(1, key)
                if why or row == len(images) - 1:  # the map of one image may be as large as all else
                    yield Examined(keys, np.array(scores), tuple(skipped), why)
                    keys, scores, skipped = [], [], []
        if empty:
            raise DataError(f"{source.origin}: holds no samples")

    def samples(self, source: Source, skip_bad: bool, limit: BatchLimit) -> Iterator[Examined]:
        for samples, encoded, bad in self._encoded(source, skip_bad, limit):
            skipped = tuple(Skipped(samples.keys[row], why) for row, why in bad.items())
            if self._explained == "none":
                scores = sample_scores(self._model, encoded, self._measure, self._done, self._limit)
                scores[list(bad)] = np.nan
                yield Examined(samples.keys, scores, skipped)
            elif self._keys is None and not bad:
                for part in self._explaining(samples, encoded):
                    self._done(len(part.keys))
                    yield part
            else:
                kept = (row for row, key in enumerate(samples.keys) if self._keys is None or key in self._keys)
                yield self._together(samples, encoded, [row for row in kept if row not in bad], skipped)
                self._done(len(samples))

    def _together(
        self, samples: Samples, encoded: Encoded, good: list[int], skipped: tuple[Skipped, ...]
    ) -> Examined:
        """All samples as one part; only some of them, `good`, can be scored or are to be."""
        keys, scores, why = samples.keys, np.full(len(samples), np.nan), list[Explanation]()
        if good:
            if len(good) < len(samples):
                rows = torch.tensor(good, dtype=torch.long)
                samples, encoded = take(samples, rows), encoded[rows]
            parts = list(self._explaining(samples, encoded))
            scores[good] = np.concatenate([part.scores for part in parts])
            why = [one for part in parts for one in part.explanations]
        return Examined(keys, scores, skipped, tuple(why))

    def _explaining(self, samples: Samples, encoded: Encoded) -> Iterator[Examined]:
        start, batches = 0, error_maps(self._model, encoded, self._measure, self._limit)
        while start < len(samples):
            with one_thread() if len(encoded.shape) == 2 else nullcontext():
                part = next(batches)
                scores = part.scores
                keys = samples.keys[start : start + len(scores)]
                rows = self._wanted(keys, scores)
                why = tuple(self._explain(samples, encoded, start, part, scores, rows))
            yield Examined(keys, scores, explanations=why)
            start += len(scores)

    def _wanted(self, keys: Sequence[Key], scores: np.ndarray) -> list[int]:
        """The rows that are to be explained."""
        if self._explained == "none":
            return []
        if self._explained == "anomalies":
            assert self._threshold is not None, "who asks for anomalies has looked for a threshold"
            return np.flatnonzero(self._threshold.flags(scores)).tolist()
        return [row for row, key in enumerate(keys) if self._keys is None or key in self._keys]

    def _encoded(
        self, source: Source, skip_bad: bool, limit: BatchLimit
    ) -> Iterator[tuple[Samples, Encoded, Mapping[int, str]]]:
        """Samples, encoded, and those of them that are bad and why, which is an error unless they may be skipped."""
        good, why = 0, "holds no samples"
        for chunk in source.chunks(CHUNK_SAMPLES):
            start = 0
            while start < len(chunk):
                size = min(limit.fit(self._encoded_at_once(chunk)), len(chunk) - start)
                part = chunk if size == len(chunk) else take(chunk, torch.arange(start, start + size))
                try:
                    encoded, bad = self._encode(part, skip_bad)
                except (MemoryError, RuntimeError) as error:
                    limit.halve(error, size)
                    continue
                good += len(part) - len(bad)
                if bad and not good:
                    why = f"holds no sample that is not bad; the first: {next(iter(bad.values()))}"
                yield part, encoded, bad
                start += size
        if not good:
            raise DataError(f"{source.origin}: {why}")

    def _encoded_at_once(self, samples: Samples) -> int:
        if not isinstance(samples, Images) or self._explained == "none":
            return len(samples)
        return min(len(samples), max(1, ENCODED_BYTES // (4 * math.prod(self._artifact.preprocess.shape))))

    def _encode(self, samples: Samples, skip_bad: bool) -> tuple[Encoded, Mapping[int, str]]:
        preprocess = self._artifact.preprocess
        assert not isinstance(preprocess, VideoPreprocess)
        if skip_bad and isinstance(preprocess, TablePreprocess):
            encoded, bad = preprocess.encode_rows(samples)
            return encoded, bad
        bad = samples.unreadable if isinstance(samples, Images) else {}
        if isinstance(samples, Images) and isinstance(preprocess, ImagePreprocess):
            return StoredImages(samples, None, preprocess), bad
        return preprocess.encode(samples), bad

    def _explain(
        self, samples: Samples, encoded: Encoded, start: int, part: ErrorMap, scores: np.ndarray, rows: list[int]
    ) -> Iterator[Explanation]:
        """Of the rows of a part, which lies in the samples from `start` on."""
        preprocess = self._artifact.preprocess
        for row in rows:
            rebuilt, errors = part.reconstruction[row].cpu(), part.errors[row].cpu()
            seen: dict[str, Any] = {"cells": (), "x": None, "reconstruction": None, "error_map": None}
            if isinstance(preprocess, TablePreprocess):
                cells = preprocess.cells(samples, start + row, rebuilt, errors / errors.numel())
                seen["cells"] = tuple(cells)
            else:
                seen["x"] = encoded[start + row : start + row + 1][0].numpy()
                seen["reconstruction"] = rebuilt.numpy()
                seen["error_map"], seen["square_px"] = errors.numpy(), self._measure.square_px
            yield Explanation(
                key=samples.keys[start + row],
                score=float(scores[row]),
                p_value=self._p_value(scores[row]),
                items=items_used(part.read, [row])[0] if part.read else (),
                **seen,
            )

    def _explain_tiles(self, key: Key, tiles: Tiles, joined: JoinedMap) -> Explanation:
        worst = tiles.tiling.nearest(*joined.hottest_px)
        x = tiles[worst : worst + 1]
        (part,) = error_maps(self._model, x, self._measure, self._limit)
        row, column = tiles.tiling.places[worst].tolist()
        score = joined.score(self._measure.pool)
        return Explanation(
            key=key,
            score=score,
            p_value=self._p_value(score),
            items=items_used(part.read)[0] if part.read else (),
            cells=(),
            x=x[0].numpy(),
            reconstruction=part.reconstruction[0].cpu().numpy(),
            error_map=part.maps[0],
            joined=joined,
            tile_at=(row, column),
        )

    def _explain_frame(self, frame: ScoredFrame) -> Explanation:
        x, rebuilt = (part[frame.index_in_clip][None].cpu().numpy() for part in frame.clip[:2])
        return Explanation(
            key=frame.key,
            score=frame.score,
            p_value=self._p_value(frame.score),
            items=tuple(ItemUse(*use) for use in frame.items()),
            cells=(),
            x=x,
            reconstruction=rebuilt,
            error_map=((x - rebuilt) ** 2)[0],
        )

    def _p_value(self, score: float) -> float | None:
        return float(self._threshold.p_values(np.array([score]))[0]) if self._threshold else None
