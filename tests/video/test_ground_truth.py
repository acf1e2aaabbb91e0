from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memae.errors import DataError
from memae.video.ground_truth import read_truth


def save(path: Path, values: Image.Image | np.ndarray | list[list[bool]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = values if isinstance(values, Image.Image) else Image.fromarray(np.asarray(values))
    image.save(path)


# Labels in CSV


def csv_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_label_for_each_frame_in_any_order_and_spelling(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "\ufefffloor,Label, Frame ,video\n1,anomaly,1,b\n1,0,0,b\n\n2,TRUE,2,a/clip.mp4\n2,False,0,a/clip.mp4\n"
        "2, normal ,1,a/clip\n",
    )
    truth = read_truth(path, {"a/clip.mp4": 3, "b": 2})
    assert truth.videos == ("a/clip.mp4", "b")
    assert {video: labels.tolist() for video, labels in truth.labels.items()} == {
        "a/clip.mp4": [False, False, True],
        "b": [False, True],
    }
    assert all(labels.dtype == bool for labels in truth.labels.values())
    assert truth.mask_values("b", 0) is None
    assert not truth.has_track_ids


def test_segments_count_from_0_and_hold_their_last_frame(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "video,start,end\n01,1,2\n01,4,4\n01,2,2\n03,0,0\n")
    truth = read_truth(path, {"03": 1, "02": 2, "01": 5})
    assert truth.videos == ("03", "02", "01")
    assert truth.labels["01"].tolist() == [False, True, True, False, True]
    assert truth.labels["02"].tolist() == [False, False]
    assert truth.labels["03"].tolist() == [True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,frame,label\na,0,1\n", r"labels.csv: video 'a' has 2 frames and 1 labels; give one a frame"),
        ("video,frame,label\na,0,1\na,1,1\na,2,1\n", r"video 'a' has 2 frames and 3 labels"),
        ("video,frame,label\n", r"video 'a' has 2 frames and 0 labels"),
        ("video,frame,label\na,1,1\na,2,1\n", r"frame 2 of video 'a', whose 2 frames are 0 to 1; count from 0"),
        ("video,frame,label\na,1,1\na,1,0\n", r"line 3: frame 1 of video 'a' has a label already"),
        ("video,frame,label\na,0,1\na,1,maybe\n", r"line 3: 'maybe' is no label; give 0 or 1, false or true"),
        ("video,frame,label\na,0,1\na,-1,1\n", r"line 3: '-1' is no frame number"),
        ("video,frame,label\na,0,1\na,1.0,1\n", r"line 3: '1.0' is no frame number"),
        ("video,frame,label\nx,0,1\n", r"line 2: unknown video 'x'; the videos are 'a'"),
        ("video,frame,label\na,0\n", r"line 2: has 2 values, fewer than the header has columns"),
        ("video,start,end\na,0,2\n", r"line 2: the segment from 0 to 2 of video 'a', whose 2 frames are 0 to 1"),
        ("video,start,end\na,1,0\n", r"the segment from 1 to 0 of video 'a'"),
        ("video,start,end\na,0,?\n", r"line 2: '\?' is no frame number"),
        ("", r"the file is empty, or its first line is; give video,frame,label"),
        ("frame,label\n0,1\n", r"has the columns frame, label; give video,frame,label"),
        ("", r"give video,frame,label \(one row a frame\) or video,start,end"),
    ],
)
def test_bad_labels_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_truth(csv_file(tmp_path, text), {"a": 2})


def test_what_is_no_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.csv: not there, or neither a .csv file of labels nor a folder"):
        read_truth(tmp_path / "none.csv", {"a": 1})
    (tmp_path / "labels.csv").write_bytes(b"video,start,end\n\xff,0,0\n")
    with pytest.raises(DataError, match=r"cannot read this file as CSV in UTF-8"):
        read_truth(tmp_path / "labels.csv", {"a": 1})
    with pytest.raises(DataError, match="no video to read labels for"):
        read_truth(csv_file(tmp_path, "video,start,end\n"), {})


def test_two_files_of_one_stem_are_told_apart_by_their_suffixes(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "video,start,end\nclip.avi,0,0\n")
    truth = read_truth(path, {"clip.mp4": 1, "clip.avi": 1})
    assert [truth.labels[video].tolist() for video in truth.videos] == [[False], [True]]
    with pytest.raises(DataError, match=r"unknown video 'clip'; the videos are 'clip.mp4', 'clip.avi'"):
        read_truth(csv_file(tmp_path, "video,start,end\nclip,0,0\n"), {"clip.mp4": 1, "clip.avi": 1})


# Masks


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
def test_masks_lie_in_a_folder_named_as_the_video_in_natural_order(tmp_path: Path, suffix: str) -> None:
    for number, value in (("M2", 0), ("m9", 255), ("M10", 0), ("m²", 255)):
        save(tmp_path / "north/cam" / f"{number}{suffix}", np.array([[0, value, 0]], np.uint8))
    (tmp_path / "north/cam/Thumbs.db").write_bytes(b"x")
    (tmp_path / "north/cam/._m2.png").write_bytes(b"x")
    truth = read_truth(tmp_path, {"north/cam.mp4": 4})
    assert truth.labels["north/cam.mp4"].tolist() == [False, True, False, True]
    assert truth.mask_values("north/cam.mp4", 1).tolist() == [[0, 255, 0]]
    assert not truth.has_track_ids


def test_the_layout_of_ucsd_has_the_masks_beside_the_frames(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for video in ("Test001", "Test002"):
        save(tmp_path / video / "001.tif", generator.integers(256, size=(20, 20)).astype(np.uint8))
        save(tmp_path / f"{video}_gt" / "frame001.bmp", np.full((20, 20), 255 * (video == "Test002"), np.uint8))
    truth = read_truth(tmp_path, {"Test001": 1, "Test002": 1})
    assert [truth.labels[video].tolist() for video in truth.videos] == [[False], [True]]
    with pytest.raises(DataError, match="no masks of video 'Test003'"):
        read_truth(tmp_path, {"Test001": 1, "Test002": 1, "Test003": 1})


def test_folders_of_masks_may_be_links(tmp_path: Path) -> None:
    masks = np.full((20, 20), 255, np.uint8)
    save(tmp_path / "elsewhere" / "1.png", masks)
    folder = tmp_path / "masks"
    save(folder / "a" / "1.png", masks)
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "back").symlink_to(folder)
    truth = read_truth(folder, dict.fromkeys("ab", 1))
    assert all(truth.masks[video].read(0).all() for video in "ab")
    (folder / "a").rename(folder / "a_gt")
    with pytest.raises(
        DataError, match=r"no masks of video 'b'; .*; as some folders end in _gt, only these count"
    ):
        read_truth(folder, dict.fromkeys("ab", 1))


def test_masks_may_be_one_array_a_video(tmp_path: Path) -> None:
    masks = np.zeros((3, 4, 5), bool)
    masks[1, 2, 3] = True
    np.save(tmp_path / "a.npy", masks)
    np.save(tmp_path / "b.npy", np.array([0.0, 1.0]))
    np.save(tmp_path / "c.npy", masks.astype(np.float32) * 2)
    truth = read_truth(tmp_path, {"c": 3, "b": 2, "a.avi": 3})
    assert truth.videos == ("c", "b", "a.avi")
    assert set(truth.masks) == {"a.avi", "c"}
    assert [truth.labels[video].tolist() for video in ("a.avi", "b")] == [[False, True, False], [False, True]]
    np.testing.assert_array_equal(truth.mask_values("a.avi", 1) != 0, masks[1])
    np.testing.assert_array_equal(truth.mask_values("c", 1) != 0, masks[1])
    assert truth.mask_values("b", 1) is None
    assert not truth.has_track_ids


def test_masks_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "a/0.png", np.ones((2, 2), np.uint8))
    truth = read_truth(tmp_path, {"a": 1})
    save(tmp_path / "a/0.png", np.zeros((2, 2), np.uint8))
    assert not truth.mask_values("a", 0).any()


