"""Photographs of one part on both sides of a split are found; images that only show the same kind of thing are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memae.datasets import data_root
from memae.image import near_duplicates
from memae.modality import FitOptions, open_source, prepare, preset_config
from memae.progress import Event, Warn

PARTS = 60


def photographs(each: int, size: int = 48, noise: float = 3.0) -> np.ndarray:
    """(parts * each, H, W) uint8: parts that share a shape and differ in texture, each shown several times."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    shape = 100 * ((rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.16)
    coarse = rng.normal(0, 20, (PARTS, 12, 12))
    texture = coarse.repeat(size // 12, axis=1).repeat(size // 12, axis=2)
    shown = np.repeat(shape + texture, each, axis=0)
    brightness = rng.normal(100, 10, (len(shown), 1, 1))
    return np.clip(shown + brightness + noise * rng.standard_normal(shown.shape), 0, 255).astype(np.uint8)


def notes_of(x: Any, preset: str | None = None, group: Any = None, **own: Any) -> list[str]:
    """The notes on near-duplicates, which are said as warnings before the training too."""
    warned: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Warn):
            warned.append(event.message)

    config = preset_config(preset, "image").with_own(**own)
    found = prepare(open_source(x), config, 0, FitOptions(group=group), listen)
    assert [note for note in found.notes if note not in warned] == []
    return [note for note in found.notes if "of the held-out" in note]


def test_several_photographs_of_each_part_are_found() -> None:
    (note,) = notes_of(photographs(4))
    assert "of the held-out images (" in note
    assert "nearly equal to images of the training: " in note
    held_out, seen = note.split("training: ")[1].split(";")[0].split(".")[0].split(" and ")
    assert int(held_out) // 4 == int(seen) // 4
    assert note.endswith("say with `group` which images show the same thing, or keep one of each")


def test_images_of_one_kind_are_not_near_duplicates() -> None:
    assert notes_of(photographs(1)) == []


def test_groups_that_keep_them_together_are_enough_and_others_are_not() -> None:
    x = photographs(4)
    assert notes_of(x, group=np.arange(len(x)) // 4) == []
    (note,) = notes_of(x, group=np.arange(len(x)) // 2)
    assert "of the training, although they are of different groups: " in note


def test_photographs_in_files_and_at_their_own_size_are_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, pixels in enumerate(photographs(4)):
        Image.fromarray(pixels).save(tmp_path / f"{number:03}.png")
    (whole,) = notes_of(tmp_path)
    assert ".png and " in whole
    (tiled,) = notes_of(tmp_path, tile_px=32)
    assert tiled.split("training")[1] == whole.split("training")[1]
    monkeypatch.setattr("memae.image.prepare.MEMORY_BYTES", 1000)
    assert notes_of(tmp_path) == [whole]


def test_of_many_images_some_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "COMPARED", 20)
    assert "of 20 compared)" in notes_of(photographs(4))[0]


@pytest.mark.real
def test_magnetic_tiles_are_found_and_digits_are_not() -> None:
    tiles = data_root() / "magnetic_tile"
    (note,) = notes_of(tiles)
    assert ".jpg and " in note
    assert notes_of(tiles, group=str(tiles / "groups.csv")) == []
    assert notes_of(data_root() / "mnist" / "t10k-images-idx3-ubyte.gz", "mnist") == []
