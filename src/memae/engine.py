"""Which runtime rebuilds the batches that are scored: torch as it is, or OpenVINO. It is chosen once for a model.

Training never asks. Both give the same scores to rounding, so a threshold that one has set holds for the other.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from importlib.util import find_spec
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from memae.autoencoder import Autoencoder, Reconstruction
from memae.errors import ConfigError, MissingExtraError
from memae.memory.base import MemoryRead

__all__ = [
    "Engine",
    "EngineChoice",
    "Rebuild",
    "Rebuilder",
    "beside",
    "check_engine",
    "choose",
    "fast_bfloat16",
    "one_thread",
    "scoring_form",
]

Engine: TypeAlias = Literal["auto", "torch", "openvino"]
Rebuild: TypeAlias = Callable[[Tensor], Reconstruction]
"""From encoded samples (B, ...) to their reconstruction: a network, or a runtime in its place."""

# Encoded samples that OpenVINO takes at a time: larger maps leave the caches of a core, fewer do not pay for the call.
AT_ONCE_BYTES = 1 << 18
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
    return _OpenVinoAutoencoder(model, forced=engine == "openvino").eval()


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
        if not isinstance(self._model, _OpenVinoAutoencoder):
            return self._model
        count, *sample = shape
        if not self._model.forced:
            self._flop += count * self._model.flop(tuple(sample))
            if self._flop < WORTH_FLOP:
                return self._model
        converted = self._model.converted(tuple(sample))
        return self._model if converted is None else partial(converted, max(1, torch.get_num_threads() // callers))


@contextmanager
def one_thread() -> Iterator[None]:
    """A block in which torch uses one thread.

    Steps of scoring are so short that threads wait for each other longer than they work; on a busy machine they take
    fifty times as long as one thread alone.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def beside(rebuild: Rebuild) -> AbstractContextManager[None]:
    """A block around what is done with torch beside OpenVINO: torch's threads, which wait for work awake, would take
    the processors from OpenVINO's. It is as any other block where torch itself rebuilds."""
    return nullcontext() if isinstance(rebuild, nn.Module) else one_thread()


def fast_bfloat16() -> bool:
    """This CPU has matrix units for bfloat16; others emulate it. A torch that does not tell has none."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _installed() -> bool:
    return find_spec("openvino") is not None


class _OpenVinoAutoencoder(Autoencoder):
    """A network that can be converted, once for each shape of samples. Called itself it is torch's."""

    def __init__(self, model: Autoencoder, *, forced: bool) -> None:
        super().__init__(model.encoder, model.memory, model.decoder, model.query)
        self.forced, self._lock = forced, threading.Lock()
        self._flops: dict[tuple[int, ...], int] = {}
        self._converted: dict[tuple[int, ...], _Converted | None] = {}  # None: OpenVINO cannot

    @torch.inference_mode()
    def flop(self, sample: tuple[int, ...]) -> int:
        """Multiplications and additions for one sample of this shape."""
        if sample not in self._flops:
            with FlopCounterMode(display=False) as counter:
                self(torch.zeros(1, *sample))
            self._flops[sample] = counter.get_total_flops()
        return self._flops[sample]

    def converted(self, sample: tuple[int, ...]) -> _Converted | None:
        """The network in OpenVINO; None where that cannot be."""
        with self._lock:
            if sample not in self._converted:
                self._converted[sample] = self._convert(sample)
            return self._converted[sample]

    def _convert(self, sample: tuple[int, ...]) -> _Converted | None:
        try:
            return _Converted(self, sample)
        except Exception as error:  # of whatever kind torch and OpenVINO raise for what they do not know
            why = f"OpenVINO cannot convert this network ({str(error).strip().splitlines()[0]})"
            if self.forced:
                raise ConfigError(f"`engine='openvino'`: {why}; use 'auto' or 'torch'") from error
            warnings.warn(f"{why}; torch scores it", RuntimeWarning, stacklevel=2)
            return None


class _LateRead(Reconstruction):
    """Torch reads the memory when it is asked how: scores do not need it, and few samples are explained."""

    find: Callable[[], MemoryRead]

    @cached_property
    def read(self) -> MemoryRead:
        """See `Reconstruction.read`."""
        with torch.inference_mode():
            return self.find()


class _Graph(nn.Module):
    """What is converted: from a batch to what is rebuilt of it, and the queries of the memory."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = Autoencoder.forward(self.model, x)
        return (found.x,) if found.read is None else (found.x, found.read.queries)


class _Converted:
    """A network in OpenVINO, for samples of one shape; any number of threads may call it at once."""

    def __init__(self, model: Autoencoder, sample: tuple[int, ...]) -> None:
        self._count = max(1, AT_ONCE_BYTES // (4 * prod(sample)))
        example = torch.zeros(self._count, *sample)
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch and OpenVINO about each other
            program = torch.export.export(_Graph(model), (example,))
            self._model = _openvino().convert_model(program)
            self._positions = model.positions(model.encode(example[:1]))
        self._memory, self._lock = model.memory, threading.Lock()
        self._compiled, self._here = dict[int, Any](), threading.local()

    def __call__(self, threads: int, x: Tensor) -> Reconstruction:
        """Rebuilds a batch (B, ...) with so many threads."""
        samples, request = x.detach().numpy(), self._request(threads)
        parts = [samples[at : at + self._count] for at in range(0, len(samples), self._count)]
        rebuilt, *queries = map(np.concatenate, zip(*(self._infer(request, part) for part in parts), strict=True))
        if self._memory is None:
            return Reconstruction(torch.from_numpy(rebuilt), None)
        found = _LateRead(torch.from_numpy(rebuilt), None, self._positions)
        found.find = partial(self._memory.read, torch.from_numpy(queries[0]))
        return found

    def _infer(self, request: Any, samples: np.ndarray) -> list[np.ndarray]:
        missing = self._count - len(samples)
        whole = np.concatenate([samples, samples[-1:].repeat(missing, axis=0)]) if missing else samples
        request.infer([np.ascontiguousarray(whole)], share_inputs=True)
        return [output.data[: len(samples)].copy() for output in request.output_tensors]

    def _request(self, threads: int) -> Any:
        """The calling thread's own."""
        requests = self._here.__dict__.setdefault("requests", {})
        if threads not in requests:
            with self._lock:
                if threads not in self._compiled:
                    self._compiled[threads] = _compiled(self._model, threads)
            requests[threads] = self._compiled[threads].create_infer_request()
        return requests[threads]


def _compiled(model: Any, threads: int) -> Any:
    from openvino import properties
    from openvino.properties import hint

    settings = {
        hint.inference_precision: "f32",  # by itself it takes bfloat16 where the CPU has it
        properties.inference_num_threads: threads,
        properties.num_streams: 1,
        hint.enable_cpu_pinning: False,  # else the processes of a machine would all take its first cores
    }
    return _openvino().Core().compile_model(model, "CPU", settings)


def _openvino() -> Any:
    """The package, without its telemetry: importing it would tell Intel, and a score is nobody's business.

    It takes what it does without where its package for that is missing.
    """
    hidden = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules["openvino_telemetry"]
    return openvino
