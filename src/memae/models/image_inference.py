"""A trained network of large images in the form that scores fastest on a CPU.

BatchNorm is folded into the convolutions, and these run in bfloat16 where the CPU has it in hardware; the memory is
read in float32. Folding squares of pixels into channels took a fourth of the time: now the pixels of a line of a square
move as one number.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from memae.allocator import keep_large_blocks
from memae.models.autoencoder import Autoencoder, Reconstruction
from memae.models.image import Fold, Unfold

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


class ImageForm(nn.Module):
    """The same function of images (B, C, H, W) as the network that it was made from; see `image_form`."""

    def __init__(self, fold: _FoldLines, squares: Autoencoder, unfold: _UnfoldLines) -> None:
        super().__init__()
        self.fold, self.squares, self.unfold = fold, squares, unfold

    def forward(self, x: Tensor) -> Reconstruction:
        """Rebuilds a batch."""
        return self.unfolded(self.squares(self.fold(x)))

    def fold_bytes(self, x: Tensor) -> Tensor:
        """(B, h, w, C side^2) uint8 of images (B, C, H, W) uint8 whose sides divide."""
        return self.fold.moved(x)

    def unfolded(self, rebuilt: Reconstruction) -> Reconstruction:
        """Images out of squares."""
        return rebuilt._replace(x=self.unfold(rebuilt.x))

    @property
    def side(self) -> int:
        """Of a square, px."""
        return self.fold.fold.side

    @property
    def dtype(self) -> torch.dtype:
        """Of the squares."""
        return self.fold.dtype

    def square_errors(self, squares: Tensor) -> tuple[Tensor, Reconstruction]:
        """(B, h, w) float32 mean squared errors of folded images (B, C side^2, h, w), and what is rebuilt of these."""
        rebuilt = self.squares(squares)
        residual = (squares - rebuilt.x).movedim(1, -1)
        within = self._within(residual.shape[-1])
        if within is not None:
            residual *= within
        # a norm of bfloat16 adds in float32; that it is rounded, by a fifth of a per cent at most, costs nothing here
        errors = torch.linalg.vector_norm(residual, dim=-1).float().square_()
        return errors / (residual.shape[-1] if within is None else within.sum(dim=-1)), rebuilt

    def _within(self, numbers: int) -> Tensor | None:
        """(h, w, numbers): 1 where an image has px, 0 where its last squares go on; None where they do not."""
        height, width = self.unfold.unfold.height, self.unfold.unfold.width
        beyond = (0, -width % self.side, 0, -height % self.side)
        if not any(beyond):
            return None
        within: Tensor = self.fold(F.pad(torch.ones(1, numbers // self.side**2, height, width), beyond))
        return within[0].movedim(0, -1)


def image_form(model: Autoencoder, dtype: torch.dtype) -> ImageForm:
    """The same function of images (B, C, H, W) as `model` in eval mode, to rounding, with convolutions in `dtype`.

    Args:
        model: one that `folds_images`.
        dtype: float32 or bfloat16.

    Raises:
        ValueError: another dtype.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"a network of images scores in float32 or bfloat16; got {dtype}")
    keep_large_blocks()
    fold, *encoder = _without_norms(model.encoder)
    *decoder, unfold = (
        _Doubled(stage) if isinstance(stage, nn.ConvTranspose2d) and stage.stride == (2, 2) else stage
        for stage in _without_norms(model.decoder)
    )
    assert isinstance(fold, Fold) and isinstance(unfold, Unfold)
    down, up = (
        nn.Sequential(*stages).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for stages in (encoder, decoder)
    )
    squares = Autoencoder(nn.Sequential(down, _To(torch.float32)), model.memory, nn.Sequential(_To(dtype), up))
    return ImageForm(_FoldLines(fold, dtype), squares, _UnfoldLines(unfold)).eval()


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


class _To(nn.Module):
    """The same numbers in another dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


WIDE = {4: torch.int32, 8: torch.complex64, 16: torch.complex128}  # a number of so many bytes


class _FoldLines(nn.Module):
    """`Fold` to another dtype; each line of a square is moved as one number, where there is one of as many bytes."""

    def __init__(self, fold: Fold, dtype: torch.dtype) -> None:
        super().__init__()
        self.fold, self.dtype = fold, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.moved(self.fold.continued(x), self.dtype).movedim(-1, 1)

    def moved(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(B, h, w, C side^2) of images (B, C, H, W) whose sides divide."""
        dtype = dtype or x.dtype
        wide, side = WIDE.get(self.fold.side * dtype.itemsize), self.fold.side
        if wide is None:
            squares: Tensor = self.fold(x.to(dtype))
            return squares.movedim(1, -1)
        batch, channels, height, width = x.shape
        # two steps take half of the time of one: lines that make a row of squares beside each other, then the squares
        rows = x.view(batch, channels, height // side, side, width).transpose(1, 2)
        rows = rows.to(dtype, memory_format=torch.contiguous_format, copy=True).view(wide)
        return rows.flatten(2, 3).mT.contiguous().view(dtype)


class _Doubled(nn.Module):
    """A transposed convolution of stride 2 that makes two lines of each and then leaves out what is too much.

    The library takes three times as long for a bfloat16 result of 2 n - 1 lines as for one of 2 n.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.layer = layer
        self.missing = [1 - extra for extra in layer.output_padding]
        layer.output_padding = (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        rows, columns = (size - missing for size, missing in zip(y.shape[2:], self.missing, strict=True))
        return y[:, :, :rows, :columns]


class _UnfoldLines(nn.Module):
    """`Unfold` to float32, as `_FoldLines` folds."""

    def __init__(self, unfold: Unfold) -> None:
        super().__init__()
        self.unfold = unfold

    def forward(self, x: Tensor) -> Tensor:
        wide, side = WIDE.get(self.unfold.side * x.element_size()), self.unfold.side
        if wide is None:
            whole: Tensor = self.unfold(x).float()
            return whole
        batch, channels, height, width = x.shape
        rows = x.movedim(1, -1).contiguous().view(wide).mT.contiguous().view(x.dtype)
        rows = rows.view(batch, height, channels // side**2, side, width * side).transpose(1, 2)
        planes = rows.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return planes.view(batch, -1, height * side, width * side)[..., : self.unfold.height, : self.unfold.width]
