"""Runs of scoring: rows, explanations and maps, written in one pass over the samples."""

from pathlib import Path

# modules under their old names, until 0.2.0
__path__ = [*__path__, str(Path(__file__).parents[1] / "deprecated" / "report")]
