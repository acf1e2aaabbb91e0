"""The figures of magnetic tiles: a file for each method and seed, and the table of the docs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.magnetic_tiles import METHODS, measure_tiles, tiles_table
from memae.image.backbone import weights_installed


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few small photographs in the layout of the data set; the defects are dark with a hole."""
    root, generator = tmp_path / "magnetic_tile", np.random.default_rng(0)
    places = [("train/good", 24), ("test/good", 6), ("test/blowhole", 6)]
    with_groups = []
    for folder, count in places:
        (root / folder).mkdir(parents=True)
        for number in range(count):
            grey = generator.normal(130, 6, (80, 70)) + generator.normal(0, 20)
            name = f"{number:02}"
            if folder.endswith("blowhole"):
                grey[30:50, 20:40] = 0
                mask = np.zeros((80, 70), np.uint8)
                mask[30:50, 20:40] = 255
                (root / "ground_truth/blowhole").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / f"ground_truth/blowhole/{name}_mask.png")
            Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(root / folder / f"{name}.png")
            with_groups.append({"file": f"{folder}/{name}.png", "group": f"{folder}-{number}"})
    with (root / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "group"])
        writer.writeheader()
        writer.writerows(with_groups)
    monkeypatch.setenv("MEMAE_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("method", ["1-nn", "darkness"])
def test_a_trivial_score_has_one_seed_and_one_file(method: str, data: Path) -> None:
    results = data / "results"
    (found,) = measure_tiles(method, root=results)
    assert json.loads((results / method / "seed-0.json").read_text())["auroc"] == found["auroc"]
    assert 0.5 < found["auroc"] <= 1
    assert not list(measure_tiles(method, root=results))
    assert METHODS[method] in tiles_table(results)


@pytest.mark.real
@pytest.mark.skipif(not weights_installed(), reason="needs the extra 'features'")
def test_the_default_is_measured_by_image_and_by_pixel(data: Path) -> None:
    (found,) = measure_tiles("features", 1, data / "results")
    assert found["samples"]["training"] < 24 and found["left_out"] == 0
    assert found["figures"]["auroc"]["value"] > 0.9
    assert f"{found['figures']['pixels']['pixel_auroc']['value']:.3f}" in tiles_table(data / "results")
