"""What is written beside the rows of scores, in the same pass: a line for each anomaly, and files of single images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from memae.detector import Detector, Verdicts
from memae.drift import Drift
from memae.errors import WriteError
from memae.files.atomic import no_room
from memae.image.render import map_path, save_map, save_mask, save_overlay
from memae.modality.interface import SHOWN_SKIPPED
from memae.report.category_counts import CategoryCounts
from memae.report.rows import explanation_lines
from memae.types import Explained, Explanation, Skipped, Source

__all__ = ["SAVED", "Writers"]

SAVED = {"overlay": save_overlay, "maps": save_map, "masks": save_mask}
"""By the name of its option: what saves the file of one image."""


class Writers:
    """Writes explanations of verdicts as these pass by; a context, within which they do.

    Where there is no room for the lines or for an image, the rows go on without, being worth more; `failed` says why.

    Args:
        detector: the model; of images where there are folders.
        source: what is scored.
        lines: a .jsonl file of a line an anomaly.
        folders: of a file for each image, by their names in `SAVED`; see `memae.image.render.map_path`.
        only_anomalies: files of these alone.
    """

    def __init__(
        self,
        detector: Detector,
        source: Source,
        lines: Path | None,
        folders: Mapping[str, Path],
        *,
        only_anomalies: bool,
    ) -> None:
        self.failed: WriteError | None = None
        self.drawn = 0
        """Images that there are files of."""
        self.skipped, self.first_skipped = 0, list[Skipped]()
        """How many samples the verdicts left out, and the first of them."""
        self.drift: Drift | None = None
        """Of the last verdicts."""
        self.categories = CategoryCounts()
        self._explained, self._parts = 0, Counter[str]()
        self._source, self._lines, self._only_anomalies = source, lines, only_anomalies
        self._folders = dict(folders)
        self._modality, self._threshold = detector.modality, detector.map_threshold if folders else 0.0
        self._stack = ExitStack()

    @property
    def explained(self) -> Explained:
        """What the verdicts must come with."""
        if self._folders and not self._only_anomalies:
            return "all"
        return "anomalies" if self._folders or self._lines else "none"

    def __enter__(self) -> Writers:
        self._write = self._stack.enter_context(explanation_lines(self._lines)) if self._lines else None
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def passed_on(self, parts: Iterator[Verdicts]) -> Iterator[Verdicts]:
        """The same verdicts; what they come with is written before the next part is asked for."""
        for part in parts:
            self.skipped += len(part.skipped)
            self.drift = part.drift
            self.categories.add(part)
            self.first_skipped += part.skipped[: max(0, SHOWN_SKIPPED - len(self.first_skipped))]
            anomalies = {part.keys[row] for row in part.is_anomaly.nonzero()[0].tolist()}
            for found in part.explanations:
                if found.key in anomalies:
                    self._add_line(found)
                    self._add_columns(found)
                if found.key in anomalies or not self._only_anomalies:
                    self._draw(found)
            yield part

    @property
    def columns(self) -> dict[str, float]:
        """The mean part of each column in the errors of the explained anomalies, largest first; they add up to 1."""
        return {name: part / self._explained for name, part in self._parts.most_common()}

    def _add_columns(self, found: Explanation) -> None:
        if total := sum(cell.error for cell in found.cells):
            self._explained += 1
            self._parts.update({cell.column: cell.error / total for cell in found.cells})

    def _add_line(self, found: Explanation) -> None:
        if self._write is None:
            return
        try:
            self._write(found)
        except OSError as error:
            if not no_room(error):
                raise
            self._write = None
            try:
                self._stack.__exit__(
                    type(error), error, error.__traceback__
                )  # which removes the part that is there
            except WriteError as failed:
                self.failed = failed

    def _draw(self, found: Explanation) -> None:
        if not self._folders:
            return
        picture = self._modality.original(self._source, found.key)
        try:
            for name, folder in self._folders.items():
                SAVED[name](found, self._threshold, folder / map_path(found.key), picture)
            self.drawn += 1
        except WriteError as failed:
            self._folders, self.failed = {}, failed
