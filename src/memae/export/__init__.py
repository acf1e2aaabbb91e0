"""Writes a trained model as one file for ONNX Runtime or OpenVINO, which gives the same scores without memae.

`export_model` traces the whole scoring (`memae.modality.ScoringGraph`), writes it, runs golden samples through the real
runtime, and keeps the file only if the scores are those of the library. `model.json` beside it says what a program has
to do before and after.
"""

from memae.export.model import Exported, Target, export_model

__all__ = ["Exported", "Target", "export_model"]
