"""A trained network of large images in the form that scores fastest on a CPU: our own compiled code, in float32.

BatchNorm is folded into the convolutions. What is left, from images to the errors of their squares, is in
`memae.image.squares`.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from memae import native
from memae.autoencoder import Autoencoder, Reconstruction
from memae.encoded import Pixels
from memae.image import squares
from memae.image.networks import Fold, Unfold
from memae.memory.memae import MemoryModule

__all__ = ["ImageForm", "folds_images", "image_form"]

_Layer = Fold | nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.ReLU | Unfold


def folds_images(model: nn.Module) -> bool:
    """A network of convolutions with nothing but `Fold` before them and `Unfold` behind."""
    if not isinstance(model, Autoencoder):
        return False
    down, up = list(model.encoder.children()), list(model.decoder.children())
    return (
        all(isinstance(stage, _Layer) for stage in (*down, *up))
        and [isinstance(stage, nn.Conv2d) for stage in down[1:2]] == [True]
        and [type(stage) for stage in (down[0], *up[-1:])] == [Fold, Unfold]
    )


class ImageForm:
    """The same function of images (B, C, H, W) as the network that it was made from; see `image_form`."""

    side = squares.SIDE
    """Of a square, px."""

    def __init__(self, network: squares.Network, memory: MemoryModule | None, unfold: Unfold) -> None:
        self._network, self._memory, self._unfold = network, memory, unfold

    def __call__(self, x: Tensor) -> Reconstruction:
        """Rebuilds a batch (B, C, H, W)."""
        return self.rebuilt(Pixels.of(x))[1]

    def square_errors(self, x: Pixels) -> Tensor:
        """(B, h, w) mean squared errors of the squares of images, over the px that a square has."""
        return self._network.errors(x)[0]

    @torch.inference_mode()
    def rebuilt(self, x: Pixels) -> tuple[Tensor, Reconstruction]:
        """What `square_errors` finds, to the last digit, and the rebuilt images (B, C, H, W), in encoded units."""
        errors, made = self._network.errors(x, keep=True)
        whole = self._unfold(made)
        if self._memory is None:
            return errors, Reconstruction(whole, None)
        codes = self._network.encode(x)  # the library reads the memory, too, but does not say how
        return errors, Reconstruction(whole, self._memory(codes), tuple(codes.shape[2:]))


def image_form(model: Autoencoder) -> ImageForm | None:
    """The same function of images (B, C, H, W) as `model` in eval mode, to rounding; None where there is none.

    That is for a network that folds squares of another side, has layers that the compiled code has not or a memory that
    is not asked place by place, and where memae was installed without a compiler.
    """
    if not (native.available() and folds_images(model)):
        return None
    memory = model.memory
    if memory is not None and (memory.query != "position" or memory.similarity not in ("cosine", "dot")):
        return None
    fold, *down = _without_norms(model.encoder)
    *up, unfold = _without_norms(model.decoder)
    assert isinstance(fold, Fold) and isinstance(unfold, Unfold)
    encoder, decoder = _layers(down), _layers(up)
    if not (encoder and decoder) or {fold.side, unfold.side} != {squares.SIDE}:
        return None
    read = None
    if memory is not None:
        threshold = memory.shrinkage / memory.num_items
        read = squares.Memory(memory.items.detach(), memory.similarity == "cosine", threshold, memory.temperature)
    height, width = (-(-side // squares.SIDE) for side in (unfold.height, unfold.width))
    try:
        network = squares.Network(encoder, read, decoder, (height, width))
    except ValueError:
        return None
    return ImageForm(network, memory, unfold)


def _layers(stages: list[nn.Module]) -> list[squares.Layer] | None:
    """Convolutions with or without a ReLU behind; None where there is something else."""
    found: list[squares.Layer] = []
    for stage in stages:
        if isinstance(stage, nn.Conv2d | nn.ConvTranspose2d):
            found.append(squares.Layer(stage, relu=False))
        elif isinstance(stage, nn.ReLU) and found and not found[-1].relu:
            found[-1] = found[-1]._replace(relu=True)
        else:
            return None
    return found


def _without_norms(stages: nn.Module) -> list[nn.Module]:
    """Copies of the stages; a convolution does what the BatchNorm behind it does as well."""
    found: list[nn.Module] = []
    for stage in stages.children():
        layer = found[-1] if found else None
        if isinstance(stage, nn.BatchNorm2d) and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            found[-1] = fuse_conv_bn_eval(layer, stage, isinstance(layer, nn.ConvTranspose2d))
        else:
            found.append(copy.deepcopy(stage))
    return found
