"""Scores with a model that `memae export` wrote, without memae: numpy and onnxruntime or openvino, Pillow for images.

python read.py FOLDER golden               compares the golden samples with their scores
python read.py FOLDER rows.csv             scores the rows of a table
python read.py FOLDER one.png two.png      scores images
"""

from __future__ import annotations

import base64
import csv
import json
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MISSING = {None, ""}


class Model:
    """An exported model in its runtime."""

    def __init__(self, folder: str | Path) -> None:
        self.said = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
        self.names = [output["name"] for output in self.said["outputs"]]
        file = Path(folder) / self.said["file"]
        if file.suffix == ".onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
            self._run = lambda feeds: session.run(self.names, feeds)
        else:
            import openvino

            compiled = openvino.Core().compile_model(file, "CPU", self.said["settings"])
            self._run = lambda feeds: [compiled(feeds)[name] for name in self.names]

    def __call__(self, **feeds: np.ndarray) -> dict[str, np.ndarray]:
        """All outputs by name."""
        return dict(zip(self.names, self._run(feeds), strict=True))

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Scores rows, each a value for each column; None, "" and NaN are missing."""
        numbers, codes = [], []
        for column in self.said["columns"]:
            values = [row[column["name"]] for row in rows]
            if column["kind"] == "number":
                numbers.append([np.nan if value in MISSING else float(value) for value in values])
            else:
                place = {text: code for code, text in enumerate(column["categories"])}
                codes.append([place.get(text_of(value), len(place)) for value in values])
        feeds = {"numbers": np.array(numbers, np.float64).T, "codes": np.array(codes, np.int64).T}
        return self(**{name: np.ascontiguousarray(values) for name, values in feeds.items() if values.size})

    def image(self, path: str | Path) -> dict[str, np.ndarray]:
        """Scores an image of 8 bits; the graph resizes it."""
        from PIL import Image, ImageOps

        with Image.open(path) as opened:
            pixels = np.asarray(ImageOps.exif_transpose(opened).convert("L" if self.channels == 1 else "RGB"))
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return self(image=np.ascontiguousarray(planes[None]).astype(self.said["inputs"][0]["dtype"]))

    @property
    def channels(self) -> int:
        """Of images."""
        return int(self.said["image"]["channels"])

    def golden(self) -> float:
        """The largest relative difference of a score of the golden samples."""
        packed = self.said["golden"]["inputs"]
        scores = np.array(self.said["golden"]["scores"], np.float64)
        found = self(**{name: unpacked(array) for name, array in packed.items()})[self.names[0]]
        if samples := self.said["golden"]["samples"]:
            assert np.array_equal(self.rows(samples)[self.names[0]], found, equal_nan=True)
        return float(np.nanmax(np.abs(found.reshape(scores.shape) - scores) / np.maximum(np.abs(scores), 1e-9)))


def text_of(value: Any) -> str:
    """A category as the model writes it: true and false in small letters, no value as an empty text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def unpacked(array: Mapping[str, Any]) -> np.ndarray:
    """An array of model.json."""
    content = zlib.decompress(base64.b64decode(array["zlib_base64"]))
    return np.frombuffer(content, np.dtype(array["dtype"]).newbyteorder("<")).reshape(array["shape"])


def main(folder: str, *sources: str) -> None:
    """Prints one line for each sample: its score, and whether it is an anomaly."""
    model = Model(folder)
    if sources == ("golden",):
        print(f"{model.golden():.2g}")
        return
    for source in sources:
        if source.endswith(".csv"):
            with Path(source).open(newline="", encoding="utf-8") as file:
                found = model.rows(list(csv.DictReader(file)))
        else:
            found = model.image(source)
        for score, flagged in zip(found["score"].tolist(), found["is_anomaly"].tolist(), strict=True):
            print(f"{score:.9g},{str(flagged).lower()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
