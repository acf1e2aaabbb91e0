"""PixelCNN: the likelihood of an image, pixel by pixel.

Published: van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016, the plain
PixelCNN of its table 1: a 7 x 7 convolution with mask A, residual blocks of 1 x 1, 3 x 3 with mask B and 1 x 1 (2 h to
h to 2 h features, ReLU before each), two 1 x 1 layers with ReLU, and a 256-way softmax for each value; red, green and
blue of a pixel in that order. Mini-batches of 16. The score is the negative log-likelihood.

Ours: the size, cut to what one CPU core trains within minutes a class: 2 h = 64 features and 5 blocks where the
publication has 256 and 15 for CIFAR-10; Adam, its rate falling to zero over the second half, in place of RMSProp;
10 epochs, in bfloat16 but for the loss. On an idle core an epoch of a class of MNIST (two thirds of 6,000 images) or of
CIFAR-10 takes less than 20 s.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.methods.method import Fitted, Method
from experiments.methods.neural import Problem, facts_of, paper, with_weights_of
from memae.training import BatchLoss, train

__all__ = ["MaskedConv", "PixelCNN", "pixelcnn"]

LEVELS = 256
FEATURES = 64
BLOCKS = 5
AT_ONCE = 16  # images


class MaskedConv(nn.Conv2d):
    """A k x k convolution, k odd, that sees only what comes before: rows above, pixels to the left, colours before.

    The channels of its input and output are shared out among the colours in order. Of the pixel itself, an output of a
    colour sees the features of earlier colours, and with `itself` (mask B) also those of its own.
    """

    mask: Tensor

    def __init__(self, into: int, out: int, kernel: int, colours: int, *, itself: bool) -> None:
        super().__init__(into, out, kernel, padding=kernel // 2)
        middle = kernel // 2
        mask = torch.zeros(out, into, kernel, kernel)
        mask[:, :, :middle] = 1
        mask[:, :, middle, :middle] = 1
        of_output, of_input = (torch.arange(n) * colours // n for n in (out, into))
        before = of_output[:, None] > of_input
        mask[:, :, middle, middle] = (before | (of_output[:, None] == of_input) if itself else before).float()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, into, H, W) to (B, out, H, W)."""
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class PixelCNN(nn.Module):
    """From images to the distribution of each value given those before it.

    Args:
        colours: C of the images.
        features: 2 h of the publication; at least two for each colour.
        blocks: residual blocks.
    """

    def __init__(self, colours: int, features: int, blocks: int) -> None:
        super().__init__()
        self.first = MaskedConv(colours, features, 7, colours, itself=False)

        def later(into: int, out: int, kernel: int = 1) -> nn.Sequential:
            return nn.Sequential(nn.ReLU(), MaskedConv(into, out, kernel, colours, itself=True))

        half = features // 2
        self.blocks = nn.ModuleList(
            nn.Sequential(later(features, half), later(half, half, 3), later(half, features))
            for _ in range(blocks)
        )
        self.last = nn.Sequential(later(features, features), later(features, LEVELS * colours))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (B, C, H, W) in [0, 1] to logits (B, 256, C, H, W)."""
        seen = self.first((2 * x - 1).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            seen = seen + block(seen)
        logits: Tensor = self.last(seen)
        return logits.reshape(len(x), x.shape[1], LEVELS, *x.shape[2:]).transpose(1, 2)


def negative_log_likelihood(model: nn.Module, x: Tensor) -> Tensor:
    """(B,) nats for each value of an image, pixels (B, C, H, W) in [0, 1], on average."""
    level = (x * (LEVELS - 1)).round().long()
    # (B, H, W, C, 256) is how the logits lie in memory
    logits = model(x).permute(0, 3, 4, 2, 1).reshape(-1, LEVELS).float()
    each = F.cross_entropy(logits, level.permute(0, 2, 3, 1).flatten(), reduction="none")
    return each.view(len(x), -1).mean(dim=1)


def pixelcnn(*, epochs: int = 10, features: int = FEATURES, blocks: int = BLOCKS) -> Method:
    """The method, for images only; `features` is 2 h."""

    def run(fit: np.ndarray, seed: int) -> Fitted:
        if fit.dtype != np.uint8:
            raise ValueError(f"PixelCNN is for images of uint8 pixels, and these are {fit.dtype}")
        problem = Problem.of(
            fit,
            seed,
            paper,
            epochs=epochs,
            batch_size=AT_ONCE,
            learning_rate=1e-3,
            decay_share=0.5,
            precision="bf16",
        )
        prepared = problem.prepared
        model = with_weights_of(seed, lambda: PixelCNN(fit.shape[1], features, blocks))
        history = train(
            model,
            prepared.training,
            prepared.validation,
            objective=lambda model, x: BatchLoss(negative_log_likelihood(model, x).mean(), None),
            settings=problem.config.train,
            seed=seed,
            small_step=problem.small_step,
        )

        def improbability(batch: Tensor) -> Tensor:  # 256 logits a value: gigabytes for some thousand images
            return torch.cat([negative_log_likelihood(model, some) for some in torch.split(batch, AT_ONCE)])

        return Fitted(
            lambda x: problem.scores(model, improbability, x),
            settings={**problem.config.model_dump(), "features": features, "blocks": blocks},
            facts=facts_of(history, model),
        )

    return run
