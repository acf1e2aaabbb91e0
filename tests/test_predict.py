"""Scores and the reasons for them come from one pass over the samples."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits

import memae.engine.scoring
from memae import Detector
from memae.errors import ArtifactError, MemaeError
from memae.modality import open_source
from memae.types import Explained, Explanation, Source
from tests.small_footage import scene
from tests.video_files import write_video

BRIEF = {"train": {"epochs": 4}, "memory": {"num_items": 12}}
TUMOURS, BENIGN = load_breast_cancer(return_X_y=True)
PIXELS, DIGITS = load_digits(return_X_y=True)
IMAGES = np.round(PIXELS.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
VIDEO = {
    "video": {"height": 32, "width": 48, "crop_px": 16, "place_px": 8, "training_stride": 8, "crops_per_clip": 1},
    "train": {"epochs": 1},
    "memory": {"num_items": 12, "warmup_epochs": 1},
}


class CountedSource:
    """A source that knows how often it was read."""

    def __init__(self, source: Source) -> None:
        self.source, self.reads = source, 0
        self.origin, self.modality = source.origin, source.modality

    def chunks(self, size: int) -> Iterator[Any]:
        self.reads += 1
        return self.source.chunks(size)

    def labels(self, name: Any) -> Any:
        return self.source.labels(name)

    def without(self, names: Any) -> Any:
        return self


@pytest.fixture(scope="module")
def of_rows() -> Detector:
    return Detector(settings=BRIEF, device="cpu").fit(TUMOURS[BENIGN == 1])


@pytest.fixture(scope="module")
def of_images() -> Detector:
    return Detector(settings=BRIEF, device="cpu").fit(IMAGES[DIGITS == 0])


@pytest.fixture(scope="module")
def of_video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path]:
    folder = tmp_path_factory.mktemp("video")
    for seed in range(2):
        write_video(folder / "normal" / f"{seed}.mp4", scene(seed)[0], like="h264.mp4")
    write_video(folder / "clip.mp4", scene(5, range(40, 60))[0], like="h264.mp4")
    return Detector("video", settings=VIDEO, device="cpu").fit(folder / "normal"), folder / "clip.mp4"


@pytest.fixture(params=["rows", "images", "video"])
def trained(request: pytest.FixtureRequest) -> tuple[Detector, np.ndarray | Path]:
    """A detector and samples of which some are anomalies."""
    if request.param == "video":
        detector, clip = request.getfixturevalue("of_video")
        return detector, clip
    if request.param == "rows":
        return request.getfixturevalue("of_rows"), TUMOURS[:300]
    return request.getfixturevalue("of_images"), IMAGES[:300]


def same(one: Explanation, other: Explanation) -> None:
    assert (one.key, one.p_value) == (other.key, other.p_value)
    assert one.score == pytest.approx(other.score, rel=1e-5)
    assert [use.item for use in one.items] == [use.item for use in other.items]
    assert [cell.column for cell in one.cells] == [cell.column for cell in other.cells]
    for a, b in ((one.x, other.x), (one.reconstruction, other.reconstruction), (one.error_map, other.error_map)):
        assert (a is None) == (b is None)
        assert a is None or b is None or np.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("explained", ["none", "anomalies", "all"])
def test_those_that_were_asked_for_are_explained_and_all_are_scored_the_same(
    trained: tuple[Detector, np.ndarray | Path], explained: Explained
) -> None:
    detector, x = trained
    plain, every = detector.detect(x), {one.key: one for one in detector.explain(x)}
    source = CountedSource(detector.open(x))
    found = detector.detect(source, explained=explained)
    assert source.reads == 1
    assert list(found.keys) == list(plain.keys)
    assert np.allclose(found.scores, plain.scores, rtol=1e-5)
    assert found.is_anomaly.tolist() == plain.is_anomaly.tolist()
    anomalies = [key for key, flag in zip(plain.keys, plain.is_anomaly, strict=True) if flag]
    assert 0 < len(anomalies) < len(plain)
    wanted: list[Any] = {"none": [], "anomalies": anomalies, "all": list(plain.keys)}[explained]
    assert [one.key for one in found.explanations] == wanted
    for one in found.explanations:
        same(one, every[one.key])


@pytest.mark.parametrize("explained", ["anomalies", "all"])
def test_chunks_of_any_size_explain_the_same(
    of_rows: Detector, monkeypatch: pytest.MonkeyPatch, explained: Explained
) -> None:
    whole = of_rows.detect(TUMOURS[:200], explained=explained)
    monkeypatch.setattr(memae.engine.scoring, "CHUNK_SAMPLES", 37)
    parts = list(of_rows.stream(TUMOURS[:200], explained=explained))
    assert len(parts) == 6
    apart = [one for part in parts for one in part.explanations]
    assert len(apart) == len(whole.explanations)
    for one, other in zip(apart, whole.explanations, strict=True):
        same(one, other)


@pytest.mark.parametrize("explained", ["anomalies", "all"])
def test_bad_rows_keep_their_places_and_are_not_explained(of_rows: Detector, explained: Explained) -> None:
    rows = pd.DataFrame(TUMOURS[:100], columns=[f"x{place}" for place in range(TUMOURS.shape[1])])
    rows.loc[[3, 50], "x4"] = np.inf
    plain = of_rows.detect(rows, skip_bad=True)
    found = of_rows.detect(rows, explained=explained, skip_bad=True)
    assert np.flatnonzero(np.isnan(found.scores)).tolist() == [3, 50]
    assert np.allclose(found.scores, plain.scores, rtol=1e-5, equal_nan=True)
    assert [bad.key for bad in found.skipped] == [3, 50]
    keys = [one.key for one in found.explanations]
    assert 3 not in keys and 50 not in keys
    assert keys == [
        key for key in range(100) if key not in (3, 50) and (explained == "all" or plain.is_anomaly[key])
    ]


def test_anomalies_need_a_threshold() -> None:
    settings = {**BRIEF, "threshold": {"calibration_share": 0.0}}
    detector = Detector(settings=settings, device="cpu").fit(TUMOURS[BENIGN == 1])
    with pytest.raises(MemaeError, match="has no threshold"):
        detector.detect(TUMOURS[:9], explained="anomalies")


def test_a_source_of_nothing_is_an_error(of_rows: Detector) -> None:
    empty = open_source(pd.DataFrame(TUMOURS[:0], columns=[f"x{place}" for place in range(TUMOURS.shape[1])]))
    with pytest.raises(MemaeError, match="holds no samples"):
        of_rows.detect(empty, explained="all")


@pytest.mark.parametrize("explained", ["none", "all"])
def test_a_score_that_is_no_number_never_leaves_the_library(
    trained: tuple[Detector, np.ndarray | Path], explained: Explained
) -> None:
    detector, x = copy.deepcopy(trained[0]), trained[1]
    with torch.no_grad():
        for weights in detector.model.decoder.parameters():
            weights.fill_(1e30)  # each is finite, and the scores are not
    asked: list[Callable[[], Any]] = [
        lambda: detector.detect(x, explained=explained),
        lambda: detector.score(x),
        lambda: detector.explain(x),
    ]
    if isinstance(x, Path):
        asked.append(lambda: list(detector.watch(x)))
    for ask in asked:
        with pytest.raises(
            ArtifactError, match=r"the score (nan|inf), which says nothing: its weights are damaged"
        ):
            ask()
