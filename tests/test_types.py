import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from memae.image.dataset import collect
from memae.modality import open_source
from memae.progress import Count
from memae.table.csv import LOOKED_AT, lines_about
from memae.types import Scores, count
from memae.video.source import VideoSource
from tests.video_files import write_frames, write_video


def write_rows(path: Path, rows: int, compression: str | None = None) -> Path:
    values = np.random.default_rng(0).normal(size=(rows, 4)).round(6)
    pd.DataFrame(values, columns=list("abcd")).to_csv(path, index=False, compression=compression)
    return path


def test_arrays_parquet_files_and_folders_know_how_many(tmp_path: Path) -> None:
    assert count(open_source(np.zeros((31, 3)))) == Count(31)
    assert count(open_source(np.zeros((31, 8, 8)))) == Count(31)
    pd.DataFrame({"a": range(57)}).to_parquet(tmp_path / "x.parquet")
    assert count(open_source(tmp_path / "x.parquet").without(())) == Count(57)
    for number in range(5):
        Image.new("L", (8, 8)).save(tmp_path / f"{number}.png")
    assert count(open_source(tmp_path)) == Count(5)


@pytest.mark.parametrize(("name", "compression"), [("x.csv", None), ("x.csv.gz", "gzip")])
@pytest.mark.parametrize("rows", [40, 60_000])
def test_a_csv_file_is_told_from_its_first_megabyte_and_its_size(
    tmp_path: Path, name: str, compression: str | None, rows: int
) -> None:
    path = write_rows(tmp_path / name, rows, compression)
    if rows > 40 and not compression:
        assert path.stat().st_size > LOOKED_AT
    found = count(open_source(path))
    assert not found.exact
    assert found.samples == pytest.approx(rows, rel=0.02)


def test_what_unpacks_to_very_much_is_not_unpacked_whole(tmp_path: Path) -> None:
    lines = 40_000_000
    with gzip.open(tmp_path / "bomb.csv.gz", "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write(b"1\n" * (lines // 40))
    assert lines_about(tmp_path / "bomb.csv.gz").samples == pytest.approx(lines, rel=0.05)


@pytest.mark.parametrize("content", [b"", b"no line", b"\x1f\x8bno gzip"])
def test_a_file_that_tells_nothing_has_no_count(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert lines_about(tmp_path / "x") is None


def test_videos_say_what_their_files_state(tmp_path: Path) -> None:
    frames = np.zeros((20, 48, 64), np.uint8)
    write_frames(tmp_path / "still", frames)
    assert count(VideoSource([tmp_path / "still"])) == Count(20, exact=False)
    write_video(tmp_path / "h264.mp4", np.repeat(frames[..., None], 3, axis=-1))
    found = count(VideoSource([tmp_path / "h264.mp4", tmp_path / "still"]))
    assert found.samples == pytest.approx(40, abs=2)
    assert not found.exact


def test_a_source_that_cannot_say_has_no_count() -> None:
    assert count(object()) is None


def test_images_read_in_parts_are_the_images_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memae.image.dataset.PART_IMAGES", 3)
    pixels = np.random.default_rng(0).integers(0, 255, (8, 5, 6, 3)).astype(np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    found = collect(open_source(tmp_path))
    assert np.array_equal(found.pixels, pixels.transpose(0, 3, 1, 2))
    assert list(found.keys) == [f"{number}.png" for number in range(8)]


def test_scores_are_an_array_to_numpy() -> None:
    scores = Scores(np.array([0.5, np.nan, 2.0]), ["a", "b", "c"])
    assert np.asarray(scores) is scores.values
    assert np.array(scores) is not scores.values
    assert np.asarray(scores, dtype=np.float32).dtype == np.float32
    assert np.nanmax(scores) == 2
