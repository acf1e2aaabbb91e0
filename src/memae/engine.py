"""The door to the forms in which trained networks score fastest on a CPU; for inference only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from memae.autoencoder import Autoencoder, Reconstruction
from memae.video.inference import allows_int8, clip_form
from memae.video.quantised import fast_int8

__all__ = ["fast_bfloat16", "inference_form"]


def inference_form(model: Autoencoder, dtype: torch.dtype | None = None) -> Callable[[Tensor], Reconstruction]:
    """The same function of a batch as `model` in eval mode, to rounding.

    Args:
        model: a network of clips (B, 1, T, H, W); it is read now, and later changes to it do not show. Any
            other, or one on an accelerator, is given back as it is.
        dtype: of the convolutions of clips, all of them or, for int8, those that take the time. int8 is for the
            paper's network, with BatchNorm behind all layers but the last. None is the fastest that CPU and network
            allow.

    Raises:
        ValueError: int8 for another network of clips.
    """
    model.eval()
    if next(model.parameters()).device.type != "cpu":
        return model
    if any(isinstance(stage, nn.Conv3d) for stage in model.modules()):
        floating = torch.bfloat16 if fast_bfloat16() else torch.float32
        return clip_form(
            model, dtype or (torch.int8 if fast_int8() and allows_int8(model) else floating), floating
        )
    return model


def fast_bfloat16() -> bool:
    """This CPU has matrix units for bfloat16; others emulate it."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
