"""The log of what a memory was taught after its training, which travels in the facts of the model."""

from __future__ import annotations

from pydantic import BaseModel, NonNegativeInt

from memae.threshold_moves import Rule

__all__ = ["LOG", "Found", "Teaching"]

LOG = "teachings"
"""The name of the log in the facts of a model: `Teaching`s, the first one first."""


class Found(BaseModel, extra="forbid", strict=True):
    """How many of some samples are above the threshold, before a teaching and after it."""

    samples: NonNegativeInt
    before: NonNegativeInt
    after: NonNegativeInt

    @property
    def lost(self) -> float:
        """The share of the samples that is found no longer; negative where more are found."""
        return (self.before - self.after) / max(1, self.samples)


class Teaching(BaseModel, extra="forbid", strict=True):
    """One teaching: what was taught, and what it did."""

    when: str
    origin: str
    items: NonNegativeInt
    """That were added to the memory."""
    widened: NonNegativeInt
    """Of these, how many carry what the decoder cannot rebuild."""
    taught: Found
    """The normal samples that were given."""
    threshold_before: float
    threshold_after: float
    median_before: float
    """Of the scores of the held-out normal samples."""
    median_after: float
    made_up: Found | None
    """Made-up anomalies; None where the kind of data has none."""
    anomalies: Found | None
    """The anomalies that were given."""
    held_out: NonNegativeInt
    """Held-out samples that the model kept before."""
    rule: Rule
    """Of the threshold before."""
    undone: str | None = None
    """When it was taken back."""

    @property
    def table(self) -> list[tuple[str, str, str]]:
        """Rows of what, before and after."""
        rows = [
            ("false alarms among the taught samples", self.taught),
            ("made-up anomalies found", self.made_up),
            ("given anomalies found", self.anomalies),
        ]
        found = [
            (name, f"{one.before:,} of {one.samples:,}", f"{one.after:,} of {one.samples:,}")
            for name, one in rows
            if one is not None
        ]
        return [
            *found,
            ("threshold", f"{self.threshold_before:.6g}", f"{self.threshold_after:.6g}"),
            ("median score of held-out normal samples", f"{self.median_before:.6g}", f"{self.median_after:.6g}"),
        ]
