import json

import pytest
import torch

from memae.video.preprocess import VideoPreprocess
from memae.video.steady import steady_differences


def video(clip_input: str, length: int = 3, height: int = 1, width: int = 2, **more: float) -> VideoPreprocess:
    return VideoPreprocess(clip_length=length, height=height, width=width, input=clip_input, **more)


CLIP = torch.tensor([[[0, 255]], [[51, 204]], [[51, 0]]], dtype=torch.uint8)[None]  # 3 frames of 1 x 2 px


def test_frames_of_a_clip_become_minus_one_to_one() -> None:
    encoded = video("frames").encode_clips(CLIP)
    assert encoded.shape == (1, 1, 3, 1, 2)
    assert encoded.dtype == torch.float32
    assert torch.allclose(encoded.flatten(), torch.tensor([-1, 1, -0.6, 0.6, -0.6, -1]))


def test_differences_of_a_clip_are_those_to_the_frame_before_and_the_first_takes_the_second() -> None:
    encoded = video("differences").encode_clips(CLIP)
    assert encoded.shape == (1, 1, 3, 1, 2)
    # 4 times the difference of frames in [-1, 1]
    assert torch.allclose(encoded.flatten(), torch.tensor([1.6, -1.6, 1.6, -1.6, 0, -6.4]), atol=1e-6)
    doubled = video("differences", gain=8.0).encode_clips(CLIP)
    assert torch.allclose(doubled, 2 * encoded)


@pytest.mark.parametrize("clip_input", ["frames", "differences"])
def test_clips_are_encoded_one_by_one_and_the_pixels_are_left_alone(clip_input: str) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (4, 5, 6, 7), dtype=torch.uint8, generator=generator)
    before = pixels.clone()
    preprocess = video(clip_input, 5, 6, 7)
    together = preprocess.encode_clips(pixels)
    assert together.shape[1:] == preprocess.shape == (1, 5, 6, 7)
    assert torch.equal(together, torch.cat([preprocess.encode_clips(pixels[i : i + 1]) for i in range(4)]))
    assert torch.equal(pixels, before)
    assert together.is_contiguous()
    assert together.stride() == (5 * 6 * 7, 5 * 6 * 7, 6 * 7, 7, 1)


def test_a_still_scene_has_no_differences_whatever_it_shows() -> None:
    still = torch.randint(0, 256, (1, 1, 6, 7), dtype=torch.uint8).expand(1, 5, 6, 7)
    assert (video("differences", 5, 6, 7).encode_clips(still) == 0).all()


def test_steady_differences_begin_with_the_second_and_frames_know_none() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 5, 12, 16), dtype=torch.uint8, generator=generator)
    steady = video("differences", 5, 12, 16).encode_clips(pixels, steady=True)
    frames = pixels.float() / 127.5 - 1
    assert torch.allclose(steady[:, 0, 1:], 4 * steady_differences(frames), atol=1e-5)
    assert torch.equal(steady[:, :, 0], steady[:, :, 1])
    same = video("frames", 5, 12, 16)
    assert torch.equal(same.encode_clips(pixels, steady=True), same.encode_clips(pixels))


@pytest.mark.parametrize("clip_input", ["frames", "differences"])
def test_a_preprocess_of_video_is_stored_as_json(clip_input: str) -> None:
    preprocess = video(clip_input, 16, 128, 192)
    stored = json.loads(json.dumps(preprocess.model_dump()))
    assert VideoPreprocess.model_validate(stored) == preprocess
    for change in ({"input": "colours"}, {"clip_length": "long"}, {"kind": "sound"}, {"fps": 25}):
        with pytest.raises(ValueError, match="validation error"):
            VideoPreprocess.model_validate(stored | change)
