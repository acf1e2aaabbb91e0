"""MemAE: anomaly detection with a memory-augmented autoencoder (Gong et al., ICCV 2019).

    from memae import Detector

    detector = Detector().fit(normal_samples)
    verdicts = detector.detect(new_samples)

The names below are the public face; each is loaded when it is first used, so that `import memae` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Function and module share a name. Loaded here, the function keeps it: a later import of the module would not bind
# the name again. It costs nothing: what it needs is loaded when it is called.
from memae.evaluate import Evaluation, evaluate

if TYPE_CHECKING:
    from memae.config import Config
    from memae.detector import Detector, Verdict, Verdicts
    from memae.errors import MemaeError
    from memae.explain import Explanation, MemoryItems
    from memae.memory import MemoryModule
    from memae.models.autoencoder import Autoencoder
    from memae.ops import MemoryRead, read_memory
    from memae.scoring import Scores
    from memae.threshold import Threshold

__version__ = "0.1.0"

_HOME = {
    "Autoencoder": "memae.models.autoencoder",
    "Config": "memae.config",
    "Detector": "memae.detector",
    "Explanation": "memae.explain",
    "MemaeError": "memae.errors",
    "MemoryItems": "memae.explain",
    "MemoryModule": "memae.memory",
    "MemoryRead": "memae.ops",
    "Scores": "memae.scoring",
    "Threshold": "memae.threshold",
    "Verdict": "memae.detector",
    "Verdicts": "memae.detector",
    "read_memory": "memae.ops",
}

__all__ = [
    "Autoencoder",
    "Config",
    "Detector",
    "Evaluation",
    "Explanation",
    "MemaeError",
    "MemoryItems",
    "MemoryModule",
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
