import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from memae.autoencoder import Autoencoder, Reconstruction
from memae.config import Query, TrainConfig
from memae.image.networks import ConvLayer, conv_decoder, conv_encoder
from memae.memory.memae import MemAE
from memae.memory.usage import use_counts
from memae.modality import build, preset_config
from memae.progress import Advance
from memae.table.networks import fully_connected
from memae.training import BatchLoss
from memae.training import compiled_gradients as compiled
from memae.training.compiled_gradients import available, compiled_gradients
from memae.training.loop import train
from memae.training.objective import ReconstructionObjective

pytestmark = pytest.mark.skipif(not available(), reason="memae was installed without a compiler")

MEMORIES = {
    "none": None,
    "cosine": {"temperature": 0.1},
    "dot": {"similarity": "dot", "shrinkage": 2.0},
    "not sparse": {"shrinkage": 0.0},
    "fallback": {"shrinkage": 9.5},
}
EUCLIDEAN = {"similarity": "euclidean"}
IMAGES = {  # the shape, and the presets that are asked about it
    "mnist": (1, 28, 28), "mnist-paper": (1, 28, 28), "cifar10-paper": (3, 32, 32), "image": (3, 21, 13),
}  # fmt: skip

ROW, PICTURE = (12,), (2, 9, 7)
OBJECTIVE = ReconstructionObjective(reduction="sum")


def network(memory: str = "none", widths: tuple[int, ...] = (12, 8, 3), alpha: float = 2e-2) -> Autoencoder:
    torch.manual_seed(0)
    settings = {**MEMORIES, "euclidean": EUCLIDEAN}[memory]
    items = None if settings is None else MemAE(10, widths[-1], entropy_weight=alpha, **settings)
    return Autoencoder(fully_connected(widths), items, fully_connected(widths[::-1]))


def images(preset: str, memory: str | None) -> Autoencoder:
    torch.manual_seed(0)
    config = preset_config(preset, "image")
    section = config.memory.model_copy(
        update={"enabled": memory is not None, "query": memory, "entropy_weight": 2e-2}
    )
    return build(config.model_copy(update={"memory": section}), IMAGES[preset])


def conv_network(shape: tuple[int, int, int] = PICTURE) -> Autoencoder:
    layers = ConvLayer(3, 1, 5), ConvLayer(1, 2, 20), ConvLayer(3, 2, 7)
    torch.manual_seed(0)
    channels, height, width = shape
    return Autoencoder(
        conv_encoder(channels, layers),
        MemAE(6, 7, entropy_weight=2e-2),
        conv_decoder(channels, layers, height, width),
    )


