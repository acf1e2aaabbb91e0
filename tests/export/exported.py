"""What an exported file gives in its real runtime."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def run(folder: Path, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs of model.onnx by name."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def described(folder: Path) -> Mapping[str, Any]:
    """What model.json says."""
    found: Mapping[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return found
