"""Footage as it is read to train on, and clips that are made when they are asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from memae.errors import DataError
from memae.video.clips import Windows
from memae.video.dataset import Clips, Span, StoredFrames
from memae.video.preprocess import VideoPreprocess
from memae.video.source import VideoSource
from tests.moving_squares import Reel, frames_of, squares

RNG = np.random.default_rng(0)


def noise(count: int, height: int = 8, width: int = 12) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width), dtype=np.uint8)


def clips_of(
    pixels: np.ndarray, length: int = 4, stride: int = 2, dilation: int = 1, clip_input: str = "frames"
) -> Clips:
    """Clips of one video."""
    frames = torch.from_numpy(Windows(length, stride, dilation).training_clips([(0, len(pixels))]))
    preprocess = VideoPreprocess(
        clip_length=length, height=pixels.shape[1], width=pixels.shape[2], input=clip_input
    )
    return Clips(torch.from_numpy(pixels), frames, preprocess)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_videos_lie_end_to_end_with_their_keys() -> None:
    videos = {"a": noise(300), "b": noise(1), "c": noise(20)}
    stored = StoredFrames.read(Reel(videos))
    assert stored.videos == (Span(0, 300), Span(300, 301), Span(301, 321))
    assert stored.pixels.dtype == torch.uint8
    assert np.array_equal(stored.pixels.numpy(), np.concatenate(list(videos.values())))
    assert list(stored.keys) == [key for name, pixels in videos.items() for key in frames_of(pixels, name).keys]
    assert stored.origin == "the reel"
    part = stored.frames(Span(298, 300))
    assert np.array_equal(part.pixels, videos["a"][298:])
    assert [(key.video, key.frame) for key in part.keys] == [("a", 298), ("a", 299)]


def test_a_long_video_is_read_in_parts() -> None:
    reel = Reel({"a": noise(20)})
    StoredFrames.read(reel)
    assert reel.most_asked <= 1024  # frames: an hour at once would fill the memory twice over


def test_frames_are_read_from_real_videos_at_the_size_that_is_asked(tmp_path: Path) -> None:
    from tests.video_files import write_frames, write_video

    grey = [np.repeat(squares(count, 48, 64)[..., None], 3, axis=-1) for count in (20, 7)]
    write_frames(tmp_path / "walk" / "one", grey[0])
    write_video(tmp_path / "walk" / "two.mkv", grey[1], like="ffv1.mkv")
    stored = StoredFrames.read(VideoSource([tmp_path / "walk"], size=(24, 32)))
    assert stored.videos == (Span(0, 20), Span(20, 27))
    assert stored.pixels.shape == (27, 24, 32)
    assert [key.video for key in stored.keys] == ["one"] * 20 + ["two.mkv"] * 7
    assert stored.keys[26].frame == 6


def test_frames_lie_in_a_nameless_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stored = StoredFrames.read(Reel({"a": noise(64, 64, 64)}))
    assert list(tmp_path.iterdir()) == []
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        at = stored.pixels.data_ptr()
        (line,) = (
            line
            for line in mapped.read_text().splitlines()
            if int(line.split("-")[0], 16) <= at < int(line.split()[0].split("-")[1], 16)
        )
        assert str(tmp_path) in line
    stored.pixels[0] = 7  # it can be written to, so torch does not warn
    assert int(stored.pixels[0].max()) == 7


def test_frames_of_several_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="b: frames of several sizes"):
        StoredFrames.read(Reel({"a": noise(3), "b": noise(3, 8, 11)}))


@pytest.mark.parametrize("videos", [{}, {"a": noise(0)}])
def test_no_frames_are_refused(videos: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError, match="the reel: holds no frames"):
        StoredFrames.read(Reel(videos))


def direct(clips: Clips, number: int) -> Tensor:
    """(1, T, H, W) of one clip of whole frames, straight from the pixels."""
    x = clips.pixels[clips.frames[number]].double() / 127.5 - 1
    if clips.preprocess.input == "differences":
        x = 4 * torch.stack([x[max(1, at)] - x[max(1, at) - 1] for at in range(len(x))])
    return x.float()[None]


@pytest.mark.parametrize("clip_input", ["frames", "differences"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_an_index_gives_the_encoded_clips(clip_input: str, dilation: int) -> None:
    clips = clips_of(noise(21), dilation=dilation, clip_input=clip_input)
    every = torch.stack([direct(clips, number) for number in range(len(clips))])
    assert clips.shape == every.shape == (len(clips), 1, 4, 8, 12)
    assert clips.device == torch.device("cpu")
    for index in (slice(None), slice(2, 5), slice(5, None), torch.tensor([4, 0, 4]), torch.tensor([1])):
        found = clips[index]
        assert found.dtype == torch.float32
        assert torch.allclose(found, every[index], atol=1e-6)


@pytest.mark.parametrize("clip_input", ["frames", "differences"])
def test_crops_are_cut_from_the_clips_at_their_corners(clip_input: str) -> None:
    whole = clips_of(noise(21, 24, 40), clip_input=clip_input)
    crops = whole.crops(16, 3, seeded())
    assert len(crops) == 3 * len(whole)
    assert crops.shape == (len(crops), 1, 4, 16, 16)
    found = crops[:]
    assert found.shape == crops.shape
    for number, (top, left) in enumerate(crops.corners.tolist()):
        expected = whole[torch.tensor([number // 3])][..., top : top + 16, left : left + 16]
        assert torch.equal(found[number : number + 1], expected)
    assert torch.equal(crops[torch.tensor([7, 2])], found[[7, 2]])
    assert torch.equal(crops[4:6], found[4:6])


@pytest.mark.parametrize(
    ("height", "width", "asked", "side"),
    [(24, 40, 16, 16), (24, 40, 24, 24), (24, 40, 48, 24), (70, 33, 17, 17), (8, 8, 8, 8)],
)
def test_crops_lie_inside_the_frame(height: int, width: int, asked: int, side: int) -> None:
    crops = clips_of(noise(12, height, width)).crops(asked, 50, seeded())
    assert crops.side == side
    assert crops[:2].shape == (2, 1, 4, side, side)
    top, left = crops.corners.unbind(dim=1)
    for corner, room in ((top, height - side), (left, width - side)):
        assert int(corner.min()) == 0  # and they reach every border
        assert int(corner.max()) == room


def contains(crops: Clips, at: tuple[int, int]) -> float:
    """The share of the crops with this point in them."""
    inside = (crops.corners <= torch.tensor(at)) & (torch.tensor(at) < crops.corners + crops.side)
    return float(inside.all(dim=1).float().mean())


def test_crops_are_mostly_taken_where_something_moves() -> None:
    frames = np.full((20, 96, 128), 90, dtype=np.uint8)
    frames[::2, 40:48, 100:108] = 200  # a light that blinks
    crops = clips_of(frames, length=4, stride=4).crops(32, 100, seeded())
    assert contains(crops, (44, 104)) > 0.75
    still = clips_of(np.full((20, 96, 128), 90, dtype=np.uint8), length=4, stride=4).crops(32, 100, seeded())
    assert contains(still, (44, 104)) < 0.2
    assert 0.01 < contains(crops, (80, 20)) < 0.05  # the still places are seen, too


def test_motion_counts_in_the_clip_that_it_is_in() -> None:
    frames = np.full((40, 96, 128), 90, dtype=np.uint8)
    frames[0:20:2, 40:48, 100:108] = 200
    frames[20:40:2, 40:48, 20:28] = 200
    crops = clips_of(frames, length=20, stride=20).crops(32, 200, seeded())
    halves = [Clips(crops.pixels, crops.frames[part], crops.preprocess, crops.corners[part], crops.side)
              for part in (slice(200), slice(200, 400))]  # fmt: skip
    assert [contains(half, (44, 104)) > 0.7 for half in halves] == [True, False]
    assert [contains(half, (44, 24)) > 0.7 for half in halves] == [False, True]


def test_a_cut_to_the_next_video_is_no_motion() -> None:
    dark, bright = (np.full((3, 96, 128), level, dtype=np.uint8) for level in (20, 20))
    bright[:, 40:48, 100:108] = 250
    frames = Windows(4, 4).training_clips([(0, 3), (3, 6)])  # both mirrored
    preprocess = VideoPreprocess(clip_length=4, height=96, width=128, input="frames")
    clips = Clips(torch.from_numpy(np.concatenate([dark, bright])), torch.from_numpy(frames), preprocess)
    assert contains(clips.crops(32, 200, seeded()), (44, 104)) < 0.2


@pytest.mark.parametrize("count", [1, 2, 256, 257, 258, 520])
def test_crops_of_any_number_of_frames(count: int) -> None:
    frames = np.full((count, 16, 64), 90, dtype=np.uint8)
    frames[-1, :, -8:] = 250  # something moves from the last but one to the last frame
    crops = clips_of(frames, length=2, stride=1).crops(16, 40, seeded())
    last = Clips(crops.pixels, crops.frames[-40:], crops.preprocess, crops.corners[-40:], crops.side)
    assert (contains(last, (8, 56)) > 0.7) == (count > 1)


def test_crops_are_the_same_for_a_generator_of_the_same_seed() -> None:
    clips = clips_of(squares(30))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, same, other = (clips.crops(16, 2, seeded(seed)) for seed in (0, 0, 1))
    assert first.corners is not None and same.corners is not None and other.corners is not None
    assert torch.equal(first.corners, same.corners)
    assert not torch.equal(first.corners, other.corners)
    assert torch.equal(torch.get_rng_state(), before)


def test_clips_move_to_another_device_as_a_whole() -> None:
    elsewhere = torch.device("meta")
    whole = clips_of(noise(12, 16, 16))
    for clips in (whole, whole.crops(8, 2, seeded())):
        moved = clips.to(elsewhere)
        assert moved.device == elsewhere
        assert moved.shape == clips.shape
        assert len(moved) == len(clips)
        made = moved[torch.tensor([1, 0], device=elsewhere)]
        assert made.device == elsewhere
        assert made.shape == (2, *clips.shape[1:])
        assert clips.device == torch.device("cpu")
        same = clips.to(torch.device("cpu"))
        assert torch.equal(same[:3], clips[:3])
