"""Figures of a mixture of groups are those of the mixture itself, written out."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from memae.metrics.curves import Curves, ScoreHistogram, area_share, average_precision
from memae.metrics.intervals import bootstrap

LENGTHS = (30, 50, 40)
MIXTURES = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0], [1, 0, 2]])


@pytest.fixture(autouse=True)
def undefined_figures_are_no_error() -> Iterator[None]:
    """As in `bootstrap`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        yield


@pytest.fixture
def groups() -> list[tuple[np.ndarray, np.ndarray]]:
    """(labels, scores) of each group; scores with ties."""
    generator = np.random.default_rng(0)
    return [(generator.random(n) < 0.3, generator.integers(0, 12, n)) for n in LENGTHS]


def curves(groups: list[tuple[np.ndarray, np.ndarray]]) -> Curves:
    labels, scores = zip(*groups, strict=True)
    return Curves.of_groups(scores, [np.stack([~of_group, of_group]) for of_group in labels])


def test_the_ranking_of_a_mixture(groups: list[tuple[np.ndarray, np.ndarray]]) -> None:
    false, found = curves(groups)(MIXTURES)
    area, precision = area_share(false, found, false[-1], found[-1]), average_precision(false, found)
    for row, mixture in enumerate(MIXTURES):
        drawn = [groups[group] for group, times in enumerate(mixture) for _ in range(times)]
        labels, scores = (np.concatenate(part) for part in zip(*drawn, strict=True))
        assert area[row] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert curves(groups).roc_area(MIXTURES)[row] == area[row]
        assert precision[row] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_one_class_alone_has_no_ranking(groups: list[tuple[np.ndarray, np.ndarray]]) -> None:
    groups[1] = np.zeros(LENGTHS[1], dtype=bool), groups[1][1]
    false, found = curves(groups)(MIXTURES)
    area = area_share(false, found, false[-1], found[-1])
    assert np.isnan(area).tolist() == [False, False, True, False]


def test_no_entry_at_all_is_a_curve_that_stays_at_nothing() -> None:
    nothing = np.empty(0)
    false, found = Curves(nothing, np.empty((2, 0)), nothing.astype(int), 3)(MIXTURES)
    assert area_share(false, found, np.ones(4), np.ones(4)).tolist() == [0, 0, 0, 0]


def test_the_area_up_to_a_limit_by_hand() -> None:
    # thresholds 5, 4, 3, 2: of 2 frames and 3 true regions; the last is never found
    scores, is_false = np.array([4.0, 2.0, 5.0, 3.0]), np.array([True, True, False, False])
    x, y = Curves(scores, np.stack([is_false, ~is_false]), np.zeros(4, int), 1)(np.array([[1.0], [7.0]]))
    # (FPR, found): (0, 0), (0, 1/3), (1/2, 1/3), (1/2, 2/3), (1, 2/3)
    area = area_share(x, y, np.array([2.0, 14.0]), np.array([3.0, 21.0]))
    assert area.tolist() == pytest.approx([0.5 * 1 / 3 + 0.5 * 2 / 3] * 2)  # so often as one likes
    # one false region is the limit, and then three quarters of one: the curve is cut there
    assert area_share(x, y, np.array([1.0, 5.25]), np.array([3.0, 21.0])) == pytest.approx(1 / 3)
    # it ends before a limit of 4, and goes on at its last height
    assert area_share(x, y, np.array([4.0, 28.0]), np.array([3.0, 21.0])) == pytest.approx(0.25 / 3 + 0.75 * 2 / 3)


def test_a_curve_is_cut_between_two_points() -> None:
    x, y = np.array([[0.0], [2.0]]), np.array([[0.0], [1.0]])
    assert area_share(x, y, np.array([1.0]), np.array([1.0])).tolist() == [0.25]


def test_an_interval_is_of_what_the_draws_give() -> None:
    values = np.array([0.0, 1.1, 2.0, 2.7, 4.2])

    def figures(resamples: np.ndarray) -> np.ndarray:
        return np.stack([resamples @ values / 5, np.full(len(resamples), math.nan)], axis=1)

    found, undefined = bootstrap(figures, 5)
    assert undefined is None
    assert found is not None
    assert (found.value, found.groups) == (2, 5)
    # five draws of a variance of 2: the mean has a deviation of 0.63
    assert 0.6 < found.low < 1.0
    assert 3.0 < found.high < 3.4
    assert bootstrap(figures, 5) == [found, None]
    assert bootstrap(figures, 5, cells=1 << 18) == [found, None]  # in parts of four resamples
    assert bootstrap(figures, 5, seed=1) != [found, None]
    lone, _ = bootstrap(figures, 5, resamples=0)
    assert lone is not None
    assert lone.value == 2
    assert math.isnan(lone.low)
    assert math.isnan(lone.high)


def test_fewer_than_five_groups_give_no_interval() -> None:
    few, enough = (bootstrap(lambda r: r @ np.arange(r.shape[1]), groups)[0] for groups in (4, 5))
    assert few is not None and enough is not None
    assert (few.value, few.groups) == (6, 4)
    assert math.isnan(few.low) and math.isnan(few.high)
    assert enough.low < enough.value < enough.high
    (bears,) = bootstrap(lambda r: r @ np.arange(9), 9, bearing=[4])
    assert bears is not None
    assert (bears.groups, math.isnan(bears.low)) == (4, True)


def test_it_tells_how_many_resamples_are_done() -> None:
    told: list[int] = []
    bootstrap(lambda resamples: resamples[:, :1], 4, resamples=10, cells=1 << 18, done=told.append)
    assert told == [4, 4, 2]


def test_resamples_that_leave_a_figure_undefined_do_not_count() -> None:
    (found,) = bootstrap(lambda resamples: 1 / (resamples[:, :1] > 0) ** 1.0, 5, resamples=50)
    assert found is not None
    assert (found.value, found.low) == (1, 1)
    (found,) = bootstrap(lambda r: np.where(r[:, :1] > 0, r[:, :1], np.nan), 5, resamples=200)
    assert found is not None
    assert (found.low, found.high) == (1, 3)


def test_a_histogram_of_scores_keeps_their_order_and_their_amounts() -> None:
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.normal(size=500), [-0.0, 0.0]]).astype(np.float32)
    amounts = generator.random((2, 502))
    histogram = ScoreHistogram(2)
    for part in (slice(0, 300), slice(300, None)):
        histogram.add(scores[part].reshape(1, -1), *amounts[:, part])
    bins, found = histogram.entries()
    assert (np.diff(bins) > 0).all()
    # of equal sign, exponent and first 8 bits of the fraction
    coarse = ((scores + np.float32(0)).view(np.uint32) & np.uint32(0xFFFF8000)).view(np.float32)
    expected = [np.bincount(np.unique(coarse, return_inverse=True)[1], amount) for amount in amounts]
    assert found == pytest.approx(np.array(expected))
