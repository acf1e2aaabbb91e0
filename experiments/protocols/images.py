"""One-class problems on images (section 4.1): one class of MNIST or CIFAR-10 is normal, the other nine are not."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from experiments.protocols.metrics import ranking
from experiments.protocols.split import Metrics, Split
from memae import datasets

__all__ = ["CLASSES", "cifar10", "cifar10_tuning", "judge", "mnist", "mnist_tuning", "official"]

CLASSES = tuple(range(10))
ANOMALIES = 0.3  # their share of the paper's test


@lru_cache(maxsize=2)
def _mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    return datasets.mnist(part)


@lru_cache(maxsize=2)
def _cifar10(part: str) -> tuple[np.ndarray, np.ndarray]:
    return datasets.cifar10(part)


def official(part: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's official "train" or "test" file: images (S, 1, 28, 28) uint8, digits (S,)."""
    return _mnist(part)


def mnist(normal: int, seed: int) -> Split:
    """One class of MNIST is normal; see `_official`. Images (S, 1, 28, 28) uint8."""
    return _official(_mnist, normal, seed)


def cifar10(normal: int, seed: int) -> Split:
    """One class of CIFAR-10 is normal; see `_official`. Images (S, 3, 32, 32) uint8."""
    return _official(_cifar10, normal, seed)


def mnist_tuning(normal: int, seed: int) -> Split:
    """For tuning settings on MNIST; see `_tuning`."""
    return _tuning(_mnist, normal, seed)


def cifar10_tuning(normal: int, seed: int) -> Split:
    """For tuning settings on CIFAR-10; see `_tuning`."""
    return _tuning(_cifar10, normal, seed)


def judge(split: Split, scores: np.ndarray, fit_scores: Callable[[], np.ndarray]) -> Metrics:
    """Section 4.1: the ranking of the rows of each protocol."""
    return {protocol: ranking(split.labels[rows], scores[rows]) for protocol, rows in split.judged.items()}


Load = Callable[[str], tuple[np.ndarray, np.ndarray]]


def _official(load: Load, normal: int, seed: int) -> Split:
    """Fit on the class's images of the training file, whole: a method holds a third of them out by itself.

    Protocol "full" judges the whole official test split, the common variant. "paper" is section 4.1: all normal
    test images and, drawn by the seed, so many others that 30 per cent are anomalies.
    """
    train, train_labels = load("train")
    test, test_labels = load("test")
    anomalous = test_labels != normal
    normal_index, anomalous_index = np.flatnonzero(~anomalous), np.flatnonzero(anomalous)
    drawn = np.random.default_rng(seed).choice(anomalous_index, _mixed(len(normal_index)), replace=False)
    judged = {"full": np.arange(len(test)), "paper": np.concatenate([normal_index, drawn])}
    return Split(train[train_labels == normal], test, anomalous, judged)


def _tuning(load: Load, normal: int, seed: int) -> Split:
    """The training file alone: two thirds of the class to fit, a third and 30 per cent others as the test.

    The official test split is never opened.
    """
    pixels, labels = load("train")
    order = np.random.default_rng([seed, normal]).permutation(len(labels))
    normal_index, anomalous_index = order[labels[order] == normal], order[labels[order] != normal]
    cut = len(normal_index) * 2 // 3
    validation = normal_index[cut:]
    index = np.concatenate([validation, anomalous_index[: _mixed(len(validation))]])
    return Split(
        pixels[normal_index[:cut]], pixels[index], labels[index] != normal, {"tuning": np.arange(len(index))}
    )


def _mixed(normal: int) -> int:
    """So many anomalies make 30 per cent beside so many normal images."""
    return round(normal * ANOMALIES / (1 - ANOMALIES))
