"""Whether the memory helps on this data, as far as held-out normal samples can say it: no label is needed.

Made-up anomalies (`memae.modality.Modality.made_up`) are scored twice, with the memory and with each encoding handed
straight to the decoder. The AUROC of both against the held-out normal samples says which of the two tells them apart
better. That is not a comparison with a network that was trained without a memory, and real anomalies may differ from
made-up ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from memae.metrics.samples import auroc
from memae.modality import Artifact

__all__ = ["FACT", "MemoryHelp", "memory_help"]

FACT = "memory_help"
"""The name of the measurement in the facts of a model."""
MOST_SAMPLES = 500
FEWEST_SAMPLES = 20
EQUAL = 0.01  # AUROC


@dataclass(frozen=True)
class MemoryHelp:
    """How well made-up anomalies are told from held-out normal samples."""

    with_memory: float
    """AUROC."""
    without_memory: float
    """AUROC where each encoding goes straight to the decoder."""
    samples: int
    """Held-out normal samples, and as many made-up anomalies."""

    @property
    def facts(self) -> dict[str, Any]:
        """For the facts of a model."""
        return asdict(self)

    @property
    def line(self) -> str:
        """In a sentence."""
        gain = self.with_memory - self.without_memory
        verdict = "makes no difference" if abs(gain) < EQUAL else "helps" if gain > 0 else "does not help"
        return (
            f"the memory {verdict} on made-up anomalies of this data: AUROC {self.with_memory:.3f} with it, "
            f"{self.without_memory:.3f} where encodings bypass it ({self.samples:,} held-out samples, and as many "
            "with parts of another)"
        )


def memory_help(artifact: Artifact, calibration: Any, seed: int = 0) -> MemoryHelp | None:
    """Measures it on at most 500 held-out normal samples.

    None without a memory, where scores or targets come from the memory itself, where the kind of data makes up no
    anomalies, and with fewer than 20 samples.

    Args:
        artifact: examined, with its threshold.
        calibration: held-out normal samples, as `memae.modality.Modality.normal_scores` takes them.
        seed: of the made-up anomalies.
    """
    model, modality = artifact.model, artifact.modality
    if model.memory is None or model.target == "encoding" or artifact.config.memory.score == "distance":
        return None
    if len(calibration) < FEWEST_SAMPLES:
        return None
    if len(calibration) > MOST_SAMPLES and hasattr(calibration, "shape"):
        calibration = calibration[torch.linspace(0, len(calibration) - 1, MOST_SAMPLES).long()]
    anomalies = modality.made_up(artifact, calibration, np.random.default_rng(seed))
    if anomalies is None:
        return None
    plain = replace(artifact, model=model.without_memory().eval(), uses=artifact.uses[:0])
    found = []
    for one in (artifact, plain):
        scores = [modality.normal_scores(one, x, None).scores for x in (calibration, anomalies)]
        found.append(auroc(np.repeat([False, True], [len(part) for part in scores]), np.concatenate(scores)))
    return MemoryHelp(found[0], found[1], len(calibration))
