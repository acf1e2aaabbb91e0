"""A network converted to OpenVINO, and run by it on the CPU."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memae.autoencoder import Autoencoder, Reconstruction, apart, mean_shares
from memae.errors import ConfigError
from memae.memory.base import MemoryRead

__all__ = ["OpenVinoAutoencoder", "OpenVinoRebuild", "openvino_core", "openvino_package"]

# Encoded samples that OpenVINO takes at a time: larger maps leave the caches of a core, fewer do not pay for the call.
AT_ONCE_BYTES = 1 << 18
TRANSPOSED = nn.ConvTranspose2d | nn.ConvTranspose3d


class OpenVinoAutoencoder(Autoencoder):
    """A network that can be converted, once for each shape of samples. Called itself it is torch's."""

    def __init__(self, model: Autoencoder, *, forced: bool) -> None:
        super().__init__(model.encoder, model.memory, model.decoder, model.query, model.target, model.corrections)
        self.forced, self._lock = forced, threading.Lock()
        self._flops: dict[tuple[int, ...], float] = {}
        self._converted: dict[tuple[int, ...], _Converted | None] = {}  # None: OpenVINO cannot
        self._state: dict[str, Tensor] = {}  # that was converted

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes: neither a lock nor what is converted can be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"} | {"_converted": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch has no annotation
        self._lock = threading.Lock()

    def flop(self, sample: tuple[int, ...]) -> float:
        """Multiplications and additions of the layers and the memory for one sample of this shape."""
        if sample not in self._flops:
            self._flops[sample] = _flop(self, sample)
        return self._flops[sample]

    def converted(self, sample: tuple[int, ...]) -> _Converted | None:
        """The network in OpenVINO, with the weights and items of today; None where that cannot be."""
        with self._lock:
            if not self._unchanged():
                self._converted.clear()
                self._state = {name: value.clone() for name, value in self.state_dict().items()}
            if sample not in self._converted:
                self._converted[sample] = self._convert(sample)
            return self._converted[sample]

    def _unchanged(self) -> bool:
        state, before = self.state_dict(), self._state
        return state.keys() == before.keys() and all(torch.equal(state[name], before[name]) for name in state)

    def _convert(self, sample: tuple[int, ...]) -> _Converted | None:
        try:
            return _Converted(self, sample)
        except Exception as error:  # of whatever kind torch and OpenVINO raise for what they do not know
            why = f"OpenVINO cannot convert this network ({str(error).strip().splitlines()[0]})"
            if self.forced:
                raise ConfigError(f"`engine='openvino'`: {why}; use 'auto' or 'torch'") from error
            warnings.warn(f"{why}; torch scores it", RuntimeWarning, stacklevel=2)
            return None


@dataclass(frozen=True)
class OpenVinoRebuild:
    """Rebuilds batches (B, ...) by OpenVINO, for one of several callers at once."""

    converted: _Converted
    callers: int
    threads: int
    """Of all callers together."""

    def __call__(self, x: Tensor) -> Reconstruction:
        """The batch rebuilt."""
        return self.converted(self.callers, self.threads, x)


class _LateRead(Reconstruction):
    """Torch reads the memory when it is asked how: scores do not need it, and few samples are explained."""

    memory: Any
    queries: Tensor

    @cached_property
    def read(self) -> MemoryRead:
        """See `Reconstruction.read`."""
        return self._read(slice(None))

    def item_shares(self, rows: Sequence[int] | slice) -> Tensor:
        """See `Reconstruction.item_shares`; reads for these samples alone."""
        step, asked = apart(self.queries), self.asked
        return mean_shares(self._read(rows, step).shares, None if asked is None else asked[rows, ::step])

    def _read(self, rows: Sequence[int] | slice, step: int = 1) -> MemoryRead:
        with torch.inference_mode():
            found: MemoryRead = self.memory.read(self.queries[rows, ::step])
            return found


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
            self._model = openvino_package().convert_model(program)
            self._positions = model.positions(model.encode(example[:1]))
        self._memory, self._target, self._lock = model.memory, model.target, threading.Lock()
        self._compiled, self._here = dict[tuple[int, int], Any](), threading.local()

    def __call__(self, callers: int, threads: int, x: Tensor) -> Reconstruction:
        """Rebuilds a batch (B, ...) for one of so many callers at once, which share the threads."""
        samples, request = x.detach().numpy(), self._request(callers, threads)
        parts = [samples[at : at + self._count] for at in range(0, len(samples), self._count)]
        rebuilt, *queries = map(np.concatenate, zip(*(self._infer(request, part) for part in parts), strict=True))
        if self._memory is None:
            return Reconstruction(torch.from_numpy(rebuilt), None)
        asked, target = torch.from_numpy(queries[0]), None
        if self._target == "encoding":  # which the queries are
            target = asked.view(len(asked), *self._positions, asked.shape[2]).movedim(-1, 1)
        found = _LateRead(torch.from_numpy(rebuilt), None, self._positions, target)
        found.memory, found.queries = self._memory, asked
        return found

    def _infer(self, request: Any, samples: np.ndarray) -> list[np.ndarray]:
        missing = self._count - len(samples)
        whole = np.concatenate([samples, samples[-1:].repeat(missing, axis=0)]) if missing else samples
        request.infer([np.ascontiguousarray(whole)], share_inputs=True)
        return [output.data[: len(samples)].copy() for output in request.output_tensors]

    def _request(self, callers: int, threads: int) -> Any:
        """The calling thread's own."""
        requests, key = self._here.__dict__.setdefault("requests", {}), (callers, threads)
        if key not in requests:
            with self._lock:
                if key not in self._compiled:
                    self._compiled[key] = _compiled(self._model, callers, threads)
            requests[key] = self._compiled[key].create_infer_request()
        return requests[key]


@torch.inference_mode()
def _flop(model: Autoencoder, sample: tuple[int, ...]) -> float:
    """See `OpenVinoAutoencoder.flop`; torch's FlopCounterMode needs two seconds of imports to count the same."""
    found: list[float] = []

    def count(layer: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        # each weight works once at every place: of the input where the layer is transposed, else of the output
        places = inputs[0] if isinstance(layer, TRANSPOSED) else output
        found.append(2.0 * layer.weight[0].numel() * places.numel())

    layers = [
        layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d | TRANSPOSED)
    ]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        read = model(torch.zeros(1, *sample)).read
    finally:
        for hook in hooks:
            hook.remove()
    if read is not None and model.memory is not None:
        found.append(4.0 * read.queries.numel() * model.memory.num_items)
    return sum(found)


def _compiled(model: Any, callers: int, threads: int) -> Any:
    from openvino import properties
    from openvino.properties import hint

    settings = {
        hint.inference_precision: "f32",  # by itself it takes bfloat16 where the CPU has it
        properties.inference_num_threads: threads,
        properties.num_streams: callers,  # requests of one stream wait for each other
        hint.enable_cpu_pinning: False,  # else the processes of a machine would all take its first cores
    }
    return openvino_core().compile_model(model, "CPU", settings)


@cache
def openvino_core() -> Any:
    """The one of this process.

    Its CPU plugin gives the thread that made it a stack for signals, and takes it back from the thread that lets it
    go. Where that is another one, the next Ctrl-C would crash the process; so nobody lets it go.
    """
    return openvino_package().Core()


def openvino_package() -> Any:
    """The package, without its telemetry: importing it would tell Intel, and a score is nobody's business.

    It takes what it does without where its package for that is missing.
    """
    hidden = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None forbids an import
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules["openvino_telemetry"]
    return openvino
