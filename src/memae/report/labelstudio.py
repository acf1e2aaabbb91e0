"""Verdicts as tasks for Label Studio, where people look at regions, move them and name them.

The format is Label Studio's JSON of tasks with predictions. The labelling configuration of the project must have a
`RectangleLabels` named `label` over an `Image` named `image` whose value is `$image`; docs/images.md has one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from memae.detector import Verdict, Verdicts
from memae.errors import ConfigError
from memae.files.atomic import atomic_file
from memae.modality import Modality
from memae.types import Box, Key, Region, Source

__all__ = ["LabelStudio"]

LABEL = "anomaly"


@dataclass(frozen=True)
class LabelStudio:
    """How tasks are written.

    Args:
        model_version: what Label Studio calls the predictions by.
        url_prefix: put before the path of each image, which is then quoted as in a URL; "" leaves paths as they are.
    """

    model_version: str
    url_prefix: str = ""

    def write(
        self, parts: Iterator[Verdicts], out: Path | None, source: Source, modality: Modality
    ) -> tuple[int, int]:
        """Writes one task for each image; returns how many, and how many are anomalies.

        A task has a prediction with the score of the image, and in it a rectangle in per cent for each region of an
        anomaly. Scores that are not of places give no rectangles. An image that was skipped has no prediction.

        Args:
            parts: chunks of verdicts, in order.
            out: a .json file, replaced when all is written.
            source: of the images, which must be files.
            modality: what reads their sizes.

        Raises:
            ConfigError: no file to write, or images that are no files.
        """
        if out is None:
            raise ConfigError("tasks of Label Studio go to a file; name it")
        total = flagged = 0
        with atomic_file(out) as part, part.open("w", encoding="utf-8") as file:
            file.write("[")
            for verdicts in parts:
                for verdict in verdicts:
                    regions = (verdicts.regions or {}).get(verdict.key, ())
                    task = self._task(total, verdict, regions, source, modality)
                    file.write(("," if total else "") + "\n" + json.dumps(task, ensure_ascii=False))
                    total += 1
                    flagged += verdict.is_anomaly
            file.write("\n]\n")
        return total, flagged

    def _task(
        self, row: int, verdict: Verdict, regions: tuple[Region, ...], source: Source, modality: Modality
    ) -> dict[str, Any]:
        task: dict[str, Any] = {"data": {"image": self._address(verdict.key, source)}}
        if verdict.score == verdict.score:  # NaN of an image that was skipped
            boxes = _rectangles(row, verdict.key, regions, source, modality)
            prediction = {"model_version": self.model_version, "score": verdict.score, "result": boxes}
            task["predictions"] = [prediction]
        return task

    def _address(self, key: Key, source: Source) -> str:
        if isinstance(key, int):
            raise ConfigError(
                f"{source.origin}: is an array, and Label Studio shows images by their addresses; give image files"
            )
        path = str(key)
        if self.url_prefix:
            return self.url_prefix + quote(path, errors="surrogateescape")
        return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _rectangles(
    row: int, key: Key, regions: tuple[Region, ...], source: Source, modality: Modality
) -> list[dict[str, Any]]:
    if not regions:
        return []
    picture = modality.original(source, key)
    assert picture is not None, "images that are files can be looked at"
    height, width = picture.shape[:2]
    common = {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
    }
    return [
        {"id": f"{row}-{place}", **common, "score": region.peak, "value": _in_per_cent(region.box, height, width)}
        for place, region in enumerate(regions)
    ]


def _in_per_cent(box: Box, height: int, width: int) -> dict[str, Any]:
    return {
        "x": 100 * box.left / width,
        "y": 100 * box.top / height,
        "width": 100 * (box.right - box.left) / width,
        "height": 100 * (box.bottom - box.top) / height,
        "rotation": 0,
        "rectanglelabels": [LABEL],
    }
