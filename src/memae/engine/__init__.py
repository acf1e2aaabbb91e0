"""Which runtime rebuilds the batches that are scored: torch as it is, or OpenVINO. It is chosen once for a model.

Training never asks. Both give the same scores to rounding, so a threshold that one has set holds for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from memae.autoencoder import Autoencoder, Reconstruction
from memae.engine.openvino import OpenVinoAutoencoder
from memae.errors import ConfigError, MissingExtraError

__all__ = [
    "Engine",
    "EngineChoice",
    "Rebuild",
    "Rebuilder",
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

# Converting takes about two seconds, which is what OpenVINO gains on so much work: 50 clips of the network `video`, or
# 1,000 images of 256 px. With less to score, "auto" leaves it to torch.
WORTH_FLOP = 1e11


class EngineChoice(NamedTuple):
    """Which engine scores, and why."""

    name: Literal["torch", "openvino"]
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def check_engine(engine: str) -> None:
    """Makes sure that an engine is known and installed.

    Raises:
        ConfigError: it is unknown.
        MissingExtraError: it is OpenVINO, which is not installed.
    """
    if engine not in get_args(Engine):
        raise ConfigError(f"`engine={engine!r}`: give {', '.join(map(repr, get_args(Engine)))}")
    if engine == "openvino" and not _installed():
        raise MissingExtraError("`engine='openvino'`", "openvino")


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
            raise ConfigError(
                f"`engine='openvino'` scores on the CPU, and the model is on {device}; use `device='cpu'`"
            )
        return EngineChoice("torch", f"the model is on {device}")
    if forced:
        return EngineChoice("openvino", "asked for")
    if not any(isinstance(stage, nn.Conv2d | nn.Conv3d) for stage in model.modules()):
        return EngineChoice("torch", "a network without convolutions gains nothing from OpenVINO")
    if not _installed():
        return EngineChoice("torch", "OpenVINO is not installed: pip install 'memae[openvino]'")
    return EngineChoice("openvino", "from where there is so much to score that converting the network pays")


def scoring_form(model: Autoencoder, engine: Engine = "auto") -> Autoencoder:
    """The model in eval mode with the same weights, rebuilt by the engine that `choose` finds for it.

    OpenVINO reads the weights when it converts the network; later changes to them do not show.

    Raises:
        ConfigError: see `choose`.
        MissingExtraError: see `choose`.
    """
    model.eval()
    if choose(model, engine).name == "torch":
        return model
    return OpenVinoAutoencoder(model, forced=engine == "openvino").eval()


class Rebuilder:
    """Finds what is to rebuild the batches of one pass over samples. Equal passes find the same.

    Args:
        model: a `scoring_form`, or anything else, which is found each time.
    """

    def __init__(self, model: Rebuild) -> None:
        self._model, self._flop = model, 0.0

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
        return (
            self._model
            if converted is None
            else partial(converted, callers, max(callers, torch.get_num_threads()))
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """A block in which torch uses one thread.

    Steps of small networks are so short that threads wait for each other longer than they work; on a busy machine they
    take fifty times as long as one thread alone.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def yielding_threads(rebuild: Rebuild) -> AbstractContextManager[None]:
    """A block in which torch uses one thread while OpenVINO rebuilds; where torch rebuilds, it changes nothing.

    Torch's threads spin while they wait for work, and would take the processors from OpenVINO's.
    """
    return nullcontext() if isinstance(rebuild, nn.Module) else one_thread()


def fast_bfloat16() -> bool:
    """This CPU has matrix units for bfloat16; others emulate it. A torch that does not tell has none."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _installed() -> bool:
    return find_spec("openvino") is not None
