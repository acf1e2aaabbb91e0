"""`memae.Detector` and its variants as methods of the evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.methods.method import Fitted, Method
from memae import Detector

__all__ = ["DETECTORS", "TABLE_DETECTORS", "detector", "network_of"]

# The protocols split train and validation 2:1 and judge a ranking, so nothing is held out for a threshold.
VALIDATION: Mapping[str, Any] = {"train": {"validation_share": 1 / 3}, "threshold": {"calibration_share": 0.0}}


def network_of(x: np.ndarray) -> str:
    """The paper's network for samples of this shape: (S, C, H, W) images or (S, D) rows."""
    if x.ndim == 2:
        return "kddcup"
    return "cifar10" if x.shape[1] == 3 else "mnist"


def detector(
    preset: Callable[[str], str], validation: Mapping[str, Any] = VALIDATION, **settings: Mapping[str, Any]
) -> Method:
    """A `Detector` of the preset for a network, with `settings` on top; nothing is chosen on the test."""

    def run(fit: np.ndarray, seed: int) -> Fitted:
        merged = {k: {**validation.get(k, {}), **settings.get(k, {})} for k in {*validation, *settings}}
        fitted = Detector(preset(network_of(fit)), seed=seed, settings=merged).fit(fit)
        memory = fitted.model.memory
        return Fitted(
            score=lambda x: fitted.score(x).values,
            stored=None if memory is None else memory.num_items,
            settings=fitted.config.model_dump(),
            facts=fitted.facts,
        )

    return run


_PLAIN = {"memory": {"enabled": False}}
_NOT_SPARSE = {"memory": {"shrinkage": 0.0}}
_UNTRAINED = {"train": {"epochs": 0, "patience": 0}}

# MNAD's items stay as they were drawn where its rule keeps all of an old item
_MNAD: dict[str, Mapping[str, Any]] = {"mnad": {}, "mnad-decay": {"decay": 0.9}, "mnad-frozen": {"decay": 1.0}}


def _memories(network: Callable[[str], str], validation: Mapping[str, Any] = VALIDATION) -> dict[str, Method]:
    """The published memories behind our settings for a network."""

    def behind(variant: str, **settings: Mapping[str, Any]) -> Method:
        return detector(lambda one: f"{network(one)}-{variant}", validation, **settings)

    return {
        **{name: behind("mnad-paper", memory=changes) for name, changes in _MNAD.items()},
        "mnad-released": behind("mnad-released"),
        "memto": behind("memto"),
    }


DETECTORS: dict[str, Method] = {
    **_memories(lambda network: network),
    "memae": detector(lambda network: network),
    "memae-nonspar": detector(lambda network: network, **_NOT_SPARSE),
    "autoencoder": detector(lambda network: network, **_PLAIN),
    "memae-paper": detector(lambda network: f"{network}-paper"),
    "memae-nonspar-paper": detector(lambda network: f"{network}-paper", **_NOT_SPARSE),
    "autoencoder-paper": detector(lambda network: f"{network}-paper", **_PLAIN),
    "memae-released": detector(lambda network: f"{network}-released"),
    "memae-no-entropy": detector(lambda network: network, memory={"entropy_weight": 0.0}),
    "untrained": detector(lambda network: network, **_UNTRAINED),
}

# as a user gets it: a fifth of the rows sets the threshold, which no ranking needs and other methods train on
TABLE_DETECTORS: dict[str, Method] = {
    **_memories(lambda _: "table", {}),
    "memae": detector(lambda _: "table", {}),
    "memae-nonspar": detector(lambda _: "table", {}, **_NOT_SPARSE),
    "autoencoder": detector(lambda _: "table", {}, **_PLAIN),
    "memae-paper": detector(lambda _: "table-paper", {}),
    "untrained": detector(lambda _: "table", {}, **_UNTRAINED),
}
