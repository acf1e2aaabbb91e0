import os
import shutil
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from memae.errors import DataError, MissingExtraError
from memae.types import EVERYTHING, Source
from memae.video import source as video
from memae.video.frames import FrameKey
from memae.video.paths import holds_videos
from memae.video.source import VideoSource
from tests.video_files import CODECS, cut, moving_digits, write_frames, write_sound, write_video

SECONDS, RATE = 4, 25
FRAMES = moving_digits(SECONDS * RATE, 48, 64)
GREY = np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in FRAMES])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with FRAMES in a file of every codec."""
    root = tmp_path_factory.mktemp("files")
    for name in CODECS:
        write_video(root / name, FRAMES)
    return root


def grey_of(source: VideoSource) -> np.ndarray:
    return np.concatenate([chunk.pixels for chunk in source.chunks(64)])


def keys_of(source: VideoSource, size: int = 64) -> list[FrameKey]:
    return [key for chunk in source.chunks(size) for key in chunk.keys]


def colours_of(source: VideoSource) -> np.ndarray:
    return np.stack([picture.rgb() for chunk in source.with_pictures().chunks(64) for picture in chunk.pictures])


def distance(one: np.ndarray, other: np.ndarray) -> Any:
    return np.abs(np.asarray(one, dtype=float) - other).mean()


def read_until_it_breaks(source: VideoSource, size: int) -> tuple[int, str]:
    frames = 0
    with pytest.raises(DataError) as caught:
        for chunk in source.chunks(size):
            frames += len(chunk)
    return frames, str(caught.value)


def video_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("memae-video")]


@pytest.mark.parametrize("name", CODECS)
def test_a_file_of_any_kind_gives_the_grey_frames_that_went_in(files: Path, name: str) -> None:
    source = VideoSource([files / name])
    assert isinstance(source, Source)
    assert (source.modality, source.videos, source.sizes) == ("video", (name,), {name: (48, 64)})
    grey = grey_of(source)
    assert (grey.shape, grey.dtype) == ((100, 48, 64), np.uint8)
    assert distance(grey, GREY) < 1.5
    assert keys_of(source) == [(name, frame, pytest.approx(frame / RATE, abs=1e-3)) for frame in range(100)]


@pytest.mark.parametrize("size", [None, (29, 41), (24, 32), (70, 100)])
def test_files_and_folders_of_frames_agree_at_every_size(
    files: Path, tmp_path: Path, size: tuple[int, int] | None
) -> None:
    png = grey_of(VideoSource([write_frames(tmp_path / "png", FRAMES[:20])], size))
    jpeg = write_frames(tmp_path / "jpg", FRAMES[:20], "{}.jpg", quality=95, subsampling=0)
    assert distance(grey_of(VideoSource([jpeg], size)), png) < 0.5
    for name in ("h264.mp4", "fullrange.mp4", "mjpeg.avi", "ffv1.mkv"):
        assert distance(grey_of(VideoSource([files / name], size))[:20], png) < 1.5


@pytest.mark.parametrize("name", ["h264.mp4", "fullrange.mp4", "mjpeg.avi", "vp9.mkv"])
def test_white_is_255_and_black_0_whatever_the_range_of_the_file(files: Path, name: str) -> None:
    grey = grey_of(VideoSource([files / name]))[:, 2:8]
    assert grey[..., 2:8].min() >= 253
    assert grey[..., -8:-2].max() <= 4  # 16 if the limited range were left as it is


def area_weights(length: int, target: int) -> np.ndarray:
    """(target, length): the share of each pixel in the mean over an area that ends between pixels."""
    edges, pixel = np.arange(target + 1) * length / target, np.arange(length)
    shares = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return shares.clip(0) * target / length


@pytest.mark.parametrize("size", [(56, 70), (40, 60), (33, 50)])
def test_shrinking_takes_the_mean_over_the_area(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = moving_digits(6, 96, 128)
    grey = np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in frames])
    means = area_weights(96, size[0]) @ grey @ area_weights(128, size[1]).T
    exact = grey_of(VideoSource([write_video(tmp_path / "ffv1.mkv", frames)], size))
    assert np.abs(exact - means).max() < 1.5
    near = grey_of(VideoSource([write_frames(tmp_path / "folder", frames)], size))
    assert distance(near, means) < 0.8
    assert np.abs(near - means).max() < 16


def test_a_large_jpeg_is_shrunk_without_steps(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 255, 512).astype(np.uint8)[None, :, None], 384, axis=0).repeat(3, axis=2)
    path = write_frames(tmp_path / "jpg", ramp[None], "{}.jpg", quality=95)
    steps = np.diff(grey_of(VideoSource([path], (60, 100)))[0].astype(int), axis=1)
    assert (steps.min(), steps.max()) == (2, 3)


@pytest.mark.parametrize("name", ["mpeg4.avi", "vp9.mkv", "ffv1.mkv"])
def test_odd_sizes_work(tmp_path: Path, name: str) -> None:
    frames = moving_digits(3, 133, 177)
    source = VideoSource([write_video(tmp_path / name, frames)])
    assert source.size == (133, 177)
    assert colours_of(source).shape == (3, 133, 177, 3)
    assert grey_of(source.resized(67, 89)).shape == (3, 67, 89)


@pytest.mark.parametrize("name", ["any.mkv", "any.mp4"])
def test_frames_keep_their_times_when_the_rate_varies(tmp_path: Path, name: str) -> None:
    times_s = [0, 0.04, 0.1, 0.5, 0.52, 0.9, 2.0, 2.04]
    path = write_video(tmp_path / name, FRAMES[:8], "h264.mp4", times_s=times_s)
    assert [key.time_s for key in keys_of(VideoSource([path]))] == pytest.approx(times_s)


def test_times_count_from_the_first_frame_and_never_go_back(files: Path, tmp_path: Path) -> None:
    content = (files / "h264.ts").read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(content + content)
    times_s = np.array([key.time_s for key in keys_of(VideoSource([joined]))])
    assert (len(times_s), times_s[0]) == (200, 0)
    assert np.allclose(np.diff(times_s), 1 / RATE)


@pytest.mark.parametrize(
    ("rotation", "mirrored", "seen"),
    [
        (90, False, np.rot90),
        (-90, False, lambda frame: np.rot90(frame, -1)),
        (180, False, lambda frame: np.rot90(frame, 2)),
        (0, True, lambda frame: frame[:, ::-1]),
        (90, True, lambda frame: np.rot90(frame)[:, ::-1]),
    ],
)
def test_a_rotated_file_comes_out_upright(
    tmp_path: Path, rotation: int, mirrored: bool, seen: Callable[..., Any]
) -> None:
    path = write_video(tmp_path / "h264.mp4", FRAMES[:3], rotation=rotation, mirrored=mirrored)
    source = VideoSource([path])
    assert source.sizes["h264.mp4"] == seen(FRAMES[0]).shape[:2]
    assert distance(grey_of(source)[2], seen(GREY[2])) < 1.5
    assert distance(colours_of(source)[2], seen(FRAMES[2])) < 8
    half = tuple(side // 2 for side in source.size)
    assert grey_of(source.resized(*half)).shape == (3, *half)


def test_a_recording_that_starts_between_keyframes_starts_at_the_next(files: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.ts"
    late.write_bytes((files / "h264.ts").read_bytes()[30 * 188 :])
    grey = grey_of(VideoSource([late]))
    assert 60 < len(grey) < 100
    assert distance(grey[-40:], GREY[-40:]) < 1.5


def test_a_chunk_holds_one_video_and_at_most_so_many_frames(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = VideoSource([files / "h264.mp4", files / "vp9.mkv"])
    assert [len(chunk) for chunk in source.chunks(64)] == [64, 36, 64, 36]
    assert [len(chunk) for chunk in source.chunks(EVERYTHING)] == [100, 100]
    assert [chunk.origin for chunk in source.chunks(EVERYTHING)] == [
        str(files / n) for n in ("h264.mp4", "vp9.mkv")
    ]
    monkeypatch.setattr(video, "CHUNK_BYTES", 10 * 48 * 64)
    assert {len(chunk) for chunk in source.chunks(64)} == {10}
    assert [len(chunk) for chunk in source.chunks(EVERYTHING)] == [100, 100]


def test_all_videos_are_given_at_the_size_of_the_first_unless_another_is_asked(tmp_path: Path) -> None:
    wide = write_video(tmp_path / "wide.mp4", moving_digits(4, 32, 80), "h264.mp4")
    tall = write_frames(tmp_path / "tall", moving_digits(3, 64, 48))
    source = VideoSource([wide, tall], folder_rate=10)
    assert source.sizes == {"wide.mp4": (32, 80), "tall": (64, 48)}
    assert grey_of(source).shape == (7, 32, 80)
    small = source.resized(16, 20)
    assert (small.size, source.size) == ((16, 20), (32, 80))
    assert grey_of(small).shape == (7, 16, 20)
    assert [key.time_s for key in keys_of(small)][4:] == [0, 0.1, 0.2]
    assert VideoSource([tall], (8, 8)).size == (8, 8)


@pytest.mark.parametrize(
    ("name", "asked", "rate"), [("Test001", None, 10), ("frames", None, 25), ("Test001", 30, 30)]
)
def test_frames_of_a_folder_come_at_the_rate_of_its_kind_or_as_asked(
    tmp_path: Path, name: str, asked: int | None, rate: int
) -> None:
    folder = write_frames(tmp_path / name, moving_digits(3, 64, 48))
    times = [key.time_s for key in keys_of(VideoSource([folder], folder_rate=asked))]
    assert times == pytest.approx([0, 1 / rate, 2 / rate])


@pytest.mark.parametrize("name", CODECS)
def test_pictures_come_with_the_frames_and_change_nothing_else(files: Path, name: str) -> None:
    source = VideoSource([files / name], (24, 32))
    chunks = list(source.with_pictures().chunks(64))
    plain = list(source.chunks(64))
    assert [key for chunk in chunks for key in chunk.keys] == keys_of(source)
    assert np.array_equal(np.concatenate([chunk.pixels for chunk in chunks]), grey_of(source))
    assert all(len(chunk.pictures) == len(chunk) for chunk in chunks)
    assert all(len(chunk.pictures) == 0 for chunk in plain)
    shown = colours_of(source)
    assert (shown.shape, shown.dtype) == ((100, 48, 64, 3), np.uint8)
    assert distance(shown, FRAMES) < 12  # half the colours are lost to the codec
    assert all(48 * 64 * 1.5 <= picture.nbytes <= 48 * 96 * 4 for chunk in chunks for picture in chunk.pictures)


@pytest.mark.parametrize("times", [1, 6])
def test_pictures_of_a_folder_come_with_the_same_grey(tmp_path: Path, times: int) -> None:
    large = np.repeat(np.repeat(FRAMES[:3], times, axis=1), times, axis=2)
    for suffix, options in (("png", {}), ("bmp", {}), ("jpg", {"quality": 90})):
        source = VideoSource([write_frames(tmp_path / suffix, large, "{}." + suffix, **options)], (24, 32))
        assert np.array_equal(grey_of(source.with_pictures()), grey_of(source))
        if suffix != "jpg":
            assert np.array_equal(colours_of(source), large)
            continue
        for pixels, file in zip(colours_of(source), sorted((tmp_path / suffix).iterdir()), strict=True):
            with Image.open(file) as image:
                assert np.abs(pixels.astype(int) - np.asarray(image)).max() <= 3


def damaged(whole: Path, path: Path) -> Path:
    """The file with a tenth of its bytes, from three tenths on, set to zero."""
    content = bytearray(whole.read_bytes())
    start, stop = len(content) * 3 // 10, len(content) * 4 // 10
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)
    return path


def test_pictures_of_a_frame_folder_keep_their_size_and_keys(tmp_path: Path) -> None:
    source = VideoSource([write_frames(tmp_path / "walk", FRAMES[:5])], (10, 10)).with_pictures()
    pictures = {
        key: picture for chunk in source.chunks(2) for key, picture in zip(chunk.keys, chunk.pictures, strict=True)
    }
    assert list(pictures)[2:4] == [FrameKey("walk", 2, 0.08), FrameKey("walk", 3, 0.12)]
    assert np.array_equal(pictures[FrameKey("walk", 3, 0.12)].rgb(), FRAMES[3])


def test_pictures_count_in_what_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "large.mkv", moving_digits(12, 480, 640), "ffv1.mkv")
    monkeypatch.setattr(video, "CHUNK_BYTES", 3 * 2 * 480 * 640)
    source = VideoSource([tmp_path / "large.mkv"], (8, 8))
    assert [len(chunk) for chunk in source.chunks(64)] == [12]
    assert {len(chunk) for chunk in source.with_pictures().chunks(64)} == {2}


def test_videos_below_a_folder_come_in_natural_order_under_their_paths(tmp_path: Path) -> None:
    for name in ("cam10/a.mp4", "cam2/b.mp4", "cam2/a.MP4", "z.mp4"):
        write_video(tmp_path / name, FRAMES[:2], "h264.mp4")
    write_frames(tmp_path / "cam2" / "walk", FRAMES[:2])
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "cam10" / "poster.jpg").write_bytes(b"")  # an image beside a video file is no frame
    source = VideoSource([tmp_path])
    assert source.videos == ("cam2/a.MP4", "cam2/b.mp4", "cam2/walk", "cam10/a.mp4", "z.mp4")
    assert source.origin == str(tmp_path)
    assert holds_videos(tmp_path)


def test_the_layouts_of_ucsd(tmp_path: Path) -> None:
    grey = GREY[:2]
    for part, number in (("Train", 1), ("Train", 2), ("Test", 1), ("Test", 10)):
        write_frames(tmp_path / "a" / part / f"{part}{number:03d}", grey, "{:03d}.tif")
    write_frames(tmp_path / "a" / "Test" / "Test001_gt", grey, "{:03d}.bmp")
    (tmp_path / "a" / "Train" / "Train001" / "._001.tif").write_bytes(b"macOS")
    source = VideoSource([tmp_path / "a"])
    assert source.videos == ("Test/Test001", "Test/Test010", "Train/Train001", "Train/Train002")
    assert np.array_equal(grey_of(source)[:2], grey)
    assert all(map(holds_videos, (tmp_path / "a", tmp_path / "a" / "Test", tmp_path / "a" / "Test" / "Test001")))
    for number in (1, 2, 12):
        write_frames(tmp_path / "b" / "training" / f"{number:02d}", FRAMES[:2], "{:03d}.jpg")
    assert VideoSource([tmp_path / "b" / "training"]).videos == ("01", "02", "12")
    assert not holds_videos(tmp_path / "b")


def test_names_are_unique_among_all_that_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/cam/x.mp4", "b/cam/x.mp4", "b/cam/y.mp4"):
        write_video(tmp_path / name, FRAMES[:2], "h264.mp4")
    assert VideoSource([tmp_path / "a/cam/x.mp4", tmp_path / "b/cam/y.mp4"]).videos == ("x.mp4", "y.mp4")
    source = VideoSource([tmp_path / "a/cam/x.mp4", tmp_path / "b/cam"])
    assert source.videos == ("a/cam/x.mp4", "b/cam/x.mp4", "b/cam/y.mp4")
    assert source.origin == f"{tmp_path / 'a/cam/x.mp4'} and 1 more"
    monkeypatch.chdir(tmp_path / "a" / "cam")
    assert VideoSource([Path("x.mp4")]).videos == VideoSource([Path()]).videos == ("x.mp4",)
    assert VideoSource([Path("../cam/x.mp4"), Path("../../b/cam/x.mp4")]).videos == ("a/cam/x.mp4", "b/cam/x.mp4")
    with pytest.raises(DataError, match=r"x\.mp4: is given twice; name it once"):
        VideoSource([tmp_path / "a", tmp_path / "a/cam/x.mp4"])


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    write_video(tmp_path / "clips" / "x.mp4", FRAMES[:2], "h264.mp4")
    (tmp_path / "clips" / "again").symlink_to(tmp_path)
    assert VideoSource([tmp_path]).videos == ("clips/x.mp4",)
    assert holds_videos(tmp_path)


def test_what_means_video(tmp_path: Path) -> None:
    assert holds_videos(Path("nothing/there.MKV"))
    assert not holds_videos(Path("nothing/there.png"))
    write_frames(tmp_path / "images", FRAMES[:2])
    assert not holds_videos(tmp_path)
    (tmp_path / "Train001").mkdir()
    assert not holds_videos(tmp_path)


def test_a_missing_or_doubled_frame_number_is_an_error_and_a_constant_step_is_none(tmp_path: Path) -> None:
    for name in ("every_tenth", "gap", "twice"):
        write_frames(tmp_path / name, FRAMES[:11], "cam2_{:d}.png")
    for number in set(range(1, 12)) - {1, 6, 11}:
        (tmp_path / "every_tenth" / f"cam2_{number}.png").unlink()
    assert len(keys_of(VideoSource([tmp_path / "every_tenth"]))) == 3
    (tmp_path / "gap" / "cam2_9.png").unlink()
    with pytest.raises(DataError, match=r"gap: frame 9 is missing after cam2_8\.png; restore it, or number"):
        VideoSource([tmp_path / "gap"])
    (tmp_path / "twice" / "cam2_11.png").rename(tmp_path / "twice" / "cam2_010.png")
    with pytest.raises(DataError, match=r"twice: cam2_010\.png and cam2_10\.png have one number"):
        VideoSource([tmp_path / "twice"])


def test_names_that_are_no_count_are_no_gap(tmp_path: Path) -> None:
    for name in ("1305.13.png", "1305.29.png", "1306.2.png"):
        write_frames(tmp_path / "stamps", FRAMES[:1], name)
        write_frames(tmp_path / "words", FRAMES[:1], name.replace("13", "a").replace(".2", "."))
    assert len(keys_of(VideoSource([tmp_path / "stamps"]))) == 3
    assert len(keys_of(VideoSource([tmp_path / "words"]))) == 3


def test_frames_of_several_sizes_are_an_error(tmp_path: Path) -> None:
    write_frames(tmp_path / "walk", FRAMES[:2])
    write_frames(tmp_path / "walk", FRAMES[:1, :40], first=3)
    with pytest.raises(DataError, match=r"003\.png: is 64 x 40 px, and 001\.png is 64 x 48 \(width x height\)"):
        VideoSource([tmp_path / "walk"])


def test_grey_of_16_bits_is_scaled_and_what_has_more_is_an_error(tmp_path: Path) -> None:
    values = np.linspace(0, 0xFFFF, 48 * 64).astype(np.uint16).reshape(1, 48, 64)
    for suffix in ("png", "tif"):
        path = write_frames(tmp_path / suffix, values, "{}." + suffix)
        assert np.abs(grey_of(VideoSource([path]))[0] - values[0] / 257).max() <= 0.5 + 1e-9
    path = write_frames(tmp_path / "float", values[0, None].astype(np.float32), "{}.tif")
    with pytest.raises(DataError, match=r"1\.tif: grey of more than 16 bits or with a fraction"):
        grey_of(VideoSource([path]))


def test_frames_with_alpha_or_a_palette_are_read(tmp_path: Path) -> None:
    alpha = np.concatenate([FRAMES[:1], np.full((1, 48, 64, 1), 9, np.uint8)], axis=-1)
    assert np.array_equal(grey_of(VideoSource([write_frames(tmp_path / "alpha", alpha)])), GREY[:1])
    (tmp_path / "palette").mkdir()
    Image.fromarray(GREY[0]).convert("P").save(tmp_path / "palette" / "1.png", transparency=0)
    assert np.array_equal(grey_of(VideoSource([tmp_path / "palette"])), GREY[:1])


def test_bad_frames_are_named(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "walk", FRAMES[:9])
    cut(path / "006.png", 0.5, path / "006.png")
    frames, message = read_until_it_breaks(VideoSource([path]), 4)
    assert frames == 5
    assert "006.png: not a readable image" in message
    assert "restore it, or split the folder" in message
    (path / "007.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"007\.png: not a readable image"):
        VideoSource([path])
    pages = [Image.fromarray(frame) for frame in GREY[:3]]
    (tmp_path / "stack").mkdir()
    pages[0].save(tmp_path / "stack" / "all.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"all\.tif: not a readable image \(it holds several images; save each"):
        VideoSource([tmp_path / "stack"])


def test_frames_beside_folders_of_frames_are_an_error(tmp_path: Path) -> None:
    write_frames(tmp_path / "walk", FRAMES[:2])
    write_frames(tmp_path / "walk" / "masks", FRAMES[:2])
    with pytest.raises(DataError, match=r"walk: holds images, and folders of videos or images beside them"):
        VideoSource([tmp_path])


@pytest.mark.parametrize(
    "name", ["vp9.mkv", "ffv1.mkv", "mpeg4.avi", "mjpeg.avi", "reordered.avi", "vp8.webm", "h264.ts", "wmv2.wmv"]
)
def test_a_cut_file_is_noticed_before_the_work_and_gives_what_is_there_if_asked(
    files: Path, tmp_path: Path, name: str
) -> None:
    path = cut(files / name, 0.5001, tmp_path / name)
    with pytest.raises(
        DataError, match=f"{name}: was cut short, as its last part is not whole; copy the file again"
    ):
        VideoSource([path])
    source = VideoSource([path], skip_bad=True)
    assert 30 < len(keys_of(source, 8)) < 60
    assert len(colours_of(source)) == len(keys_of(source))


@pytest.mark.parametrize("name", ["vp8.webm", "ffv1.mkv", "mjpeg.avi", "h264.mp4"])
def test_a_last_frame_that_is_shown_for_long_is_no_cut(tmp_path: Path, name: str) -> None:
    brief = write_video(tmp_path / f"brief-{name}", FRAMES[:40], name, rate=10)
    path = tmp_path / name
    with av.open(str(brief)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        packets[-1].duration = round(6 / packets[-1].time_base)
        for packet in packets:
            packet.stream = stream
            target.mux(packet)
    assert len(keys_of(VideoSource([path]))) == 40


def test_a_cut_mp4_is_noticed_with_its_index_before_or_behind(files: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"behind\.mp4: not a readable video .*copy it again"):
        VideoSource([cut(files / "h264.mp4", 0.6, tmp_path / "behind.mp4")])
    path = write_video(tmp_path / "whole.mp4", FRAMES, "h264.mp4", container={"movflags": "faststart"})
    with pytest.raises(DataError, match=r"before\.mp4: was cut short, .*; copy the file again"):
        VideoSource([cut(path, 0.6, tmp_path / "before.mp4")])


def test_a_bad_video_is_skipped_if_asked_and_one_that_breaks_off_counts_up_to_there(
    files: Path, tmp_path: Path
) -> None:
    for name in ("h264.ts", "mpeg2.mpg", "ffv1.mkv"):
        cut(files / name, 0.6, tmp_path / name)
    damaged(files / "h264.mp4", tmp_path / "b.mp4")
    (tmp_path / "a.mp4").write_bytes(b"")
    write_frames(tmp_path / "gap", FRAMES[:4])
    (tmp_path / "gap" / "002.png").unlink()
    shutil.copy(files / "h264.mp4", tmp_path / "whole.mp4")
    source = VideoSource([tmp_path], skip_bad=True)
    assert source.videos == ("b.mp4", "ffv1.mkv", "h264.ts", "mpeg2.mpg", "whole.mp4")
    noted = dict(source.skipped)
    assert list(noted) == ["a.mp4", "ffv1.mkv", "gap", "h264.ts", "mpeg2.mpg"]
    assert noted["a.mp4"] == "the file is empty; check how it was written; it is left out"
    assert noted["gap"].startswith("frame 2 is missing after 001.png;")
    assert noted["h264.ts"].startswith("was cut short, as its last part is not whole; copy the file again")
    assert noted["h264.ts"].endswith("WHOLE.mkv; its frames up to there count")
    counts = Counter(key.video for key in keys_of(source))
    assert list(counts) == list(source.videos)
    assert counts["whole.mp4"] == 100
    assert all(30 < counts[name] < 90 for name in ("h264.ts", "mpeg2.mpg", "ffv1.mkv"))
    assert 15 < counts["b.mp4"] < 45
    assert dict(source.skipped)["b.mp4"].startswith("breaks off")
    assert len(keys_of(source.with_pictures())) == sum(counts.values())
    assert list(counts) == list(Counter(key.video for key in keys_of(source.resized(8, 8))))


def test_an_opened_source_can_be_asked_to_skip_and_keeps_its_own_ways(files: Path, tmp_path: Path) -> None:
    source = VideoSource([damaged(files / "h264.mp4", tmp_path / "damaged.mp4")])
    assert 15 < len(keys_of(source.skipping())) < 45
    with pytest.raises(DataError, match="breaks off"):
        keys_of(source)
    assert source.skipped == ()


def test_nothing_but_bad_videos_is_an_error_that_names_the_first(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"holds no video that can be read; the first, a\.mp4, the file is empty"):
        VideoSource([tmp_path], skip_bad=True)


def test_sound_that_is_longer_than_the_pictures_is_no_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mkv", FRAMES, "h264.mp4", sound_s=7.0)
    assert len(keys_of(VideoSource([path]))) == 100
    with pytest.raises(DataError, match="was cut short"):
        VideoSource([cut(path, 0.9, tmp_path / "cut.mkv")])


def test_files_without_pictures_are_errors(tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "zero.mp4").write_bytes(b"")
    (tmp_path / "noise.avi").write_bytes(bytes(range(256)) * 40)
    with av.open(str(tmp_path / "none.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.height, stream.width = 48, 64
        file.start_encoding()
    for name, message in {
        "sound.mp4": "holds no video, only sound or data; give a file with pictures",
        "zero.mp4": "the file is empty; check how it was written",
        "noise.avi": r"not a readable video \(Invalid data found when processing input\); copy it again",
        "none.mp4": "holds no video, only sound or data",
        "missing.mp4": "no such file or folder; check the path",
    }.items():
        with pytest.raises(DataError, match=f"{name}: {message}"):
            VideoSource([tmp_path / name])
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"picture\.png: no reader for this kind of video; known: \.mp4"):
        VideoSource([tmp_path / "picture.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no video .* and no frame; check the path"):
        VideoSource([tmp_path / "empty"])
    with pytest.raises(DataError, match="no video given"):
        VideoSource([])
    with pytest.raises(DataError, match="cannot be reached"):
        VideoSource([tmp_path / ("x" * 300 + ".mp4")])


def test_a_file_of_which_nothing_can_be_decoded_is_an_error(files: Path, tmp_path: Path) -> None:
    content = (files / "h264.mp4").read_bytes()
    start, stop = content.index(b"mdat") + 4, content.index(b"moov") - 4
    (tmp_path / "wiped.mp4").write_bytes(content[:start] + bytes(stop - start) + content[stop:])
    with pytest.raises(DataError, match=r"wiped\.mp4: no frame can be decoded \(Invalid data .*\); record"):
        VideoSource([tmp_path / "wiped.mp4"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_closed_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DataError, match="closed: cannot look into this folder"):
        VideoSource([tmp_path])


@pytest.mark.parametrize(
    "address",
    ["http://host/a.mp4", "rtsp://host/1", "concat:a.mp4|b.mp4", "file:///etc/a.mp4", "data:video/mp4;x"],
)
def test_addresses_are_refused(address: str) -> None:
    with pytest.raises(DataError, match="is an address, and only local files are read; download it first"):
        VideoSource([Path(address)])


def test_a_colon_in_the_name_of_a_file_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "concat:a.mp4", FRAMES[:2], "h264.mp4")
    monkeypatch.chdir(tmp_path)
    assert VideoSource([Path("concat:a.mp4")]).videos == ("concat:a.mp4",)


@pytest.mark.parametrize("suffix", [".m3u8", ".m3u", ".pls", ".txt", ".ffconcat", ".mpd"])
def test_playlists_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"list{suffix}").write_text("#EXTM3U\n")
    with pytest.raises(DataError, match=rf"list\{suffix}: is a playlist"):
        VideoSource([tmp_path / f"list{suffix}"])


def test_a_playlist_under_the_name_of_a_video_reads_nothing(files: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "h264.ts", FRAMES[:2])
    lists = {
        "concat.mp4": "ffconcat version 1.0\nfile h264.ts\n",
        "hls.ts": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\nh264.ts\n#EXT-X-ENDLIST\n",
        "hls.m3u8.mkv": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\nhttp://127.0.0.1:9/h264.ts\n",
        "dash.mp4": '<?xml version="1.0"?>\n<MPD type="static" xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>\n',
    }
    for name, content in lists.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(
            DataError, match=rf"{name}: (is of another kind inside|is a playlist inside|not a readable video)"
        ):
            VideoSource([tmp_path / name])
    with av.open(str(tmp_path / "concat.mp4")) as unguarded:  # FFmpeg itself would have followed it
        assert len(list(unguarded.decode(video=0))) == 2


def test_memory_does_not_grow_with_the_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "AHEAD_BYTES", 20 * 240 * 320)
    write_frames(tmp_path / "long", np.zeros((200, 240, 320), np.uint8), "{}.bmp")
    source = VideoSource([tmp_path / "long"])
    tracemalloc.start()
    try:
        for chunk in source.chunks(10):
            assert len(chunk) == 10
            time.sleep(0.005)  # a slow reader, whom the thread must wait for
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 20 * 240 * 320 < peak < 60 * 240 * 320  # 20 ahead, 10 gathered, one or two chunks of 10; never the 200


def test_the_thread_stops_with_the_reader(files: Path) -> None:
    before = threading.active_count()
    chunks: Any = VideoSource([files / "h264.mp4"]).chunks(4)
    assert threading.active_count() == before  # nothing runs before the first is asked for
    next(chunks)
    assert len(video_threads()) == 1
    chunks.close()
    assert threading.active_count() == before
    for _ in VideoSource([files / "h264.mp4"]).chunks(4):
        break
    list(VideoSource([files / "h264.mp4"]).chunks(4))
    assert not video_threads()


def test_the_thread_reads_ahead_and_its_errors_reach_the_reader(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_frames(tmp_path / "walk", FRAMES[:30])
    source = VideoSource([path])
    chunks = source.chunks(2)
    next(chunks)
    time.sleep(0.3)
    for file in path.iterdir():
        file.unlink()
    assert sum(len(chunk) for chunk in chunks) == 28  # all were decoded already
    with pytest.raises(DataError, match=r"001\.png: not a readable image \(no such file"):
        list(source.chunks(2))
    assert not video_threads()


def test_ffmpeg_says_nothing_on_the_way(files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged = bytearray((files / "mpeg4.mp4").read_bytes())
    damaged[3000:3400] = bytes(400)
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    with pytest.raises(DataError):
        list(VideoSource([tmp_path / "damaged.mp4"]).chunks(8))
    assert capfd.readouterr() == ("", "")


def test_frame_folders_need_no_pyav(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(keys_of(VideoSource([write_frames(tmp_path / "walk", FRAMES[:3])]))) == 3
    with pytest.raises(MissingExtraError, match=r"reading video files needs the extra 'video'"):
        VideoSource([files / "h264.mp4"])


def test_videos_have_neither_labels_nor_columns(tmp_path: Path) -> None:
    source = VideoSource([write_frames(tmp_path / "walk", FRAMES[:2])])
    with pytest.raises(DataError, match=r"a video has no column 'label'.*see docs/video.md"):
        source.labels("label")
    assert source.without([]) is source
    with pytest.raises(DataError, match="a video has no column 'id' to leave out"):
        source.without(["id"])
