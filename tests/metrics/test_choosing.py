"""Thresholds that labels choose are measured on samples that did not choose them."""

import numpy as np
import pytest

from memae.errors import ConfigError, DataError
from memae.metrics import choose_threshold


def samples(count: int, gap: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random(count) < 0.3
    return labels, generator.normal(size=count) + gap * labels


def test_the_highest_threshold_with_the_recall_is_chosen() -> None:
    labels, scores = samples(500)
    chosen = choose_threshold(labels, scores, recall=0.9)
    assert (scores[labels] > chosen.at).mean() >= 0.9
    higher = np.sort(scores[labels & (scores > chosen.at)])[0]
    assert (scores[labels] > higher).mean() < 0.9


def test_the_best_f1_of_all_thresholds_is_chosen_and_measured_on_others() -> None:
    labels, scores = samples(300, gap=1.0)

    def f1(at: float) -> float:
        flags = scores > at
        return float(2 * (flags & labels).sum() / (flags.sum() + labels.sum()))

    chosen = choose_threshold(labels, scores)
    assert f1(chosen.at) == pytest.approx(max(f1(at) for at in (-np.inf, *scores)))
    assert chosen.measured.f1.value <= f1(chosen.at)
    assert chosen.measured.f1.low < chosen.measured.f1.value < chosen.measured.f1.high


def test_what_is_measured_holds_on_new_samples_where_the_best_fit_flatters() -> None:
    """With few samples the F1 on those that chose the threshold is too good; that of the folds is not, on average."""
    flattered, estimated, truth = [], [], []
    new_labels, new_scores = samples(20_000, gap=1.0, seed=999)
    for seed in range(30):
        labels, scores = samples(60, gap=1.0, seed=seed)
        chosen = choose_threshold(labels, scores, seed=seed)
        flags, new = scores > chosen.at, new_scores > chosen.at
        flattered.append(2 * (flags & labels).sum() / (flags.sum() + labels.sum()))
        truth.append(2 * (new & new_labels).sum() / (new.sum() + new_labels.sum()))
        estimated.append(chosen.measured.f1.value)
    assert np.mean(flattered) - np.mean(truth) > 0.04
    assert abs(np.mean(estimated) - np.mean(truth)) < 0.03


def test_a_group_chooses_no_threshold_that_decides_on_it() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    labels = groups % 2 == 0
    scores = np.repeat(generator.normal(size=60), 10) + labels  # a group is one level
    together = choose_threshold(labels, scores, recall=0.9, groups=groups).measured.recall
    assert (together.groups, together.value < 0.95) == (30, True)


def test_what_cannot_be_chosen_is_refused() -> None:
    labels, scores = samples(100)
    with pytest.raises(ConfigError, match=r"`recall=1\.5` is no share"):
        choose_threshold(labels, scores, recall=1.5)
    few = np.arange(100) < 9
    with pytest.raises(DataError, match="9 anomalies or groups of them are too few"):
        choose_threshold(few, scores)
    with pytest.raises(DataError, match="9 normal samples or groups of them are too few"):
        choose_threshold(~few, scores)
