"""The passes over the samples behind a report: all scores first, then what explains the highest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from memae.detector import Detector, Verdicts
from memae.drift import Drift
from memae.modality import Judged
from memae.progress import Progress
from memae.report.page.markup import Markup
from memae.report.page.pictures import still
from memae.types import ItemUse, Key, Skipped, Source

__all__ = ["Findings", "ShownEvent", "scan"]

FEWEST = 10  # samples that are shown where fewer are flagged


@dataclass(frozen=True)
class ShownEvent:
    """One event of a video."""

    facts: Mapping[str, Any]
    """As in the file of events; see docs/video.md."""
    picture: Markup | None

    @property
    def items(self) -> list[ItemUse]:
        """The items that rebuilt its peak."""
        return [ItemUse(**use) for use in self.facts["items"]]


@dataclass(frozen=True)
class Findings:
    """What a report tells of one source."""

    origin: str
    keys: Sequence[Key]
    """(S,) of all samples."""
    scores: np.ndarray
    """(S,) NaN of a sample that was skipped."""
    p_values: np.ndarray
    flags: np.ndarray
    """(S,) bool."""
    shown: Sequence[int]
    """Places of the samples that are explained, the highest score first."""
    events: Sequence[ShownEvent] | None = None
    """The events with the highest scores, where the kind of data has events; these are shown in place of samples."""
    event_count: int = 0
    skipped: Sequence[Skipped] = ()
    drift: Drift | None = None
    notes: Sequence[str] = ()
    judged: Judged | None = None
    """What an evaluation found, where labels were given."""
    anomalous: Mapping[Key, bool] = field(default_factory=dict)
    """By key: what the label says."""


def scan(
    detector: Detector,
    source: Source,
    *,
    most: int = 100,
    judged: Judged | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Findings:
    """Scores a source once, and chooses what to show of it.

    Args:
        detector: fitted, with a threshold.
        source: opened by it, without a column of labels.
        most: how many samples or events are shown: flagged ones by their score, and others where few are flagged.
        judged: what `Modality.evaluate` found.
        skip_bad: samples that cannot be read are named, and are an error else.
        progress: a callback for progress events.

    Raises:
        DataError: samples that do not fit the model, or cannot be read.
    """
    parts: list[Verdicts] = []

    def keep(verdicts: Iterator[Verdicts]) -> tuple[int, int]:
        parts.extend(verdicts)
        return sum(map(len, parts)), sum(int(part.is_anomaly.sum()) for part in parts)

    events, count, notes = None, 0, list(getattr(source, "notes", ()))
    with TemporaryDirectory(prefix="memae-report-") as folder:
        if detector.modality.has_events:
            files = {"out": Path(folder, "frames.csv"), "events": Path(folder, "events.jsonl")}
            summary = detector.modality.score_files(detector, source, files, keep, progress)
            notes += summary.lines[1:] if summary else []
            events, count = _events(files["events"], most)
        else:
            with closing(detector.stream(source, skip_bad=skip_bad, progress=progress)) as verdicts:
                keep(verdicts)
    found = Verdicts.joined(parts)
    ranking = None if judged is None else judged.ranking
    labels = {} if ranking is None else dict(zip(ranking.keys, ranking.anomalous.tolist(), strict=True))
    return Findings(
        source.origin,
        found.keys,
        found.scores,
        found.p_values,
        found.is_anomaly,
        _highest(found, most) if events is None else (),
        events,
        count,
        found.skipped,
        found.drift,
        tuple(notes),
        judged,
        labels,
    )


def _highest(found: Verdicts, most: int) -> list[int]:
    scored = int(np.isfinite(found.scores).sum())
    count = min(most, scored, max(int(found.is_anomaly.sum()), FEWEST))
    order = np.argsort(-np.nan_to_num(found.scores, nan=-np.inf), kind="stable")
    return [int(row) for row in order[:count]]


def _events(file: Path, most: int) -> tuple[list[ShownEvent], int]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows.sort(key=lambda row: -(row["peak_score"] or 0))
    shown = []
    for row in rows[:most]:
        place = Path(row["still"]) if row["still"] else None
        about = f"{row['video']} at {row['peak_s']:.2f} s"
        picture = still(place, about) if place is not None and place.is_file() else None
        shown.append(ShownEvent(row, picture))
    return shown, len(rows)
