import numpy as np
import pytest

from experiments import protocols
from experiments.protocols import (
    auroc_metrics,
    kddcup,
    kddcup_choose,
    kddcup_features,
    kddcup_metrics,
    mnist,
    mnist_choose,
)
from memae.data import known


def rows_of(samples):
    return {row.tobytes() for row in samples.reshape(len(samples), -1)}


def test_the_top_fifth_is_flagged_by_hand():
    labels = np.array([1, 0, 1, 0, 0, 0, 0, 0, 1, 0], dtype=bool)
    scores = np.array([9, 8, 7, 1, 2, 3, 4, 5, 6, 0], dtype=float)  # flagged: the first two
    found = kddcup_metrics(labels, scores)
    assert found["precision"] == 1 / 2
    assert found["recall"] == 1 / 3
    assert found["f1"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    # of 3 x 7 pairs the anomaly is above in 7, 6 and 6
    assert found["auroc"] == pytest.approx(19 / 21)


@pytest.mark.parametrize("count", [10, 103, 1000])
@pytest.mark.parametrize("tied", [False, True])
def test_exactly_a_fifth_is_flagged_ties_or_not(count, tied):
    rng = np.random.default_rng(0)
    scores = np.zeros(count) if tied else rng.random(count)
    labels = rng.random(count) < 0.3
    found = kddcup_metrics(labels, scores)
    flagged = found["recall"] * labels.sum() / found["precision"]  # hits over precision
    assert flagged == pytest.approx(round(0.2 * count))


def test_the_figures_do_not_depend_on_scale_and_are_perfect_for_perfect_scores():
    labels = np.arange(100) < 20
    assert kddcup_metrics(labels, labels * 1e-9) == {
        "precision": 1,
        "recall": 1,
        "f1": pytest.approx(1),
        "auroc": 1,
    }
    assert kddcup_metrics(labels, -labels.astype(float))["f1"] == 0
    assert auroc_metrics(labels, labels.astype(float)) == {"auroc": 1.0}


def test_mnist_is_fitted_on_one_class_of_the_training_file(small_data):
    split = mnist(8, seed=0)
    train, labels = known.mnist("train")
    test, test_labels = known.mnist("test")
    assert np.array_equal(split.fit, train[labels == 8])
    assert np.array_equal(split.test, test)
    assert np.array_equal(split.labels, test_labels != 8)
    assert not rows_of(split.fit) & rows_of(split.test)


def test_the_full_protocol_judges_every_test_image_once(small_data):
    assert np.array_equal(mnist(8, seed=0).judged["full"], np.arange(100))


def test_the_papers_mix_has_all_normal_images_and_three_tenths_anomalies(small_data):
    split = mnist(8, seed=0)
    rows = split.judged["paper"]
    assert len(set(rows)) == len(rows)
    assert set(np.flatnonzero(~split.labels)) <= set(rows)
    assert split.labels[rows].sum() == round(10 * 0.3 / 0.7)
    assert split.labels[rows].mean() == pytest.approx(0.3, abs=0.02)


def test_the_seed_draws_other_anomalies_and_the_same_seed_the_same(small_data):
    first, same, other = (mnist(8, seed).judged["paper"] for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_settings_are_chosen_without_the_test_file(small_data):
    for file in (small_data / "mnist").glob("t10k*"):
        file.unlink()
    split = mnist_choose(8, seed=0)
    train, labels = known.mnist("train")
    eights = rows_of(train[labels == 8])
    assert (len(split.fit), (~split.labels).sum(), split.labels.sum()) == (66, 34, round(34 * 0.3 / 0.7))
    assert rows_of(split.fit) | rows_of(split.test[~split.labels]) == eights
    assert not rows_of(split.fit) & rows_of(split.test)
    assert not eights & rows_of(split.test[split.labels])
    assert np.array_equal(split.judged["choose"], np.arange(len(split.test)))


def test_kddcup_rows_become_120_numbers(small_data):
    features, anomalous = kddcup_features()
    rows, labels = known.kddcup99()
    assert features.shape == (300, 120)
    assert features.dtype == np.float32
    assert np.array_equal(anomalous, labels == "normal")
    assert np.array_equal(features[:, 0], rows["duration"].to_numpy().astype(np.float32))
    # protocol_type is the second column: one of its three features is 1
    assert np.array_equal(features[:, 1:4].argmax(axis=1), [row % 3 for row in range(300)])
    assert (features[:, 1:4].sum(axis=1) == 1).all()
    one_hot = features[:, [np.isin(column, (0, 1)).all() for column in features.T]]
    assert one_hot.shape[1] == 86
    assert (one_hot.sum(axis=1) == 6).all()  # six categories; the seventh has one value and is left out


@pytest.mark.parametrize("seed", [0, 1])
def test_kddcup_is_fitted_on_the_attacks_of_one_half_and_tested_on_the_other(small_data, seed):
    split = kddcup(seed)
    features, anomalous = kddcup_features()
    attacks, test = rows_of(features[~anomalous]), rows_of(split.test)
    assert len(split.test) == 150
    assert rows_of(split.fit) <= attacks
    assert rows_of(split.fit) == attacks - test
    assert {row.tobytes() for row in split.test[split.labels]} == rows_of(features[anomalous]) & test
    assert np.array_equal(split.judged["paper"], np.arange(150))


def test_kddcup_halves_follow_the_seed(small_data):
    assert np.array_equal(kddcup(0).test, kddcup(0).test)
    assert rows_of(kddcup(0).test) != rows_of(kddcup(1).test)


def test_settings_are_chosen_on_rows_that_the_test_of_the_seed_does_not_hold(small_data):
    chosen, tested = kddcup_choose(0), rows_of(kddcup(0).test)
    assert not rows_of(chosen.fit) & rows_of(chosen.test)
    assert not (rows_of(chosen.fit) | rows_of(chosen.test)) & tested
    assert len(chosen.test) == 75


@pytest.mark.real
def test_the_real_mnist_has_the_sizes_of_the_paper(fresh):
    for normal, fitted, usual in ((8, 5851, 974), (2, 5958, 1032)):
        split = mnist(normal, seed=0)
        assert split.fit.shape == (fitted, 1, 28, 28)
        assert split.test.shape == (10_000, 1, 28, 28)
        assert (~split.labels).sum() == usual
        rows = split.judged["paper"]
        assert split.labels[rows].sum() == round(usual * 0.3 / 0.7)
        assert (~split.labels[rows]).sum() == usual


@pytest.mark.real
def test_the_real_kddcup99_has_the_sizes_of_the_paper(fresh):
    features, anomalous = kddcup_features()
    assert features.shape == (494_021, 120)
    assert anomalous.sum() == 97_278
    split = kddcup(0)
    assert len(split.test) == 494_021 // 2
    assert len(split.fit) + (~split.labels).sum() == (~anomalous).sum()
    assert split.labels.mean() == pytest.approx(0.197, abs=0.005)  # so a fifth flagged is about right
    chosen = kddcup_choose(0)
    assert len(chosen.test) == pytest.approx(494_021 / 4, abs=2)
    assert protocols.KDD_FLAGGED == 0.2