@pytest.mark.parametrize(
    ("values", "has_track_ids"),
    [
        ([[0, 0, 255]], False),
        ([[0, 1, 2]], True),
        (np.array([[0, 1, 300]], np.uint16), True),
        (np.array([[0, 0, 1]], bool), False),
    ],
)
def test_several_positive_values_are_track_ids(
    tmp_path: Path, values: np.ndarray | list[list[int]], has_track_ids: bool
) -> None:
    save(tmp_path / "a/0.png", np.zeros((1, 3), np.uint8))
    save(tmp_path / "a/1.png", np.asarray(values, np.uint8 if isinstance(values, list) else None))
    save(tmp_path / "b/0.png", np.full((1, 3), 7, np.uint8))
    truth = read_truth(tmp_path, {"a": 2, "b": 1})
    assert truth.has_track_ids is has_track_ids
    np.testing.assert_array_equal(truth.mask_values("a", 1), values)


def test_colours_palettes_and_alpha(tmp_path: Path) -> None:
    colours = np.zeros((1, 3, 4), np.uint8)
    colours[..., 3] = 255  # opaque everywhere, and no anomaly for that
    colours[0, 1, :3], colours[0, 2, :3] = (0, 0, 9), (1, 0, 0)
    save(tmp_path / "a/0.png", colours)
    save(tmp_path / "a/1.png", np.array([[[0, 255], [3, 255], [0, 0]]], np.uint8))
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode=None)
    palette = palette.convert("P")
    palette.putdata([0, 1, 2])
    palette.putpalette([9, 9, 9, 0, 0, 0, 5, 5, 5])
    save(tmp_path / "a/2.png", palette)
    truth = read_truth(tmp_path, {"a": 3})
    assert truth.mask_values("a", 0).tolist() == [[0, 9, 1 << 16]]
    assert truth.mask_values("a", 1).tolist() == [[0, 3, 0]]
    assert truth.mask_values("a", 2).tolist() == [[0, 1, 2]]
    assert truth.has_track_ids


