"""The clip arithmetic against its rule, frame by frame."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from memae.errors import ConfigError
from memae.video.clips import Clip, Windows, released_frames
from memae.video.frames import FrameKey, Frames
from tests.moving_squares import frames_of

GRID = [
    (1, 1, 1), (2, 1, 1), (2, 2, 1), (4, 1, 1), (4, 2, 1), (4, 3, 1), (4, 4, 1), (5, 2, 1), (16, 1, 1), (16, 8, 1),
    (16, 16, 1), (2, 1, 5), (3, 2, 3), (5, 4, 2), (16, 8, 2), (16, 16, 3),
]  # fmt: skip


def numbered(count: int, first: int = 0) -> np.ndarray:
    """(count, 1, 1): each frame is its own number."""
    return np.arange(first, first + count, dtype=np.uint8)[:, None, None]


def clips_of(windows: Windows, *videos: np.ndarray, chunk: int = 1000) -> list[Clip]:
    """Of videos with the names 0, 1, ..., cut into chunks as a source would."""
    chunks = [
        frames_of(video[start : start + chunk], str(name), start)
        for name, video in enumerate(videos)
        for start in range(0, len(video), chunk)
    ]
    return list(windows.clips(chunks))


def plain(clips: list[Clip]) -> list[tuple[list[int], list[int], list[FrameKey]]]:
    """What can be compared of clips of `numbered`: frames, owned places, keys."""
    return [(clip.pixels.ravel().tolist(), list(clip.owned), clip.keys) for clip in clips]


def owner(frame: int, count: int, length: int, stride: int) -> int:
    """The start of the clip that owns a frame of a video, by the words of the docstring."""
    last = max(0, count - length)
    middle = (length - stride) // 2
    for start in range(0, last, stride):  # the clips in the midst of the video
        if start + middle <= frame < start + middle + stride:
            return start
    return 0 if frame < middle and last > 0 else last


def walked(start: int, length: int, count: int) -> list[int]:
    """Frames of a clip of a video, walked back from the end and forth from the beginning where it is too short."""
    place, step, found = start, 1, []
    for _ in range(length):
        found.append(place)
        if not 0 <= place + step < count:
            step = -step
        place += step if 0 <= place + step < count else 0
    return found


@pytest.mark.parametrize(("length", "stride", "dilation"), GRID)
def test_every_frame_is_owned_once_by_the_clip_of_the_rule(length: int, stride: int, dilation: int) -> None:
    windows = Windows(length, stride, dilation)
    for count in range(1, 41):
        owners = {}
        for clip in clips_of(windows, numbered(count)):
            assert clip.pixels.shape == (length, 1, 1)
            assert len(clip.owned) == len(clip.keys) > 0
            for place, key in zip(clip.owned, clip.keys, strict=True):
                assert key.frame not in owners
                assert clip.pixels[place, 0, 0] == key.frame
                owners[key.frame] = clip.pixels.ravel().tolist()
        for frame in range(count):
            phase, number = frame % dilation, frame // dilation
            here = len(range(phase, count, dilation))
            start = owner(number, here, length, stride)
            assert owners.pop(frame) == [phase + dilation * place for place in walked(start, length, here)]
        assert not owners


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (7, [([0, 1, 2, 3], [0, 1, 2]), ([2, 3, 4, 5], [1, 2]), ([3, 4, 5, 6], [2, 3])]),
        (6, [([0, 1, 2, 3], [0, 1, 2]), ([2, 3, 4, 5], [1, 2, 3])]),
        (5, [([0, 1, 2, 3], [0, 1, 2]), ([1, 2, 3, 4], [2, 3])]),
        (4, [([0, 1, 2, 3], [0, 1, 2, 3])]),
        (3, [([0, 1, 2, 1], [0, 1, 2])]),
        (2, [([0, 1, 0, 1], [0, 1])]),
        (1, [([0, 0, 0, 0], [0])]),
    ],
)
def test_clips_of_four_frames_two_apart(count: int, expected: list[Any]) -> None:
    found = plain(clips_of(Windows(4, 2), numbered(count)))
    assert [(frames, places) for frames, places, _ in found] == expected
    assert [key for *_, keys in found for key in keys] == frames_of(numbered(count), "0").keys


def test_the_latest_frames_of_a_clip_wait_for_one_stride() -> None:
    found = clips_of(Windows(16, 4, latest=True), numbered(42))
    assert [int(clip.pixels[0, 0, 0]) for clip in found] == [0, 4, 8, 12, 16, 20, 24, 26]
    assert [list(clip.owned) for clip in found] == [list(range(16)), *[[12, 13, 14, 15]] * 6, [14, 15]]
    assert [key for clip in found for key in clip.keys] == frames_of(numbered(42), "0").keys


def test_a_stride_of_one_scores_each_frame_in_the_middle() -> None:
    clips = clips_of(Windows(16, 1), numbered(40))
    assert len(clips) == 25
    assert [list(clip.owned) for clip in clips] == [list(range(8)), *[[7]] * 23, list(range(7, 16))]


def test_a_stride_of_the_length_cuts_end_to_end() -> None:
    clips = clips_of(Windows(16, 16), numbered(40))
    assert [int(clip.pixels[0, 0, 0]) for clip in clips] == [0, 16, 24]
    assert [list(clip.owned) for clip in clips] == [list(range(16)), list(range(16)), list(range(8, 16))]


def test_half_the_length_uses_the_central_half() -> None:
    clips = clips_of(Windows(16, 8), numbered(40))
    assert [int(clip.pixels[0, 0, 0]) for clip in clips] == [0, 8, 16, 24]
    assert [list(clip.owned) for clip in clips] == [
        list(range(12)),
        list(range(4, 12)),
        list(range(4, 12)),
        list(range(4, 16)),
    ]


@pytest.mark.parametrize(
    ("count", "frames"),
    [
        (1, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (2, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]),
        (3, [0, 1, 2, 1, 0, 1, 2, 1, 0, 1]),
        (4, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]),
        (9, [0, 1, 2, 3, 4, 5, 6, 7, 8, 7]),
    ],
)
@pytest.mark.parametrize("stride", [1, 5, 10])
def test_a_video_that_is_shorter_than_a_clip_is_mirrored(count: int, frames: list[int], stride: int) -> None:
    ((found, owned, _),) = plain(clips_of(Windows(10, stride), numbered(count)))
    assert found == frames
    assert owned == list(range(count))
    (trained,) = Windows(10, stride).training_clips([(30, 30 + count)])
    assert trained.tolist() == [30 + frame for frame in frames]


@pytest.mark.parametrize(("length", "stride", "dilation"), [(4, 2, 1), (4, 1, 2), (16, 8, 1), (5, 5, 3)])
def test_chunks_of_any_size_give_the_same_clips_video_by_video(length: int, stride: int, dilation: int) -> None:
    windows = Windows(length, stride, dilation)
    videos = [numbered(count, first) for count, first in ((21, 0), (1, 30), (3, 40), (40, 60))]
    whole = plain(clips_of(windows, *videos))
    for chunk in (1, 2, 3, 7, 20, 21):
        assert plain(clips_of(windows, *videos, chunk=chunk)) == whole
    one_by_one = []
    for name, video in enumerate(videos):
        for frames, places, keys in plain(clips_of(windows, video)):
            one_by_one.append((frames, places, [key._replace(video=str(name)) for key in keys]))
    assert whole == one_by_one


def test_empty_chunks_and_no_chunks_give_nothing() -> None:
    assert plain(clips_of(Windows(4, 2))) == []
    assert list(Windows(4, 2).clips([frames_of(numbered(0))])) == []


@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 20, 31])
def test_dilated_phases_are_videos_of_their_own(dilation: int, count: int) -> None:
    video = numbered(count)
    dilated = plain(clips_of(Windows(4, 2, dilation), video))
    apart = [
        clip
        for phase in range(dilation)
        for clip in plain(clips_of(Windows(4, 2), video[phase::dilation]))
        if clip
    ]
    assert sorted((frames, places) for frames, places, _ in dilated) == sorted(
        (frames, places) for frames, places, _ in apart
    )


@pytest.mark.parametrize("dilation", [1, 3])
def test_no_more_than_a_clip_of_frames_is_held_for_each_phase(dilation: int) -> None:
    alive = most = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def chunks() -> Iterator[Frames]:
        nonlocal alive, most
        for number in range(100):
            chunk = frames_of(np.zeros((5, 2, 2), dtype=np.uint8), first=5 * number)
            weakref.finalize(chunk.pixels, gone)
            alive += 1
            yield chunk
            del chunk
            most = max(most, alive)

    clips = 0
    for clip in Windows(10, 4, dilation).clips(chunks()):
        clips += 1
        assert clip.pixels.base is None  # a copy: whoever keeps a clip keeps no chunk
    assert clips > 100
    assert 2 * dilation <= most <= 2 * dilation + 2


def test_a_clip_is_given_as_soon_as_one_more_frame_is_there() -> None:
    asked = 0

    def chunks() -> Iterator[Frames]:
        nonlocal asked
        for number in range(100):
            asked += 1
            yield frames_of(numbered(1, number), first=number)

    assert next(Windows(4, 4).clips(chunks())).pixels.ravel().tolist() == [0, 1, 2, 3]
    assert asked == 5


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("chunk", [1, 3, 20, 1000])
def test_batches_are_the_clips_of_one_chunk_at_a_time(chunk: int, dilation: int) -> None:
    windows, videos = (
        Windows(4, 2, dilation),
        [numbered(count, first) for count, first in ((21, 0), (2, 30), (40, 60))],
    )
    chunks = [
        frames_of(video[start : start + chunk], str(name), start)
        for name, video in enumerate(videos)
        for start in range(0, len(video), chunk)
    ]
    asked = 0

    def counted() -> Iterator[Frames]:
        nonlocal asked
        for each in chunks:
            asked += 1
            yield each

    alone = [(asked, clip) for clip in windows.clips(counted())]
    asked = 0
    batches = [(asked, batch) for batch in windows.batches(counted(), 3)]
    assert plain([clip for _, batch in batches for clip in batch]) == plain([clip for _, clip in alone])
    # each clip is there after as many chunks as if it were asked for alone
    assert [chunks for chunks, batch in batches for _ in batch] == [chunks for chunks, _ in alone]
    most = max(len(batch) for _, batch in batches)
    assert most == 3 if chunk >= 20 else most <= 3


def test_training_clips_lie_within_their_pieces() -> None:
    found = Windows(4, 1).training_clips([(0, 6), (6, 9), (20, 24)])
    assert found.tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [6, 7, 8, 7], [20, 21, 22, 23]]
    assert Windows(4, 2).training_clips([(0, 7)]).tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert Windows(4, 4).training_clips([(3, 13)]).tolist() == [[3, 4, 5, 6], [7, 8, 9, 10]]
    assert Windows(3, 1, 2).training_clips([(10, 16)]).tolist() == [[10, 12, 14], [11, 13, 15]]
    assert Windows(3, 1, 2).training_clips([(0, 1)]).tolist() == [[0, 0, 0]]
    assert Windows(4, 1).training_clips([]).shape == (0, 4)


@pytest.mark.parametrize(("length", "stride", "dilation"), GRID)
def test_training_clips_are_all_that_fit(length: int, stride: int, dilation: int) -> None:
    for count in range(1, 41):
        found = Windows(length, stride, dilation).training_clips([(100, 100 + count)]).tolist()
        expected = []
        for phase in range(min(dilation, count)):
            here = range(100 + phase, 100 + count, dilation)
            starts = range(0, len(here) - length + 1, stride) if len(here) >= length else (0,)
            expected += [[here[place] for place in walked(start, length, len(here))] for start in starts]
        assert found == expected


@pytest.mark.parametrize("frames", [*range(20), 100, 179, 1439])
def test_the_released_code_scores_the_frames_of_its_label_cut(frames: int) -> None:
    assert list(released_frames(frames)) == list(range(frames))[8:-7]
    # one score for each clip of 16 frames, given to the 9th of them
    assert list(released_frames(frames)) == [start + 8 for start in range(frames - 15)]


def test_released_frames_of_other_lengths() -> None:
    assert released_frames(10, length=4) == range(2, 9)
    assert len(released_frames(3, length=4)) == 0


@pytest.mark.parametrize(
    ("length", "stride", "dilation"), [(0, 1, 1), (4, 0, 1), (4, 5, 1), (4, 2, 0), (-4, -4, 1), (4, 2, -1)]
)
def test_numbers_out_of_range_are_refused(length: int, stride: int, dilation: int) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"clips of {length} frames, {stride} apart, dilation {dilation}: .*no frame is left out",
    ):
        Windows(length, stride, dilation)
