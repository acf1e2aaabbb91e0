import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memae.detector import Verdicts
from memae.errors import ConfigError
from memae.modality import modality_named, open_source
from memae.report.labelstudio import LabelStudio
from memae.types import Box, Key, Region, Skipped

IMAGES = modality_named("image")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of 200 x 100 px, one with a blank and a # in its name."""
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b #1.png", "c.png"):
        Image.new("L", (200, 100)).save(tmp_path / "in" / name)
    return tmp_path


def parts() -> Iterator[Verdicts]:
    keys, scores = ["a.png", "b #1.png", "c.png"], np.array([1.0, 5.0, np.nan])
    found: dict[Key, tuple[Region, ...]] = {
        "b #1.png": (Region(Box(50, 20, 150, 40), 900, 5.0), Region(Box(0, 0, 10, 100), 10, 4.0))
    }
    for row in range(3):
        one = slice(row, row + 1)
        skipped = (Skipped("c.png", "it is empty"),) if row == 2 else ()
        yield Verdicts(keys[one], scores[one], scores[one], scores[one] > 3, 3.0, skipped, regions=found)


def test_a_task_has_its_image_and_a_rectangle_in_per_cent_for_each_region(folder: Path) -> None:
    form, source = LabelStudio("parts.model", "/data/local-files/?d=in/"), open_source(folder / "in", IMAGES)
    assert form.write(parts(), folder / "t.json", source, IMAGES) == (3, 1)
    normal, odd, skipped = json.loads((folder / "t.json").read_text())
    address = "/data/local-files/?d=in/"
    assert normal == {
        "data": {"image": f"{address}a.png"},
        "predictions": [{"model_version": "parts.model", "score": 1.0, "result": []}],
    }
    assert odd["data"] == {"image": f"{address}b%20%231.png"}
    first, second = odd["predictions"][0]["result"]
    assert first == {
        "id": "1-0",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "score": 5.0,
        "value": {
            "x": 25.0,
            "y": 20.0,
            "width": 50.0,
            "height": 20.0,
            "rotation": 0,
            "rectanglelabels": ["anomaly"],
        },
    }
    assert (second["id"], second["value"]["width"], second["value"]["height"]) == ("1-1", 5.0, 100.0)
    assert skipped == {"data": {"image": f"{address}c.png"}}


def test_without_a_prefix_paths_stay_as_they_are(folder: Path) -> None:
    LabelStudio("m").write(parts(), folder / "t.json", open_source(folder / "in", IMAGES), IMAGES)
    assert json.loads((folder / "t.json").read_text())[1]["data"] == {"image": "b #1.png"}


def test_arrays_have_no_addresses_and_leave_no_file(tmp_path: Path) -> None:
    source = open_source(np.zeros((1, 8, 8), np.uint8), IMAGES)
    one = Verdicts([0], np.ones(1), np.ones(1), np.zeros(1, bool), 3.0)
    with pytest.raises(ConfigError, match=r"is an array, .* give image files"):
        LabelStudio("m").write(iter([one]), tmp_path / "t.json", source, IMAGES)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="go to a file"):
        LabelStudio("m").write(iter([one]), None, source, IMAGES)
