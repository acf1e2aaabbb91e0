"""Figures of a mixture of videos are those of the mixture itself, written out."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memae.video.bootstrap import Criterion, Ranking, VideoBootstrap

LENGTHS = (30, 50, 40)
MIXTURES = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0], [1, 0, 2]])


@pytest.fixture(autouse=True)
def undefined_figures_are_no_error() -> Iterator[None]:
    """As in `VideoBootstrap.estimate`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        yield


@pytest.fixture
def frames() -> list[tuple[np.ndarray, np.ndarray]]:
    """(labels, scores) of each video; scores with ties."""
    generator = np.random.default_rng(0)
    return [(generator.random(n) < 0.3, generator.integers(0, 12, n)) for n in LENGTHS]


def ranking(frames: list[tuple[np.ndarray, np.ndarray]]) -> Ranking:
    labels, scores = (np.concatenate(part) for part in zip(*frames, strict=True))
    return Ranking(np.repeat(range(3), LENGTHS), scores, labels, ~labels, 3)


def test_the_ranking_of_a_mixture(frames: list[tuple[np.ndarray, np.ndarray]]) -> None:
    found = ranking(frames).micro(MIXTURES)
    for mixture, area in zip(MIXTURES, found, strict=True):
        drawn = [frames[video] for video, times in enumerate(mixture) for _ in range(times)]
        labels, scores = (np.concatenate(part) for part in zip(*drawn, strict=True))
        assert area == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_the_mean_over_videos_leaves_out_those_of_one_kind(frames: list[tuple[np.ndarray, np.ndarray]]) -> None:
    frames[1] = np.zeros(LENGTHS[1], dtype=bool), frames[1][1]
    found = ranking(frames)
    first, _, last = [roc_auc_score(*video) if video[0].any() else math.nan for video in frames]
    assert found.both_kinds.tolist() == [True, False, True]
    assert found.macro(MIXTURES[[0, 1]]).tolist() == pytest.approx([(first + last) / 2, (2 * first + last) / 3])


def test_the_area_of_a_criterion_by_hand() -> None:
    # thresholds 5, 4, 3, 2: of 2 frames and 3 true regions; the last is never found
    false, true = [np.array([4.0, 2.0])], [np.array([5.0, 3.0, -np.inf])]
    # (FPR, found): (0, 0), (0, 1/3), (1/2, 1/3), (1/2, 2/3), (1, 2/3)
    area = Criterion(false, true, np.array([2])).area(np.array([[1.0], [7.0]]))
    assert area.tolist() == pytest.approx([0.5 * 1 / 3 + 0.5 * 2 / 3] * 2)  # so often as one likes


def test_an_interval_is_of_what_the_draws_give() -> None:
    bootstrap = VideoBootstrap(4, seed=0)
    values = np.array([0.0, 1.0, 2.0, 3.0])
    everyone = np.ones(4, dtype=bool)
    found = bootstrap.estimate(lambda resamples: resamples @ values / 4, everyone)
    assert found is not None
    assert found.value == 1.5
    # four draws of a variance of 1.25: the mean has a deviation of 0.56
    assert 0.3 < found.low < 0.75
    assert 2.25 < found.high < 2.7
    assert bootstrap.estimate(lambda resamples: resamples @ values / 4, everyone) == found
    assert bootstrap.estimate(lambda resamples: np.full(len(resamples), math.nan), everyone) is None
    lone = bootstrap.estimate(lambda resamples: resamples @ values / 4, np.array([True, False, False, False]))
    assert lone is not None
    assert lone.value == 1.5
    assert math.isnan(lone.low)
    assert math.isnan(lone.high)
