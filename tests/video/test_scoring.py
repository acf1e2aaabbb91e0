"""Scores of frames against what the network says of the clip that owns them, computed one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from memae.autoencoder import Autoencoder, Reconstruction
from memae.errors import ConfigError
from memae.memory.memae import MemAE
from memae.video.config import VideoConfig
from memae.video.frames import FrameKey, Frames
from memae.video.preprocess import VideoPreprocess
from memae.video.scoring import (
    CPU_CLIPS,
    FRAMES_AVERAGED,
    ClipEvidence,
    FrameScorer,
    ScoredFrame,
    patch_errors,
)
from tests.moving_squares import frames_of

HEIGHT, WIDTH = 16, 24


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT, WIDTH), dtype=np.uint8)


def network(memory: bool = True) -> Autoencoder:
    """Untrained, and small: a score is a function of the clip whether it is a good one or not."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv3d(1, 4, 3, (1, 2, 2), 1), nn.LeakyReLU(0.2), nn.Conv3d(4, 6, 3, 2, 1))
    decoder = nn.Sequential(
        nn.ConvTranspose3d(6, 4, 3, 2, 1, 1), nn.ConvTranspose3d(4, 1, 3, (1, 2, 2), 1, (0, 1, 1))
    )
    items = MemAE(10, 6, temperature=0.1, shrinkage=1.0) if memory else None
    return Autoencoder(encoder, items, decoder).eval()


NET = network()


def dimmed(x: Tensor) -> Reconstruction:
    """A network without a view: each pixel is rebuilt as a half of itself."""
    return Reconstruction(x / 2, None)


def settings(length: int = 4, clip_input: str = "frames", **video: object) -> tuple[VideoPreprocess, VideoConfig]:
    config = VideoConfig(height=HEIGHT, width=WIDTH, clip_length=length, input=clip_input, **video)
    return VideoPreprocess(clip_length=length, height=HEIGHT, width=WIDTH, input=clip_input), config


def scorer(
    length: int = 4,
    watched: np.ndarray | None = None,
    rebuild: Callable[[Tensor], Reconstruction] = NET,
    **video: Any,
) -> FrameScorer:
    return FrameScorer(rebuild, *settings(length, **video), watched)


def scored(scorer: FrameScorer, *videos: np.ndarray, chunk: int = 1000) -> list[ScoredFrame]:
    chunks = [
        frames_of(video[start : start + chunk], f"v{number}", start)
        for number, video in enumerate(videos)
        for start in range(0, len(video), chunk)
    ]
    return list(scorer.scored(chunks))


def clip_of(frame: int, count: int, length: int, stride: int, dilation: int) -> tuple[list[int], int]:
    """The frames of the clip that owns a frame of a video of at least one clip, and the frame's place in it."""
    phase, number = frame % dilation, frame // dilation
    last = len(range(phase, count, dilation)) - length
    assert last >= 0
    middle = (length - stride) // 2
    start = next((s for s in range(0, last, stride) if number < s + middle + stride), last)
    return [phase + dilation * (start + place) for place in range(length)], number - start


