"""Random networks, settings and batches: compiled gradients against autograd in float64.

MEMAE_FUZZ says how many networks; `make sanitize` asks for more than the normal suite.
"""

import itertools
import os
import random
from typing import Any

import pytest
import torch
from torch import nn

from memae.autoencoder import Autoencoder
from memae.config import Query
from memae.memory.memae import MemAE
from memae.memory.usage import use_counts
from memae.training import compiled_gradients as compiled
from memae.training.compiled_gradients import available, library
from tests.training.test_compiled_gradients import by_autograd, by_compiled_code

pytestmark = pytest.mark.skipif(not available(), reason="memae was installed without a compiler")

NETWORKS = int(os.environ.get("MEMAE_FUZZ", "60"))


def stage(rng: random.Random, layer: nn.Module, channels: int, images: bool, last: bool) -> list[nn.Module]:
    """A layer and what may stand behind it."""
    norm = images and layer.bias is None
    found: list[nn.Module] = [layer, *([nn.BatchNorm2d(channels, eps=rng.choice([1e-5, 1e-2]))] if norm else [])]
    activation = rng.choice([nn.ReLU, nn.Tanh, None])
    return found if last or activation is None else [*found, activation()]


def row_network(rng: random.Random) -> Any:
    """(encoder, decoder, shape of a sample, shape of an encoding)."""
    widths = [rng.choice([1, 2, 3, 7, 12, 16, 33, 64, 130]) for _ in range(rng.randint(2, 4))]
    halves = []
    for way in (widths, widths[::-1]):
        layers = [nn.Linear(a, b, bias=rng.random() < 0.8) for a, b in itertools.pairwise(way)]
        stages = (stage(rng, layer, layer.out_features, False, layer is layers[-1]) for layer in layers)
        halves.append(nn.Sequential(*itertools.chain.from_iterable(stages)))
    return *halves, (widths[0],), (widths[-1],)


def image_network(
    rng: random.Random,
) -> tuple[nn.Sequential, nn.Sequential, tuple[int, ...], tuple[int, ...]]:
    """The decoder mirrors the encoder, and its output padding makes up for what a stride leaves out."""
    shape = channels, *size = rng.choice([1, 2, 3]), rng.randint(4, 11), rng.randint(4, 11)
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = []
    for number in range(rng.randint(1, 3)):
        kernel, stride = rng.randint(1, 4), rng.randint(1, 3)
        padding = rng.randint(0, (kernel - 1) // 2)
        after = [(side + 2 * padding - kernel) // stride + 1 for side in size]
        if min(after) < 1:
            break
        extra = [side - ((to - 1) * stride - 2 * padding + kernel) for side, to in zip(size, after, strict=True)]
        out = rng.choice([1, 3, 8, 17, 30])
        bias = [rng.random() < 0.5 for _ in range(2)]
        down = nn.Conv2d(channels, out, kernel, stride, padding, bias=bias[0])
        up = nn.ConvTranspose2d(out, channels, kernel, stride, padding, (extra[0], extra[1]), bias=bias[1])
        encoder += stage(rng, down, out, True, False)
        decoder = stage(rng, up, channels, True, number == 0) + decoder
        channels, size = out, after
    return nn.Sequential(*encoder), nn.Sequential(*decoder), shape, (channels, *size)


def network(rng: random.Random) -> tuple[Autoencoder, tuple[int, ...]]:
    """A network with gradients of kinks, or without, and the shape of its samples."""
    encoder, decoder, shape, code = row_network(rng) if rng.random() < 0.4 else image_network(rng)
    query: Query = rng.choice(["whole", "position"])
    memory = None
    if rng.random() < 0.75:
        num_items, size = rng.randint(1, 70), torch.Size(code).numel() if query == "whole" else code[0]
        memory = MemAE(
            num_items,
            size,
            similarity=rng.choice(["cosine", "dot"]) if size > 1 else "dot",  # all cosines of numbers are 1 or -1
            temperature=rng.choice([0.1, 0.5, 1.0]),
            shrinkage=rng.choice([0.0, 0.0, 1.0, 0.9 * num_items]) % num_items,
            entropy_weight=rng.choice([0.0, 1e-3, 0.1]),
        )
    return Autoencoder(encoder, memory, decoder, query), shape


def has_kinks(model: Autoencoder) -> bool:
    """Where a sum that is rounded otherwise may take another side."""
    return any(isinstance(part, nn.ReLU) for part in model.modules()) or bool(
        isinstance(model.memory, MemAE) and model.memory.shrinkage
    )


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_random_networks_have_the_gradients_of_autograd(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    builds = [build for width in library.widths() if (build := library.load(width))]
    monkeypatch.setattr(library, "library", lambda: builds[seed % len(builds)])
    monkeypatch.setattr(compiled, "WORK_PER_THREAD", 1)  # threads however small the batch is
    model, shape = network(rng)
    x = torch.randn(rng.choice([2, 3, 8, 15, 16, 17, 31, 32, 33, 70]), *shape)
    reduction = rng.choice(["sum", "mean"])
    gradients = by_compiled_code(model.train(), shape, rng.randint(1, 3), reduction=reduction)
    expected, exact = by_autograd(model, x, reduction=reduction)
    loss, counts = gradients(x)
    assert loss == pytest.approx(expected.loss.item(), rel=1e-3)
    if counts is not None:
        assert expected.read is not None
        assert counts[-2] == use_counts(expected.read)[-2]
    found = [parameter.grad.flatten().double() for parameter in model.parameters()]
    wanted = [parameter.grad.flatten() for parameter in exact.parameters()]
    if has_kinks(model):
        assert (torch.cat(found) - torch.cat(wanted)).norm() <= 0.1 * torch.cat(wanted).norm()
        return
    largest = max(grad.norm() for grad in wanted)
    for (name, _), grad, expect in zip(model.named_parameters(), found, wanted, strict=True):
        assert (grad - expect).norm() <= 1e-3 * expect.norm() + 1e-4 * largest, name
