"""From the scoring of a model to a program with a free batch, written as ONNX or for OpenVINO, and run again."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from memae.engine.openvino import openvino_core, openvino_package
from memae.errors import ConfigError, MemaeError, MissingExtraError, first_line
from memae.files.atomic import no_room
from memae.modality import ScoringGraph

__all__ = ["Outputs", "Runtime", "runtime_named", "traced"]

Outputs = dict[str, np.ndarray]
LARGEST = 1 << 14  # samples, or px: of an axis that is free


def traced(graph: ScoringGraph) -> torch.export.ExportedProgram:
    """The scoring as a program whose batch is free.

    Raises:
        ConfigError: torch cannot trace it.
    """
    samples = [torch.from_numpy(values) for values in graph.golden]
    axes = [_free(port.axes) for port in graph.inputs]
    try:
        with _tracing():
            graph.module(*samples)  # what is computed once and kept becomes a constant of the trace
            return torch.export.export(graph.module, tuple(samples), dynamic_shapes=tuple(axes), strict=False)
    except Exception as error:  # of whatever kind torch raises for what it cannot trace
        raise ConfigError(f"this model cannot be exported ({first_line(error)}); load it with memae") from error


def _free(axes: Sequence[int | str]) -> dict[int, Any]:
    return {place: torch.export.Dim(name, min=1, max=LARGEST) for place, name in _names(axes).items()}


def _names(axes: Sequence[int | str]) -> dict[int, str]:
    """The names of the free axes by their places."""
    return {place: name for place, name in enumerate(axes) if isinstance(name, str)}


@contextmanager
def _tracing() -> Iterator[None]:
    """A block without gradients, and without the warnings of torch about its own parts, as of torchvision."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


class Runtime(ABC):
    """A format of files, and what runs them."""

    package: ClassVar[str]
    file: ClassVar[str]
    """The name of the file to load."""
    settings: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """That a program has to give the runtime with the file."""

    def check_installed(self) -> None:
        """Makes sure, before any work, that a file can be written and run.

        Raises:
            MissingExtraError: a package of the extra is not installed.
        """
        if any(find_spec(name) is None for name in self.needed):
            raise MissingExtraError(f"an export for {self.package}", "export")

    needed: ClassVar[tuple[str, ...]]

    def write(self, program: torch.export.ExportedProgram, graph: ScoringGraph, folder: Path) -> None:
        """Writes the file, with the names of the ports.

        Raises:
            ConfigError: the model computes something that the format does not know.
        """
        try:
            with _tracing():
                self._write(program, graph, folder)
        except MemaeError:
            raise
        except Exception as error:  # of whatever kind the converters raise
            if no_room(error):
                raise
            first: BaseException = error
            while first.__cause__ is not None:
                first = first.__cause__
            raise ConfigError(
                f"this model cannot be written for {self.package} ({first_line(first)}); take the other format, or "
                "load it with memae"
            ) from error

    @abstractmethod
    def _write(self, program: torch.export.ExportedProgram, graph: ScoringGraph, folder: Path) -> None: ...

    @abstractmethod
    def run(self, folder: Path, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[Outputs]:
        """What the written file gives for batches of inputs, by name."""

    @property
    def version(self) -> str:
        """Of the package."""
        return f"{self.package} {version(self.package)}"


class OnnxRuntime(Runtime):
    """One .onnx file, without external data."""

    package, file = "onnxruntime", "model.onnx"
    needed = ("onnx", "onnxscript", "onnxruntime")

    def _write(self, program: torch.export.ExportedProgram, graph: ScoringGraph, folder: Path) -> None:
        written = torch.onnx.export(
            program,
            dynamo=True,
            dynamic_shapes=tuple(_names(port.axes) for port in graph.inputs),
            input_names=[port.name for port in graph.inputs],
            output_names=[port.name for port in graph.outputs],
            verbose=False,
        )
        assert written is not None, "only the old exporter gives nothing back"
        written.save(folder / self.file, external_data=False)

    def run(self, folder: Path, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[Outputs]:
        """See `Runtime.run`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(folder / self.file, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in feeds]


class OpenVino(Runtime):
    """An .xml and a .bin file, in float32."""

    package, file = "openvino", "model.xml"
    # by itself it takes bfloat16 where the CPU has it, and nothing in the file can forbid that
    settings = MappingProxyType({"INFERENCE_PRECISION_HINT": "f32"})
    needed = ("openvino",)

    def _write(self, program: torch.export.ExportedProgram, graph: ScoringGraph, folder: Path) -> None:
        package = openvino_package()
        model = package.convert_model(program)
        for ports, places in ((graph.inputs, model.inputs), (graph.outputs, model.outputs)):
            for port, place in zip(ports, places, strict=True):
                place.get_tensor().set_names({port.name})
        package.save_model(model, folder / self.file, compress_to_fp16=False)

    def run(self, folder: Path, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[Outputs]:
        """See `Runtime.run`."""
        settings = {**self.settings, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino_core().compile_model(folder / self.file, "CPU", settings)
        names = [output.any_name for output in compiled.outputs]
        return [
            dict(zip(names, (value.copy() for value in compiled(dict(feed)).to_tuple()), strict=True))
            for feed in feeds
        ]


def runtime_named(name: str) -> Runtime:
    """The runtime for "onnx" or "openvino".

    Raises:
        ConfigError: another name.
    """
    runtimes: dict[str, type[Runtime]] = {"onnx": OnnxRuntime, "openvino": OpenVino}
    if name not in runtimes:
        raise ConfigError(f"`to={name!r}`: give {' or '.join(map(repr, runtimes))}")
    return runtimes[name]()


def outputs_of(graph: ScoringGraph, feed: Sequence[np.ndarray]) -> Outputs:
    """What the module itself gives for one batch of inputs."""
    with torch.inference_mode():
        found: tuple[Tensor, ...] = graph.module(*map(torch.from_numpy, feed))
    return {port.name: value.numpy() for port, value in zip(graph.outputs, found, strict=True)}