def naive_places(errors: np.ndarray, side: int, frames: int) -> np.ndarray:
    """(T, h, w) place errors of (T, H, W), by loops."""
    count, height, width = errors.shape

    def starts(size: int) -> list[int]:
        found = [0]
        while found[-1] + min(side, height, width) < size:
            found.append(found[-1] + max(1, min(side, height, width) // 2))
        return found

    side = min(side, height, width)
    rows, columns = starts(height), starts(width)
    squares = np.array(
        [
            [[image[top : top + side, left : left + side].mean() for left in columns] for top in rows]
            for image in errors.astype(float)
        ]
    )
    half = frames // 2
    return np.array([squares[max(0, at - half) : at + half + 1].mean(axis=0) for at in range(count)])


@pytest.mark.parametrize("frames", [1, 3, 9])
@pytest.mark.parametrize(
    ("count", "height", "width", "side"),
    [
        (4, 8, 8, 8),
        (4, 8, 12, 4),
        (3, 9, 14, 4),
        (2, 7, 12, 5),
        (5, 6, 5, 1),
        (2, 6, 5, 2),
        (2, 10, 9, 3),
        (1, 5, 7, 3),
        (3, 8, 13, 13),
        (2, 8, 13, 64),
    ],
)
def test_patch_errors_are_means_over_overlapping_squares(
    count: int, height: int, width: int, side: int, frames: int
) -> None:
    errors = torch.rand(2, count, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = patch_errors(errors, side, frames)
    expected = np.stack([naive_places(clip.numpy(), side, frames) for clip in errors])
    assert found.shape == expected.shape
    assert np.allclose(found, expected)


@pytest.mark.parametrize("score", ["mean", "place"])
@pytest.mark.parametrize(
    ("length", "stride", "dilation", "clip_input"),
    [
        (16, 1, 1, "differences"),
        (16, 8, 1, "frames"),
        (16, 16, 1, "differences"),
        (4, 2, 1, "frames"),
        (4, 1, 2, "differences"),
        (4, 3, 2, "frames"),
        (4, 4, 3, "frames"),
        (4, 99, 1, "frames"),
    ],
)
def test_a_score_is_that_of_the_network_on_the_clip_of_the_frame(
    score: str, length: int, stride: int, dilation: int, clip_input: str
) -> None:
    videos = noise(23, 1), noise(length * dilation, 2), noise(41, 3)
    found = scored(
        scorer(length, stride=stride, dilation=dilation, score=score, clip_input=clip_input),
        *videos,
        chunk=7,
    )
    expected_keys = [key for name, video in enumerate(videos) for key in frames_of(video, f"v{name}").keys]
    assert [frame.key for frame in found] == expected_keys
    preprocess, _ = settings(length, clip_input)
    frames = iter(found)
    for video in videos:
        for number in range(len(video)):
            places, at = clip_of(number, len(video), length, min(stride, length), dilation)
            x = preprocess.encode_clips(torch.from_numpy(video[places])[None])
            with torch.no_grad():
                errors = (x - NET(x).x)[0, 0].square().numpy()
            frame = next(frames)
            assert frame.index_in_clip == at
            assert torch.equal(frame.clip.x, x[0, 0])
            maps = naive_places(errors, 8, 1 if score == "mean" else FRAMES_AVERAGED)[at]
            if score == "place":
                maps = np.sqrt(maps)
            assert frame.anomaly_map == pytest.approx(maps, rel=1e-3, abs=1e-5)
            wanted = maps.max() if score == "place" else errors[at].mean()
            assert frame.score == pytest.approx(wanted, rel=1e-4, abs=1e-6)
            assert frame.anomaly_map.dtype == np.float32


def test_a_steady_score_is_that_of_steady_differences() -> None:
    ground = gaussian_filter(np.random.default_rng(0).normal(128, 150, (HEIGHT + 1, WIDTH)), 2).astype(np.uint8)
    shaken = np.stack([ground[row : row + HEIGHT] for row in (0, 1, 0, 1, 0, 1)])
    steady, raw = (
        scored(scorer(6, rebuild=dimmed, clip_input="differences", steady=steady), shaken)
        for steady in (True, False)
    )
    preprocess, _ = settings(6, "differences")
    x = preprocess.encode_clips(torch.from_numpy(shaken)[None], steady=True)
    assert torch.equal(steady[0].clip.x, x[0, 0])
    assert all(one.score < other.score for one, other in zip(steady, raw, strict=True))


@pytest.mark.parametrize("score", ["mean", "place"])
def test_a_video_that_is_shorter_than_a_clip_is_scored_mirrored(score: str) -> None:
    video = noise(3)
    whole = np.concatenate([video, video[1:2], video[:2]])  # 0 1 2 1 0 1
    short, longer = (scored(scorer(6, stride=6, score=score), each) for each in (video, whole))
    assert [frame.score for frame in short] == [frame.score for frame in longer[:3]]
    (alone,) = scored(scorer(6, stride=1, score=score), video[:1])
    assert math.isfinite(alone.score)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (4, 1), (2, 2)])
@pytest.mark.parametrize("score", ["mean", "place"])
def test_a_score_never_looks_beyond_its_clip(stride: int, dilation: int, score: str) -> None:
    count, changed = 24, 13
    video = noise(count)
    other = video.copy()
    other[changed] = 255 - other[changed]
    make = scorer(4, stride=stride, dilation=dilation, score=score, clip_input="differences")
    before, after = ([frame.score for frame in scored(make, each)] for each in (video, other))
    saw = {n for n in range(count) if changed in clip_of(n, count, 4, stride, dilation)[0]}
    differ = {n for n in range(count) if before[n] != after[n]}
    assert differ <= saw
    assert changed in differ
    assert len(differ) > 1


@pytest.mark.parametrize("dilation", [1, 3])
def test_frames_come_before_the_video_has_ended(dilation: int) -> None:
    asked = 0

    def live() -> Iterator[Frames]:
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield frames_of(noise(1), first=number)

    frames = scorer(4, stride=2, dilation=dilation).scored(live())
    for number in range(30):
        assert next(frames).key.frame == number
        assert asked <= number + 8 * dilation


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("score", ["mean", "place"])
def test_a_file_is_scored_several_clips_at_once_and_a_stream_is_not(dilation: int, score: str) -> None:
    sizes: list[int] = []

    def noting(x: Tensor) -> Reconstruction:
        sizes.append(len(x))
        rebuilt: Reconstruction = NET(x)
        return rebuilt

    video, make = noise(61), scorer(4, rebuild=noting, stride=2, dilation=dilation, score=score)
    together = scored(make, video)
    assert max(sizes) == CPU_CLIPS > 1
    assert sizes.count(CPU_CLIPS) >= len(sizes) - 2
    sizes.clear()
    alone = scored(make, video, chunk=1)
    assert set(sizes[: -2 * dilation]) == {1}
    assert [frame.key for frame in together] == [frame.key for frame in alone]
    assert [frame.score for frame in together] == pytest.approx([frame.score for frame in alone], rel=1e-5)
    for one, other in zip(together, alone, strict=True):
        assert one.anomaly_map == pytest.approx(other.anomaly_map, rel=1e-4, abs=1e-6)
        assert one.items() == [(item, pytest.approx(share, abs=1e-5)) for item, share in other.items()]


@pytest.mark.parametrize(("side", "at_once"), [(256, 2), (264, 1)])
def test_large_clips_are_scored_one_by_one(side: int, at_once: int) -> None:
    sizes: list[int] = []

    def noting(x: Tensor) -> Reconstruction:
        sizes.append(len(x))
        return dimmed(x)

    preprocess = VideoPreprocess(clip_length=16, height=side, width=side, input="frames")
    config = VideoConfig(height=side, width=side, clip_length=16, stride=16)
    video = np.zeros((64, side, side), dtype=np.uint8)
    assert len(list(FrameScorer(noting, preprocess, config).scored([frames_of(video)]))) == 64
    assert max(sizes) == at_once


def test_frames_that_begin_anywhere_come_in_their_order() -> None:
    video = noise(20)
    for dilation in (1, 2):
        expected = [frame.score for frame in scored(scorer(4, stride=2, dilation=dilation), video)]
        part = frames_of(video, first=500)
        skipping = Frames(part.pixels, [key._replace(frame=2 * key.frame) for key in part.keys], part.origin)
        for chunk in (part, skipping):
            found = list(scorer(4, stride=2, dilation=dilation).scored([chunk]))
            assert [frame.key for frame in found] == chunk.keys
            assert [frame.score for frame in found] == expected


def test_nothing_in_gives_nothing_out() -> None:
    assert scored(scorer()) == []
    assert list(scorer().scored([frames_of(noise(0))])) == []


MASK = np.ones((HEIGHT, WIDTH), dtype=bool)
MASK[3:14, 11:] = False  # not at the edges of places


@pytest.mark.parametrize("score", ["mean", "place"])
def test_what_happens_where_nobody_looks_changes_nothing(score: str) -> None:
    video = noise(12)
    other = video.copy()
    other[6:, 3:14, 11:] = 255 - other[6:, 3:14, 11:]
    other[8, 13, 11] = 0
    make = scorer(4, MASK, dimmed, stride=2, score=score)
    before, after = scored(make, video), scored(make, other)
    assert [frame.score for frame in before] == [frame.score for frame in after]
    assert all(np.array_equal(one.anomaly_map, two.anomaly_map) for one, two in zip(before, after, strict=True))
    for row, column in ((2, 11), (3, 10), (14, 10)):  # and a pixel beside it does
        seen = video.copy()
        seen[6:, row, column] = 0
        differing = scored(make, seen)
        if score == "mean":
            assert all(one.score != two.score for one, two in zip(before[6:], differing[6:], strict=True))
        assert any(
            not np.array_equal(one.anomaly_map, two.anomaly_map)
            for one, two in zip(before, differing, strict=True)
        )


@pytest.mark.parametrize("score", ["mean", "place"])
def test_an_anomaly_deep_inside_the_mask_is_not_seen_by_a_network_with_a_view(score: str) -> None:
    preprocess = VideoPreprocess(clip_length=4, height=16, width=64, input="frames")
    config = VideoConfig(height=16, width=64, clip_length=4, stride=4, score=score)
    mask = np.arange(64)[None].repeat(16, axis=0) < 24
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (8, 16, 64), dtype=np.uint8)
    other = video.copy()
    other[:, :, 48:] = 0
    make = FrameScorer(NET, preprocess, config, mask)
    before, after = ([f.score for f in make.scored([frames_of(each)])] for each in (video, other))
    assert before == pytest.approx(after, rel=1e-6)
    whole = FrameScorer(NET, preprocess, config)
    before, after = ([f.score for f in whole.scored([frames_of(each)])] for each in (video, other))
    assert before != pytest.approx(after, rel=1e-2)


