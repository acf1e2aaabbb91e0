import numpy as np
import torch

from memae.video.dataset import Clips
from memae.video.item_samples import footage_around
from memae.video.preprocess import VideoPreprocess


def test_footage_is_cut_out_of_the_frame_and_around_the_place_that_an_item_stands_for() -> None:
    preprocess = VideoPreprocess(clip_length=8, height=64, width=96, input="frames")
    pixels = torch.zeros(16, 64, 96, dtype=torch.uint8)
    pixels[13] = torch.arange(64)[:, None] + torch.arange(96) // 2
    clips = Clips(pixels, torch.arange(16).view(2, 8), preprocess)
    place = int(np.ravel_multi_index((2, 1, 2), (4, 2, 3)))  # frames 12 and 13; 32 px a place
    found = footage_around(clips, (4, 2, 3), 1, place)
    assert np.array_equal(found[0], pixels[13, 32:64, 64:96].numpy())
    pixels[12] = 200
    whole = footage_around(clips, (), 1, 0)
    assert whole.shape == (1, 21, 32) and (whole == 200).all()
