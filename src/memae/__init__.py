"""MemAE: anomaly detection with a memory-augmented autoencoder (Gong et al., ICCV 2019).

    from memae import Detector

    detector = Detector().fit(normal_samples)
    verdicts = detector.detect(new_samples)

The names below are the public face; each is loaded when it is first used, so that `import memae` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memae.autoencoder import Autoencoder
    from memae.config import Config
    from memae.detector import Detector, Verdict, Verdicts
    from memae.errors import MemaeError
    from memae.memory.base import MemoryRead
    from memae.memory.memae import MemAE
    from memae.memory.module import MemoryModule as MemoryModule
    from memae.memory.ops import read_memory
    from memae.memory.shown import MemoryItems
    from memae.metrics import Evaluation, evaluate
    from memae.threshold import Threshold
    from memae.types import Explanation, Scores

__version__ = "0.1.0"
__path__ = [*__path__, f"{__path__[0]}/deprecated/modules"]  # modules under their old names, until 0.2.0

_HOME = {
    "Autoencoder": "memae.autoencoder",
    "Config": "memae.config",
    "Detector": "memae.detector",
    "Evaluation": "memae.metrics",
    "Explanation": "memae.types",
    "MemAE": "memae.memory.memae",
    "MemaeError": "memae.errors",
    "MemoryItems": "memae.memory.shown",
    "MemoryModule": "memae.memory.module",  # the old name of MemAE, until 0.2.0
    "MemoryRead": "memae.memory.base",
    "Scores": "memae.types",
    "Threshold": "memae.threshold",
    "Verdict": "memae.types",
    "Verdicts": "memae.types",
    "evaluate": "memae.metrics",
    "read_memory": "memae.memory.ops",
}

__all__ = [
    "Autoencoder",
    "Config",
    "Detector",
    "Evaluation",
    "Explanation",
    "MemAE",
    "MemaeError",
    "MemoryItems",
    "MemoryRead",
    "Scores",
    "Threshold",
    "Verdict",
    "Verdicts",
    "evaluate",
    "read_memory",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'memae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