def test_the_mean_is_over_what_is_watched() -> None:
    video = noise(6)
    for frame, pixels in zip(scored(scorer(4, MASK, dimmed, stride=4), video), video, strict=True):
        errors = ((pixels / 127.5 - 1) / 2) ** 2
        assert frame.score == pytest.approx(errors[MASK].mean(), rel=1e-5)
        assert frame.score != pytest.approx(errors.mean(), rel=1e-5)


@pytest.mark.parametrize("score", ["mean", "place"])
def test_a_mask_that_leaves_out_nothing_is_no_mask(score: str) -> None:
    plain, masked = (
        scored(scorer(4, mask, stride=2, score=score), noise(9)) for mask in (None, np.ones_like(MASK))
    )
    assert [frame.score for frame in masked] == pytest.approx([frame.score for frame in plain], rel=1e-5)
    assert np.allclose(
        [frame.anomaly_map for frame in masked], [frame.anomaly_map for frame in plain], rtol=1e-4, atol=1e-5
    )


def test_places_that_nobody_looks_at_are_never_the_highest() -> None:
    bright = np.full((4, HEIGHT, WIDTH), 128, dtype=np.uint8)
    bright[:, 3:14, 11:] = 255
    bright[:, 0, 0] = 200
    (frame, *_) = scored(scorer(4, MASK, dimmed, stride=4, score="place"), bright)
    assert np.unravel_index(frame.anomaly_map.argmax(), frame.anomaly_map.shape) == (0, 0)
    assert frame.anomaly_map.max() == frame.score
    assert frame.anomaly_map[1, 3:].tolist() == [frame.anomaly_map.min()] * 2


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        (np.ones((HEIGHT, WIDTH + 1), dtype=bool), "a mask of 16 x 25 px does not fit frames of 16 x 24 px"),
        (np.ones(HEIGHT, dtype=bool), "a mask of 16 px does not fit frames of 16 x 24 px"),
        (np.zeros((HEIGHT, WIDTH), dtype=bool), "leaves no place to watch"),
        (np.eye(HEIGHT, WIDTH, dtype=bool), "leaves no place to watch"),
    ],
)
@pytest.mark.parametrize("score", ["mean", "place"])
def test_a_mask_that_cannot_be_meant_is_refused(mask: np.ndarray, what: str, score: str) -> None:
    with pytest.raises(ConfigError, match=what):
        scorer(watched=mask, score=score)


