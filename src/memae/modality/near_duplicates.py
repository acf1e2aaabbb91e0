"""Held-out samples that the training has nearly seen: a threshold from them promises too much for new samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memae.types import Key

__all__ = ["NearDuplicates"]

NOTED_SHARE = 0.05  # of the held-out samples: with less, the false-alarm rate changes by less than a twentieth
SHOWN_PAIRS = 3


@dataclass(frozen=True)
class NearDuplicates:
    """Held-out samples that have a near-duplicate among those to train on."""

    pairs: Sequence[tuple[Key, Key]]
    """Each such held-out sample and the one that it resembles."""
    looked_at: int
    """Held-out samples that were compared, which may be some of them."""

    def note(self, unit: str, likeness: str, cure: str, *, grouped: bool) -> str | None:
        """What to tell the user; None where they are few.

        Args:
            unit: what samples are called, in the plural.
            likeness: how alike they are, such as "equal".
            cure: what to do about it.
            grouped: they are of different groups.
        """
        share = len(self.pairs) / max(1, self.looked_at)
        if share < NOTED_SHARE:
            return None
        shown = "; ".join(f"{held_out} and {seen}" for held_out, seen in self.pairs[:SHOWN_PAIRS])
        although = ", although they are of different groups" if grouped else ""
        return (
            f"{share:.0%} of the held-out {unit} ({len(self.pairs):,} of {self.looked_at:,} compared) are {likeness} "
            f"to {unit} of the training{although}: {shown}. If new {unit} repeat known ones less often, more of them "
            f"will be flagged than the false-alarm rate says; {cure}"
        )