def by_compiled_code(
    model: Autoencoder, shape: tuple[int, ...], threads: int = 1, **objective: Any
) -> compiled.CompiledGradients:
    """Its gradients, which start at 0."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
    terms = ReconstructionObjective(**{"reduction": "sum"} | objective)
    found = compiled_gradients(model, terms, shape, threads)
    assert found is not None
    return found


def by_autograd(model: Autoencoder, x: torch.Tensor, **objective: Any) -> tuple[BatchLoss, Autoencoder]:
    """Loss, read and a network that has the gradients, in float64."""
    exact = copy.deepcopy(model).double()
    for parameter in exact.parameters():
        parameter.grad = None
    terms = ReconstructionObjective(**{"reduction": "sum"} | objective)(exact, x.double())
    terms.loss.backward()
    return terms, exact


def same_gradients(model: Autoencoder, exact: Autoencoder, off: float = 1e-4) -> None:
    for name, parameter in model.named_parameters():
        expected = exact.get_parameter(name).grad
        # BatchNorm and a sharp read double what rounding leaves; the largest gradient says what is small
        assert (parameter.grad - expected).abs().max() <= off * expected.abs().max() + 1e-7, name


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("alpha", [2e-2, 0.0])
@pytest.mark.parametrize("widths", [(12, 8, 3), (5, 2), (40, 33, 5, 4, 3)])
def test_the_gradients_of_rows_are_those_of_autograd(
    memory: str, reduction: str, alpha: float, widths: tuple[int, ...]
) -> None:
    model = network(memory, widths, alpha)
    terms: dict[str, Any] = {"reduction": reduction}
    gradients = by_compiled_code(model, widths[:1], **terms)
    for batch in (16, 33, 1, 100):
        x = torch.randn(batch, widths[0])
        model.zero_grad(set_to_none=False)
        loss, counts = gradients(x)
        expected, exact = by_autograd(model, x, **terms)
        assert loss == pytest.approx(expected.loss.item(), rel=1e-5)
        same_gradients(model, exact)
        assert (counts is None) == (expected.read is None)
        if counts is not None:
            assert expected.read is not None
            assert torch.equal(counts, use_counts(expected.read))


@pytest.mark.parametrize("query", [None, "whole", "position"])
@pytest.mark.parametrize("preset", IMAGES)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_gradients_of_images_are_those_of_autograd(preset: str, query: Query | None, threads: int) -> None:
    model = images(preset, query).train()
    gradients = by_compiled_code(model, IMAGES[preset], threads)
    for batch in (40, 64):
        x = torch.randn(batch, *IMAGES[preset])
        model.zero_grad(set_to_none=False)
        expected, exact = by_autograd(model, x)
        loss, counts = gradients(x)
        assert loss == pytest.approx(expected.loss.item(), rel=1e-4)
        # ReLU and shrinkage have kinks, where a sum that is rounded otherwise takes another side
        same_gradients(model, exact, off=0.1)
        if counts is not None:
            assert expected.read is not None
            assert counts[-2] == use_counts(expected.read)[-2]
        for name, buffer in model.named_buffers():
            assert_close(buffer.double(), exact.get_buffer(name).double(), rtol=1e-3, atol=1e-5)


def smooth_network(query: Query | None) -> Autoencoder:
    """One without ReLU and shrinkage, which have kinks: BatchNorm and reads of both kinds as exact as anything."""
    torch.manual_seed(0)
    places = {"whole": 4 * 3, "position": 1, None: 0}[query]
    memory = None
    if query:
        memory = MemAE(6, 5 * places, shrinkage=0.0, temperature=0.5, entropy_weight=2e-2)
    encoder = nn.Sequential(
        nn.Conv2d(2, 9, 3, 1, 1, bias=False), nn.BatchNorm2d(9), nn.Tanh(), nn.Conv2d(9, 5, 3, 2, 1), nn.Tanh()
    )
    decoder = nn.Sequential(
        nn.ConvTranspose2d(5, 6, 3, 2, 1, (0, 1), bias=False), nn.BatchNorm2d(6, eps=1e-3, momentum=0.3), nn.Tanh(),
        nn.ConvTranspose2d(6, 2, 3, 1, 1),
    )  # fmt: skip
    for norm in (encoder[1], decoder[1]):
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -1, 1)
    return Autoencoder(encoder, memory, decoder, query)


@pytest.mark.parametrize("query", [None, "whole", "position"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [3, 32, 200])
def test_where_there_are_no_kinks_gradients_are_exact(
    monkeypatch: pytest.MonkeyPatch, query: Query | None, threads: int, batch: int
) -> None:
    monkeypatch.setattr(compiled, "WORK_PER_THREAD", 1)
    model, shape = smooth_network(query).train(), (2, 7, 6)
    x = torch.randn(batch, *shape) + 2
    expected, exact = by_autograd(model, x)
    loss, counts = by_compiled_code(model, shape, threads)(x)
    assert loss == pytest.approx(expected.loss.item(), rel=1e-6)
    same_gradients(model, exact, off=2e-5)
    if query is not None:
        assert counts is not None and expected.read is not None
        assert torch.equal(counts, use_counts(expected.read))
    for name, buffer in model.named_buffers():
        assert_close(buffer.double(), exact.get_buffer(name).double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [2, 31, 70])
def test_convolutions_of_any_kernel_stride_and_width(batch: int) -> None:
    model = conv_network().train()
    x = torch.randn(batch, 2, 9, 7)
    expected, exact = by_autograd(model, x)
    loss, _ = by_compiled_code(model, PICTURE)(x)
    assert loss == pytest.approx(expected.loss.item(), rel=1e-5)
    same_gradients(model, exact, off=1e-2)


def test_threads_that_meet_in_every_layer_never_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "WORK_PER_THREAD", 1)
    # sums of BatchNorm just before the way back, which begins with other sums
    model = Autoencoder(
        nn.Sequential(nn.Conv2d(2, 9, 3, 1, 1, bias=False), nn.BatchNorm2d(9)),
        None,
        nn.Sequential(nn.ConvTranspose2d(9, 2, 3, 1, 1, bias=False), nn.BatchNorm2d(2)),
    ).train()
    x, parameters = torch.randn(130, 2, 5, 5), list(model.parameters())
    by_compiled_code(model, (2, 5, 5))(x)
    alone = [parameter.grad.clone() for parameter in parameters]
    together = by_compiled_code(model, (2, 5, 5), threads=3)
    for _ in range(400):
        model.zero_grad(set_to_none=False)
        together(x)
        for parameter, grad in zip(parameters, alone, strict=True):
            assert_close(parameter.grad, grad, rtol=1e-3, atol=1e-3 * float(grad.abs().max()))


def test_noise_is_on_the_input_and_not_on_the_target() -> None:
    model, x = network(widths=(6, 4)), torch.randn(20, 6)
    torch.manual_seed(1)
    loss, _ = by_compiled_code(model, (6,), noise=0.3)(x)
    torch.manual_seed(1)
    seen = x + 0.3 * torch.randn_like(x)
    assert loss == pytest.approx((model(seen).x - x).square().sum(dim=1).mean().item(), rel=1e-5)


@pytest.mark.parametrize("memory", MEMORIES)
def test_shares_of_a_batch_add_up_to_it(memory: str) -> None:
    model = network(memory)
    other, x = copy.deepcopy(model), torch.randn(30, 12)
    whole, _ = by_compiled_code(model, ROW)(x)
    parts = by_compiled_code(other, ROW)
    losses = [parts(part, len(part) / 30)[0] for part in x.split([5, 20, 5])]
    assert sum(losses) == pytest.approx(whole, rel=1e-5)
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["encoder.0.weight", "encoder.7.bias", "memory.items", "decoder.6.bias"])
def test_what_is_not_a_number_stays_none(name: str) -> None:
    model = conv_network().train()
    model.get_parameter(name).data.view(-1)[0] = torch.nan
    loss, _ = by_compiled_code(model, PICTURE)(torch.randn(4, *PICTURE))
    assert math.isnan(loss)


def test_a_query_that_is_too_short_to_have_a_direction() -> None:
    model = network("cosine", (6, 3))
    encoder = model.encoder[0]
    encoder.weight.data.zero_()
    encoder.bias.data.copy_(torch.tensor([1e-13, -2e-13, 3e-13]))
    x = torch.randn(20, 6)
    _, exact = by_autograd(model, x)
    by_compiled_code(model, (6,))(x)
    same_gradients(model, exact)


def frozen() -> Autoencoder:
    model = network()
    next(model.parameters()).requires_grad_(False)
    return model


def with_dilation() -> Autoencoder:
    model = conv_network()
    model.encoder[0].dilation = (2, 2)
    return model


class Doubling(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Skipping(nn.Sequential):
    def forward(self, x: Tensor) -> Any:
        return self[0](x)


def with_a_layer_of_its_own() -> Autoencoder:
    model = conv_network()
    model.encoder[0] = Doubling(2, 5, 3, 1, 1, bias=False)
    return model


def with_an_order_of_its_own() -> Autoencoder:
    return Autoencoder(Skipping(nn.Linear(12, 3), nn.Linear(3, 3)), None, fully_connected((3, 12)))


def with_a_weight_made_of_others() -> Autoencoder:
    model = network()
    nn.utils.parametrizations.weight_norm(model.encoder[0])
    return model


def watched() -> Autoencoder:
    model = network()
    model.encoder[0].register_forward_hook(lambda *_: None)
    return model


def without_its_private_hooks() -> Autoencoder:
    model = network()
    attributes: dict[str, Any] = model.encoder[0].__dict__
    attributes.pop("_forward_hooks")
    return model


def tied() -> Autoencoder:
    model = Autoencoder(nn.Linear(12, 12), None, nn.Linear(12, 12))
    model.decoder.weight = model.encoder.weight
    return model


@pytest.mark.parametrize(
    ("make", "shape", "suits"),
    [
        (network, ROW, True),
        (lambda: network("dot"), ROW, True),
        (lambda: Autoencoder(nn.Linear(12, 2), None, nn.Linear(2, 12)), ROW, True),
        (lambda: Autoencoder(nn.Sequential(nn.Linear(12, 2), nn.ReLU()), None, fully_connected((2, 12))), ROW, True),
        (lambda: Autoencoder(nn.Sequential(nn.Linear(12, 2), nn.GELU()), None, fully_connected((2, 12))), ROW, False),
        (lambda: network("euclidean"), ROW, False),
        (lambda: network().double(), ROW, False),
        (frozen, ROW, False),
        (lambda: fully_connected((12, 12)), ROW, False),
        (conv_network, PICTURE, True),
        (conv_network, (2, 4, 9, 7), False),
        (with_dilation, PICTURE, False),
        (with_a_layer_of_its_own, PICTURE, False),
        (with_an_order_of_its_own, ROW, False),
        (with_a_weight_made_of_others, ROW, False),
        (watched, ROW, False),
        (without_its_private_hooks, ROW, False),
        (tied, ROW, False),
        (lambda: conv_network((3, 400, 300)), (3, 400, 300), False),
        (lambda: build(preset_config("image", "image"), (3, 128, 128)), (3, 128, 128), False),
    ],
)  # fmt: skip
def test_other_networks_are_left_to_autograd(
    make: Callable[..., Any], shape: tuple[int, ...], suits: bool
) -> None:
    assert bool(compiled_gradients(make(), OBJECTIVE, shape, 1)) is suits


def test_a_network_of_its_own_making_is_left_to_autograd() -> None:
    class Mine(Autoencoder):
        def forward(self, x: Tensor) -> Reconstruction:
            return super().forward(2 * x)

    model = network()
    assert not compiled_gradients(Mine(model.encoder, None, model.decoder), OBJECTIVE, ROW, 1)


def test_without_a_compiler_it_is_left_to_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "available", lambda: False)
    assert not compiled_gradients(network(), OBJECTIVE, ROW, 1)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(network, ROW), (lambda: network("cosine"), ROW), (conv_network, PICTURE)],
)
def test_a_training_by_compiled_code_is_the_training_of_autograd(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any], shape: tuple[int, ...]
) -> None:
    model, x = make(), torch.randn(100, *shape)
    other = copy.deepcopy(model)
    settings = TrainConfig(epochs=3, batch_size=16, patience=0)
    objective = ReconstructionObjective(reduction="sum")
    found = train(model, x, x[:20], objective=objective, settings=settings, seed=0, device="cpu", revive_epochs=2)
    monkeypatch.setattr("memae.training.loop.compiled_gradients", lambda *_: None)
    monkeypatch.setattr("memae.training.loop.FLAT_PARAMETERS", 0)
    expected = train(
        other, x, x[:20], objective=objective, settings=settings, seed=0, device="cpu", revive_epochs=2
    )
    for mine, its in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert_close(mine, its, rtol=1e-2, atol=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())
    for mine, its in zip(found.records, expected.records, strict=True):
        assert mine.loss == pytest.approx(its.loss, rel=1e-4)
        assert mine.held_out_loss == pytest.approx(its.held_out_loss, rel=1e-4)


def test_torch_keeps_one_thread_while_the_compiled_code_works_with_more() -> None:
    seen: list[int] = []

    def looking(event: object) -> None:
        if isinstance(event, Advance):
            seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        settings = TrainConfig(epochs=1, batch_size=32)
        train(
            network(), torch.randn(64, 12), None, objective=OBJECTIVE, settings=settings, seed=0, device="cpu",
            progress=looking,
        )  # fmt: skip
        assert seen == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