def with_weights(weights: Tensor | None, index_in_clip: int = 0, length: int = 4) -> ScoredFrame:
    x = torch.zeros(length, HEIGHT, WIDTH)
    return ScoredFrame(
        FrameKey("v", 0, 0.0), 1.0, np.zeros((1, 1)), ClipEvidence(x, x, lambda: weights), index_in_clip
    )


def one_hot(items: Sequence[Any]) -> Tensor:
    """(t, h, w, 12) weights: each position reads the one item of its number."""
    return nn.functional.one_hot(torch.tensor(items), 12).float()


POSITIONS = one_hot([[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]])  # 2 times, 2 rows, 3 columns


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.0, 0.0, 1.0, 1.0), {0, 1, 2, 3, 4, 5}),
        ((0.0, 0.0, 1.0, 0.5), {0, 1, 2}),
        ((0.0, 0.5, 1.0, 1.0), {3, 4, 5}),
        ((0.0, 0.0, 0.33, 0.4), {0}),
        ((0.7, 0.6, 0.71, 0.61), {5}),
        ((0.3, 0.2, 0.4, 0.3), {0, 1}),
        ((0.5, 0.5, 0.5, 0.5), {4}),  # a point
        ((0.34, 0.0, 0.66, 1.0), {1, 4}),
    ],
)
def test_the_items_of_a_region_are_those_of_its_positions(box: tuple[Any, ...], expected: set[int]) -> None:
    for place, offset in ((0, 0), (1, 0), (2, 6), (3, 6)):
        used = with_weights(POSITIONS, place).items(box)
        assert {item for item, _ in used} == {item + offset for item in expected}
        assert [share for _, share in used] == pytest.approx([1 / len(expected)] * len(expected))


