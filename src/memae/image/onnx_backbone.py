"""Frozen features by any ONNX file of the user's, which onnxruntime runs; the model keeps the whole file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.engine import available_threads
from memae.errors import ArtifactError, ConfigError, MissingExtraError, first_line
from memae.image.backbone import FrozenMaps, joined
from memae.image.config import StoredBackbone

__all__ = ["OnnxFeatures", "stored_backbone"]

# what most published networks take for 0 and 1 of pixels from 0 to 1: mean and deviation of ImageNet's red, green, blue
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AXES = 4  # of a batch of images, and of a map


class OnnxFeatures(FrozenMaps):
    """Images (B, C, H, W) with pixels from 0 to 1 become features (B, C', h, w) by a network in an ONNX file.

    The network gets the images less the mean and by the deviation of ImageNet, in colour where it takes three channels,
    and resized where its size is fixed. Its maps are joined as those of `FrozenFeatures`. A fresh module holds no file;
    `load_file` reads it.
    """

    content: Tensor

    def __init__(self, backbone: StoredBackbone, *, empty_places: bool = False) -> None:
        super().__init__(empty_places=empty_places)
        self.backbone = backbone
        self.register_buffer("content", torch.zeros(backbone.size_bytes, dtype=torch.uint8))
        self._network: _Network | None = None
        self._lock = threading.Lock()

    def load_file(self) -> None:
        """Takes the content of the file.

        Raises:
            ConfigError: it cannot be read, or has changed since the fit began.
        """
        content = _content(self.backbone.path)
        if hashlib.sha256(content).hexdigest() != self.backbone.sha256:
            raise ConfigError(f"image.backbone = {self.backbone.path!r}: the file has changed during the fit")
        self.content.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))

    def _features(self, x: Tensor) -> Tensor:
        return joined([part.to(x.device) for part in self._ready()(x.float().cpu())])

    def _ready(self) -> _Network:
        with self._lock:
            if self._network is None:
                content = self.content.cpu().numpy().tobytes()
                if hashlib.sha256(content).hexdigest() != self.backbone.sha256:
                    raise ArtifactError(
                        "the ONNX file in the model is not the one it was fitted with; fit it again"
                    )
                self._network = _Network(content, self.backbone.path, self.backbone.outputs)
            return self._network

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes: neither a lock nor a session can be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"} | {"_network": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch has no annotation
        self._lock = threading.Lock()


def stored_backbone(path: str, outputs: Sequence[str], shape: Sequence[int]) -> StoredBackbone:
    """What a model keeps of an ONNX file, which is tried on a grey image (C, H, W).

    Args:
        path: of the file.
        outputs: names of the maps to take; none takes every output of four axes.
        shape: of the images.

    Raises:
        ConfigError: a file that cannot be read or run, or without such maps.
        MissingExtraError: the extra `onnx` is not installed.
    """
    content = _content(path)
    network = _Network(content, path, outputs)
    maps = network(torch.full((1, *shape), 0.5))
    return StoredBackbone(
        path=path,
        outputs=network.outputs,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        channels=sum(part.shape[1] for part in maps),
    )


def _content(path: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"image.backbone = {path!r}: cannot be read ({error.strerror}); give the path of an ONNX file"
        ) from None
    if not content:
        raise ConfigError(f"image.backbone = {path!r}: the file is empty; export the network again")
    return content


class _Network:
    """An ONNX file that onnxruntime runs, from images (B, C, H, W) to maps; any number of threads may call it."""

    def __init__(self, content: bytes, path: str, outputs: Sequence[str]) -> None:
        self._content, self._what = content, f"image.backbone = {path!r}"
        self._sessions: dict[int, Any] = {}
        session = self._session()
        inputs = session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != AXES or inputs[0].type != "tensor(float)":
            raise ConfigError(
                f"{self._what}: takes {', '.join(f'{one.type} {one.shape}' for one in inputs)}; it must take one batch "
                "of images, float32 of four axes (B, C, H, W)"
            )
        self._name, (batch, channels, *size) = inputs[0].name, inputs[0].shape
        self._batch = batch if isinstance(batch, int) else None
        self._channels = channels if isinstance(channels, int) else 3
        self._size = size if all(isinstance(side, int) for side in size) else None
        if self._channels not in (1, 3):
            raise ConfigError(f"{self._what}: takes images of {self._channels} channels; it must take 1 or 3")
        self.outputs = self._maps_of(session, outputs)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The maps (B, C', h, w) of images (B, C, H, W) on the CPU, with pixels from 0 to 1."""
        batches = x.split(self._batch) if self._batch else [x]
        found = [self._run(batch) for batch in batches]
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def _run(self, x: Tensor) -> list[Tensor]:
        count = len(x)
        if self._size:
            x = F.interpolate(x, size=self._size, mode="bilinear", align_corners=False, antialias=True)
        if self._channels == 1 or x.shape[1] != 3:
            x = x.mean(dim=1, keepdim=True).expand(-1, self._channels, -1, -1)
        mean, deviation = (
            torch.tensor(values).mean()[None] if self._channels == 1 else torch.tensor(values)
            for values in (MEAN, DEVIATION)
        )
        x = (x - mean[:, None, None]) / deviation[:, None, None]
        if self._batch and count < self._batch:
            x = torch.cat([x, x[-1:].expand(self._batch - count, -1, -1, -1)])
        try:
            maps = self._session().run(list(self.outputs), {self._name: np.ascontiguousarray(x.numpy())})
        except Exception as error:  # of whatever kind onnxruntime raises
            raise ConfigError(
                f"{self._what}: does not run on images of {x.shape[3]} x {x.shape[2]} px ({first_line(error)}); take "
                "another image.size_px, or export it with sizes that may vary"
            ) from None
        return [torch.from_numpy(part[:count]).float() for part in maps]

    def _maps_of(self, session: Any, wanted: Sequence[str]) -> tuple[str, ...]:
        """The names of the outputs to take."""
        shapes = {output.name: output.shape for output in session.get_outputs()}
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        if unknown := [name for name in wanted if name not in shapes]:
            raise ConfigError(f"image.backbone_outputs: {unknown[0]!r} is no output of the file; it has {listed}")
        maps = tuple(name for name in (wanted or shapes) if len(shapes[name] or ()) == AXES)
        if not maps or len(maps) < len(wanted):
            raise ConfigError(
                f"{self._what}: needs outputs that are maps of four axes (B, C, h, w), and it has {listed}; export the "
                "layers before the pooling as outputs, too"
            )
        return maps

    def _session(self) -> Any:
        """For as many threads as torch may take here: those of a scorer have one each."""
        threads = available_threads()
        if threads not in self._sessions:
            try:
                import onnxruntime
            except ImportError:
                raise MissingExtraError("image.backbone", "onnx") from None
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.log_severity_level = 3  # errors, which are raised as well
            try:
                made = onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # of whatever kind onnxruntime raises
                raise ConfigError(
                    f"{self._what}: onnxruntime cannot read it ({first_line(error)}); give one ONNX file that holds "
                    "its weights"
                ) from None
            self._sessions[threads] = made
        return self._sessions[threads]
