from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from experiments.protocols.images import cifar10, cifar10_tuning, judge, mnist, mnist_tuning
from experiments.protocols.metrics import ranking
from memae import datasets

BOTH = pytest.mark.parametrize(
    ("split", "load", "folder"), [(mnist, datasets.mnist, "mnist"), (cifar10, datasets.cifar10, "cifar10")]
)


def rows_of(samples: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in samples.reshape(len(samples), -1)}


@BOTH
def test_one_class_of_the_training_file_is_fitted_and_the_official_test_is_tested(
    small_data: Path, split: Callable[..., Any], load: Callable[..., Any], folder: str
) -> None:
    found = split(8, seed=0)
    train, labels = load("train")
    test, test_labels = load("test")
    assert np.array_equal(found.fit, train[labels == 8])
    assert np.array_equal(found.test, test)
    assert np.array_equal(found.labels, test_labels != 8)
    assert not rows_of(found.fit) & rows_of(found.test)


@BOTH
def test_the_full_protocol_judges_every_test_image_once(
    small_data: Path, split: Callable[..., Any], load: Callable[..., Any], folder: str
) -> None:
    found = split(8, seed=0)
    assert np.array_equal(found.judged["full"], np.arange(len(found.test)))


@BOTH
def test_the_papers_mix_has_all_normal_images_and_three_tenths_anomalies(
    small_data: Path, split: Callable[..., Any], load: Callable[..., Any], folder: str
) -> None:
    found = split(8, seed=0)
    rows = found.judged["paper"]
    usual = (~found.labels).sum()
    assert len(set(rows)) == len(rows)
    assert set(np.flatnonzero(~found.labels)) <= set(rows)
    assert found.labels[rows].sum() == round(usual * 0.3 / 0.7)
    assert found.labels[rows].mean() == pytest.approx(0.3, abs=0.03)


@BOTH
def test_the_seed_draws_other_anomalies_and_the_same_seed_the_same(
    small_data: Path, split: Callable[..., Any], load: Callable[..., Any], folder: str
) -> None:
    first, same, other = (split(8, seed).judged["paper"] for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_each_protocol_ranks_its_own_rows_and_no_training_image_is_scored(small_data: Path) -> None:
    split = mnist(8, seed=0)
    scores = np.random.default_rng(0).random(len(split.test))

    def never() -> NoReturn:
        raise AssertionError

    found = judge(split, scores, never)
    assert {*found} == {"full", "paper"}
    for protocol, rows in split.judged.items():
        assert found[protocol] == ranking(split.labels[rows], scores[rows])


@pytest.mark.parametrize(
    ("tuning", "load", "folder", "fitted", "held_out"),
    [(mnist_tuning, datasets.mnist, "mnist", 66, 34), (cifar10_tuning, datasets.cifar10, "cifar10", 26, 14)],
)
def test_settings_are_chosen_without_the_test_file(
    small_data: Path, tuning: Any, load: Callable[..., Any], folder: str, fitted: int, held_out: int
) -> None:
    for file in (small_data / folder).glob("t10k*"):
        file.unlink()
    for file in (small_data / folder).glob("test*"):
        file.unlink()
    split = tuning(8, seed=0)
    train, labels = load("train")
    eights = rows_of(train[labels == 8])
    anomalies = round(held_out * 0.3 / 0.7)
    assert (len(split.fit), (~split.labels).sum(), split.labels.sum()) == (fitted, held_out, anomalies)
    assert rows_of(split.fit) | rows_of(split.test[~split.labels]) == eights
    assert not rows_of(split.fit) & rows_of(split.test)
    assert not eights & rows_of(split.test[split.labels])
    assert np.array_equal(split.judged["tuning"], np.arange(len(split.test)))


@pytest.mark.real
def test_the_real_mnist_has_the_sizes_of_the_paper(fresh: Any) -> None:
    for normal, fitted, usual in ((8, 5851, 974), (2, 5958, 1032)):
        split = mnist(normal, seed=0)
        assert split.fit.shape == (fitted, 1, 28, 28)
        assert split.test.shape == (10_000, 1, 28, 28)
        assert (~split.labels).sum() == usual
        rows = split.judged["paper"]
        assert split.labels[rows].sum() == round(usual * 0.3 / 0.7)
        assert (~split.labels[rows]).sum() == usual


@pytest.mark.real
def test_the_real_cifar10_has_the_sizes_of_the_paper(fresh: Any) -> None:
    split = cifar10(3, seed=0)
    assert split.fit.shape == (5_000, 3, 32, 32)
    assert split.test.shape == (10_000, 3, 32, 32)
    assert (~split.labels).sum() == 1_000
    assert len(split.judged["paper"]) == 1_000 + 429
