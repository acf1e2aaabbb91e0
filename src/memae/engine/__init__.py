"""Which runtime rebuilds the batches that are scored: torch as it is, or OpenVINO.

A model has one choice; with "auto", OpenVINO then takes the passes that are long enough. Training never asks. Both
give the same scores to rounding, so a threshold that one has set holds for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from math import inf
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from memae.autoencoder import Autoencoder, Reconstruction
from memae.engine.openvino import OpenVinoAutoencoder, OpenVinoRebuild
from memae.engine.threads import available_threads, one_thread
from memae.errors import ConfigError, MissingExtraError

__all__ = [
    "Engine",
    "EngineChoice",
    "Rebuild",
    "Rebuilder",
    "available_threads",
    "check_convertible",
    "check_engine",
    "choose",
    "fast_bfloat16",
    "one_thread",
    "scoring_form",
    "yielding_threads",
]

Engine: TypeAlias = Literal["auto", "torch", "openvino"]
Rebuild: TypeAlias = Callable[[Tensor], Reconstruction]
"""From encoded samples (B, ...) to their reconstruction: a network, or a runtime in its place."""

# Converting takes about two seconds, which is what OpenVINO gains on so much work where torch takes clips of
# `video` one by one: 50 of them. Two clips at once bring torch closer. "auto" leaves less than that to torch.
WORTH_FLOP = 1e11


class EngineChoice(NamedTuple):
    """Which engine is to score, and why."""

    name: Literal["torch", "openvino"]
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def check_engine(engine: str, device: str = "cpu") -> None:
    """Makes sure, before any work, that an engine is known, installed and for the device.

    Args:
        engine: the engine.
        device: that a model will be on: "cpu", or "auto" for the accelerator if there is one.

    Raises:
        ConfigError: it is unknown, or it is OpenVINO and the model will be on an accelerator.
        MissingExtraError: it is OpenVINO, which is not installed.
    """
    if engine not in get_args(Engine):
        raise ConfigError(f"`engine={engine!r}`: give {', '.join(map(repr, get_args(Engine)))}")
    if engine == "openvino" and not _installed():
        raise MissingExtraError("`engine='openvino'`", "openvino")
    if engine == "openvino" and device == "auto" and torch.accelerator.is_available():
        raise ConfigError(_on(str(torch.accelerator.current_accelerator())))


def _on(device: str) -> str:
    return f"`engine='openvino'` scores on the CPU, and the model is on {device}; use `device='cpu'`"


def choose(model: Autoencoder, engine: Engine = "auto") -> EngineChoice:
    """The engine for a model.

    Raises:
        ConfigError: an unknown engine, or OpenVINO for a model on an accelerator.
        MissingExtraError: see `check_engine`.
    """
    check_engine(engine)
    if engine == "torch":
        return EngineChoice("torch", "asked for")
    device, forced = next(model.parameters()).device.type, engine == "openvino"
    if device != "cpu":
        if forced:
            raise ConfigError(_on(device))
        return EngineChoice("torch", f"the model is on {device}")
    if forced:
        return EngineChoice("openvino", "asked for")
    if not any(isinstance(stage, nn.Conv2d | nn.Conv3d) for stage in model.modules()):
        return EngineChoice("torch", "a network without convolutions gains nothing from OpenVINO")
    if not _installed():
        return EngineChoice("torch", "OpenVINO is not installed: pip install 'memae[openvino]'")
    return EngineChoice("openvino", "where there is enough to score; a shorter pass is left to torch")


def scoring_form(model: Autoencoder, engine: Engine = "auto") -> Autoencoder:
    """The model in eval mode with the same weights, rebuilt by the engine that `choose` finds for it.

    Raises:
        ConfigError: see `choose`.
        MissingExtraError: see `choose`.
    """
    if isinstance(model, OpenVinoAutoencoder):  # found before, and maybe for another engine
        parts = model.encoder, model.memory, model.decoder, model.query, model.target, model.corrections
        model = Autoencoder(*parts)
    model.eval()
    if choose(model, engine).name == "torch":
        return model
    return OpenVinoAutoencoder(model, forced=engine == "openvino").eval()


def check_convertible(model: Autoencoder, sample: tuple[int, ...]) -> None:
    """Makes sure, before a training, that OpenVINO can score a network; it is left in eval mode.

    Raises:
        ConfigError: OpenVINO cannot convert it for samples of this shape.
    """
    OpenVinoAutoencoder(model.eval(), forced=True).eval().converted(sample)


class Rebuilder:
    """Finds what is to rebuild the batches of one pass over samples. Equal passes find the same.

    Args:
        model: a `scoring_form`, or anything else, which is found each time.
    """

    def __init__(self, model: Rebuild) -> None:
        self._model, self._flop = model, 0.0

    def never_ends(self) -> None:
        """The pass has no end, as that over a camera: converting pays from the first sample on."""
        self._flop = inf

    def __call__(self, shape: Sequence[int], callers: int = 1) -> Rebuild:
        """The model, or OpenVINO in its place.

        Args:
            shape: of the samples (S, ...) that are scored next.
            callers: threads that will call it at once; they share the threads that torch may take here.
        """
        if not isinstance(self._model, OpenVinoAutoencoder):
            return self._model
        count, *sample = shape
        if not self._model.forced:
            self._flop += count * self._model.flop(tuple(sample))
            if self._flop < WORTH_FLOP:
                return self._model
        converted = self._model.converted(tuple(sample))
        threads = max(callers, available_threads())
        return self._model if converted is None else OpenVinoRebuild(converted, callers, threads)


def yielding_threads(rebuild: Rebuild) -> AbstractContextManager[None]:
    """A block in which torch uses one thread where OpenVINO rebuilds; it changes nothing else.

    Torch's threads spin while they wait for work, and would take the processors from OpenVINO's.
    """
    return one_thread() if isinstance(rebuild, OpenVinoRebuild) else nullcontext()


def fast_bfloat16() -> bool:
    """This CPU has matrix units for bfloat16; others emulate it. A torch that does not tell has none."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _installed() -> bool:
    return find_spec("openvino") is not None
