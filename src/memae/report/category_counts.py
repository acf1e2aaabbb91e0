"""How many samples a run of scoring found of each category."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from memae.types import Verdicts

__all__ = ["CategoryCounts"]


@dataclass(frozen=True)
class CategoryCounts:
    """Samples and anomalies of each category; false where the model knows one kind of normal."""

    samples: Counter[str] = field(default_factory=Counter)
    anomalies: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    """Of the samples, those whose category nobody said."""

    def add(self, verdicts: Verdicts) -> None:
        """Counts some more."""
        if (of := verdicts.categories) is None:
            return
        skipped = {bad.key for bad in verdicts.skipped}
        rows = zip(verdicts.keys, of.texts, of.given.tolist(), verdicts.is_anomaly.tolist(), strict=True)
        for key, name, given, anomalous in rows:
            if key not in skipped:
                self.samples[name] += 1
                self.anomalies[name] += anomalous
                self.taken[name] += not given

    @property
    def line(self) -> str:
        """In words."""
        found = (f"{name} {count:,} ({self.anomalies[name]:,} anomalies)" for name, count in self.samples.items())
        total, taken = self.samples.total(), self.taken.total()
        how = "taken by the model" if taken == total else f"{total - taken:,} said by the source"
        how += f", {taken:,} taken by the model" if 0 < taken < total else ""
        return f"categories, {how}: {', '.join(found)}; each has a threshold of its own"

    @property
    def facts(self) -> dict[str, Any]:
        """By the name of each category: samples, anomalies, and samples that the model took for it."""
        return {
            name: {"samples": count, "anomalies": self.anomalies[name], "taken": self.taken[name]}
            for name, count in self.samples.items()
        }

    def __bool__(self) -> bool:
        return bool(self.samples)