def test_items_come_strongest_first_and_unused_ones_not_at_all() -> None:
    weights = torch.zeros(1, 1, 4, 5)
    weights[0, 0, :, 3] = torch.tensor([1.0, 1.0, 0.5, 0.0])
    weights[0, 0, :, 1] = torch.tensor([0.0, 0.0, 0.5, 1.0])
    frame = with_weights(weights, 2)
    assert frame.items() == [(3, pytest.approx(0.625)), (1, pytest.approx(0.375))]
    assert frame.items((0.75, 0.0, 1.0, 1.0)) == [(1, 1.0)]
    assert frame.items((0.0, 0.0, 0.5, 1.0)) == [(3, 1.0)]


def test_one_query_for_the_whole_clip_answers_for_every_region() -> None:
    frame = with_weights(torch.tensor([0.0, 0.25, 0.75]).view(1, 1, 1, 3), 3)
    for box in ((0.0, 0.0, 1.0, 1.0), (0.9, 0.9, 0.95, 0.95)):
        assert frame.items(box) == [(2, 0.75), (1, 0.25)]


def test_without_a_memory_there_are_no_items() -> None:
    assert with_weights(None).items() == []
    (frame, *_) = scored(scorer(rebuild=network(memory=False)), noise(4))
    assert frame.items() == []


def test_the_evidence_is_what_the_network_made_of_the_clip() -> None:
    found = scored(scorer(4, stride=4), noise(12))
    for frame in (found[0], found[6], found[11]):
        with torch.no_grad():
            made = NET(frame.clip.x[None, None])
        assert torch.allclose(frame.clip.reconstruction, made.x[0, 0], atol=1e-6)
        assert frame.clip.weights.shape == (2, 4, 6, 10)
        assert frame.clip.weights is not None
        assert torch.allclose(frame.clip.weights, made.read.weights.view(2, 4, 6, 10), atol=1e-5)
        assert sum(share for _, share in frame.items()) == pytest.approx(1, abs=1e-5)
        assert sum(share for _, share in frame.items((0.4, 0.1, 0.6, 0.3))) == pytest.approx(1, abs=1e-5)


def test_a_memory_that_is_asked_about_whole_clips_gives_one_row_of_weights() -> None:
    torch.manual_seed(0)
    net = network(memory=False)
    net.memory, net.query = MemAE(7, 6 * 2 * 4 * 6), "whole"
    found = scored(scorer(4, stride=4, rebuild=net.eval()), noise(8))
    assert all(frame.clip.weights.shape == (1, 1, 1, 7) for frame in found)
    assert found[0].items() == found[3].items((0.0, 0.0, 0.1, 0.1))
    assert found[0].items() != found[4].items()


def test_frames_of_one_clip_share_its_evidence() -> None:
    found = scored(scorer(4, stride=4), noise(8))
    assert all(frame.clip is found[0].clip for frame in found[:4])
    assert found[4].clip is not found[0].clip
    assert replace(found[0], score=0.0).clip is found[0].clip
