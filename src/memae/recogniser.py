"""Tells which of several kinds of normal a sample is of, where nobody says it.

The memory says it: samples of one category read other items than those of another. The training samples of category k
give the mean share u_ki of their reads to item i. A sample that gives the share s_i is taken for the category under
which these reads are most likely,

    argmax over k of sum_i s_i log u_ki,

which is naive Bayes for counts (McCallum and Nigam 1998) with equal chances for all categories. Without stored items
the mean encoding takes the place of the reads, by a linear discriminant with the covariance within the categories
(Fisher 1936). Both are linear, so a category is a row of weights and a bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from memae.autoencoder import Autoencoder, Reconstruction
from memae.categories import GivenCategories, HeldOutCategories, SampleCategories
from memae.memory.base import Fillable
from memae.training.trimming import chosen
from memae.types import Encoded, fitting

__all__ = ["Recogniser"]

BATCH_BYTES, MOST_AT_ONCE = 8 << 20, 1024  # of the input of a pass, and samples, whose read weights may be many
NEVER = -1e30  # bias of a category that the training part held no sample of
SMOOTHING = 0.5  # reads that each item is taken to have had beside those of the training samples
RIDGE = 0.01  # of the mean variance, added to the covariance


@dataclass(frozen=True)
class Recogniser:
    """The categories that a model knows, and how it takes a sample for one of them."""

    column: str | None
    """See `GivenCategories.column`."""
    names: tuple[str, ...]
    training: tuple[int, ...]
    """(K,) training samples of each."""
    weights: np.ndarray
    """(K, N) float32 of the item shares, or (K, C) of the mean encoding."""
    bias: np.ndarray
    """(K,) float32"""

    @classmethod
    def fit(cls, model: Autoencoder, training: Encoded, given: GivenCategories) -> Self:
        """Learns from training samples (S, ...) and their categories."""
        x = _features(model, training)
        counts = np.bincount(given.numbers, minlength=len(given.names))
        sums = np.zeros((len(counts), x.shape[1]))
        np.add.at(sums, given.numbers, x)
        if _by_items(model):
            weights = np.log((sums + SMOOTHING) / (sums + SMOOTHING).sum(axis=1, keepdims=True))
            bias = np.zeros(len(counts))
        else:
            means = sums / np.maximum(counts, 1)[:, None]
            within = (x - means[given.numbers]).T @ (x - means[given.numbers]) / len(x)
            ridge = RIDGE * np.trace(within) / len(within) + np.finfo(np.float32).tiny
            weights = np.linalg.solve(within + ridge * np.eye(len(within)), means.T).T
            bias = -0.5 * (weights * means).sum(axis=1)
        bias = np.where(counts > 0, bias, NEVER)
        known = tuple(counts.tolist())
        return cls(given.column, given.names, known, weights.astype(np.float32), bias.astype(np.float32))

    def take(self, model: Autoencoder, x: Encoded) -> np.ndarray:
        """(S,) int64: what each of encoded samples (S, ...) is taken for."""
        taken: np.ndarray = (_features(model, x) @ self.weights.T + self.bias).argmax(axis=1)
        return taken

    def of(self, model: Autoencoder, x: Encoded, said: Sequence[str] | None) -> SampleCategories:
        """The categories of encoded samples (S, ...).

        Args:
            model: that the recogniser was fitted with.
            x: the samples.
            said: (S,) their categories where somebody says them; another name than the known ones does not count.
                None: nobody does.
        """
        places = {name: number for number, name in enumerate(self.names)}
        numbers = np.array([places.get(text, -1) for text in said] if said else [-1] * len(x), dtype=np.int64)
        given = numbers >= 0
        if not given.all():
            left = np.flatnonzero(~given)
            numbers[left] = self.take(model, chosen(x, torch.from_numpy(left)))
        return SampleCategories(self.names, numbers, given)

    def held_out(self, model: Autoencoder, x: Encoded, given: np.ndarray) -> HeldOutCategories:
        """Of held-out samples (n, ...), whose categories (n,) were given."""
        return HeldOutCategories(self.names, given, self.take(model, x))

    def tensors(self) -> dict[str, Tensor]:
        """The arrays, by their names in a model file."""
        return {
            "category_weights": torch.from_numpy(self.weights),
            "category_bias": torch.from_numpy(self.bias),
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What of it stands in config.json."""
        return {"column": self.column, "names": list(self.names), "training": list(self.training)}

    @classmethod
    def load(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], model: Autoencoder) -> Self:
        """The one in the file of a model.

        Raises:
            KeyError: a part is missing.
            ValueError: parts that do not fit together.
        """
        names, training = tuple(settings["names"]), tuple(settings["training"])
        weights, bias = (tensors[f"category_{name}"].numpy() for name in ("weights", "bias"))
        count = len(names)
        if count < 2 or len(training) != count or weights.shape[:1] != (count,) or bias.shape != (count,):
            raise ValueError("the categories, their weights and their names differ in number")
        if _by_items(model) and model.memory is not None and weights.shape[1:] != (model.memory.num_items,):
            raise ValueError(f"'category_weights' is of shape {weights.shape}")
        if not all(isinstance(name, str) for name in (*names, settings["column"] or "")):
            raise ValueError("'categories' are no texts")
        return cls(settings["column"], names, training, weights, bias)


def _by_items(model: Autoencoder) -> bool:
    return isinstance(model.memory, Fillable)  # other items are made from the input, and say nothing


@torch.inference_mode()
def _features(model: Autoencoder, x: Any) -> np.ndarray:
    """(S, N) float64 the item shares of encoded samples, or (S, C) their mean queries without stored items."""
    model = model.eval()
    device, size = next(model.parameters()).device, min(MOST_AT_ONCE, fitting(x, BATCH_BYTES))
    parts = []
    for start in range(0, len(x), size):
        encoding = model.encode(x[start : start + size].to(device))
        if _by_items(model):
            read = Reconstruction(encoding, model.read(encoding)[1], target=_target(model, encoding))
            found = read.item_shares(slice(None))
            assert found is not None, "a read has shares"
        else:
            found = model.queries(encoding).mean(dim=1)
        parts.append(found.double().cpu().numpy())
    return np.concatenate(parts)


def _target(model: Autoencoder, encoding: Tensor) -> Tensor | None:
    return encoding if model.target == "encoding" else None