def empty(folder: Path) -> None:
    save(folder / "a/0.png", np.zeros((2, 3), np.uint8))
    save(folder / "a/1.png", np.zeros((2, 3), np.uint8))


def two_pages(path: Path) -> None:
    page = Image.fromarray(np.zeros((2, 3), np.uint8))
    page.save(path, save_all=True, append_images=[page])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: save(f / "a/2.png", [[True]]), r"a: video 'a' has 2 frames and 3 masks; give one a frame"),
        (lambda f: (f / "a/1.png").unlink(), r"video 'a' has 2 frames and 1 masks"),
        (
            lambda f: save(f / "a/1.png", np.zeros((3, 2), np.uint8)),
            r"1.png: has 2 x 3 px, and the first of .*a has 3 x 2 \(width x height\)",
        ),
        (lambda f: (f / "a/1.png").write_bytes(b"no image"), r"1.png: not a readable image"),
        (lambda f: (f / "a/1.png").write_bytes((f / "a/0.png").read_bytes()[:40]), r"1.png: not a readable image"),
        (lambda f: save(f / "b/0.png", [[True]]), r"masks of an unknown video 'b'; the videos are 'a'"),
        (lambda f: np.save(f / "a.npy", np.zeros((2, 2, 3))), r"a.npy: video 'a' has its masks in .*a too"),
        (lambda f: (f / "a").rename(f / "x_gt"), r"x_gt: masks of an unknown video 'x'"),
        (
            lambda f: [p.unlink() for p in f.glob("a/*")],
            r"no masks of video 'a'; put one PNG, BMP or TIFF a frame",
        ),
        (lambda f: save(f / "0.png", [[True]]), r"masks lie in it directly; put those of each video in a folder"),
        (
            lambda f: save(f / "a/1.png", np.arange(80, dtype=np.uint8).reshape(8, 10)),
            r"1.png: has 10 x 8 px",
        ),
    ],
)
def test_bad_folders_of_masks_say_what_is_wrong(tmp_path: Path, spoil: Callable[..., Any], message: str) -> None:
    empty(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        read_truth(tmp_path, {"a": 2})


def test_a_picture_or_a_stack_is_no_mask(tmp_path: Path) -> None:
    save(tmp_path / "a/0.png", np.arange(80, dtype=np.uint8).reshape(8, 10))
    with pytest.raises(DataError, match=r"0.png: holds 79 positive values, too many for the tracks of a frame"):
        read_truth(tmp_path, {"a": 1})
    (tmp_path / "a/0.png").unlink()
    two_pages(tmp_path / "a/0.tif")
    with pytest.raises(DataError, match=r"0.tif: not a readable image \(it holds several images; save each"):
        read_truth(tmp_path, {"a": 1})


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"a.npy: video 'a' has 2 frames and 3 masks"),
        (np.zeros((2, 2)), r"a.npy: has the shape \(2, 2\); give \(frames, height, width\)"),
        (np.float32(1), r"a.npy: has the shape \(\)"),
        (np.zeros((2, 0, 3)), r"has the shape \(2, 0, 3\)"),
        (np.array([0, -1]), r"a.npy: frame 1: holds negative values or NaN"),
        (np.array([0, np.nan]), r"frame 1: holds negative values or NaN"),
        (np.array([0.5, 1]), r"frame 0: holds fractions or infinite values"),
        (np.array([np.inf, 1]), r"frame 0: holds fractions or infinite values"),
        (np.array(["0", "1"]), r"frame 0: holds values of type <U1; give whole numbers"),
        (np.array([None, 1]), r"a.npy: not a readable array"),
    ],
)
def test_bad_arrays_say_what_is_wrong(tmp_path: Path, array: float | np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_truth(tmp_path, {"a": 2})


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2,",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 4)}",
    ],
    ids=["cut", "negative"],
)
def test_a_broken_header_of_an_array_is_refused(tmp_path: Path, header: str) -> None:
    text = header.encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(64))
    with pytest.raises(DataError, match=r"a.npy: not a readable array"):
        read_truth(tmp_path, {"a": 2})


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"a.npy: not a readable array"):
        read_truth(tmp_path, {"a": 2})
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, masks=np.zeros(2))
    with pytest.raises(DataError, match=r"a.npy: holds several arrays"):
        read_truth(tmp_path, {"a": 2})
