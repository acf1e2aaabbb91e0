import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from memae import row_training
from memae.config import TrainConfig
from memae.memory import MemoryModule
from memae.models.autoencoder import Autoencoder
from memae.models.table import fully_connected
from memae.objective import ReconstructionObjective
from memae.row_training import BlockAdam, RowGradients
from memae.train import train

MEMORIES = {
    "none": None,
    "cosine": {"temperature": 0.1},
    "dot": {"similarity": "dot", "shrinkage": 2.0},
    "not sparse": {"shrinkage": 0.0},
    "rescued": {"shrinkage": 9.5},
}
EUCLIDEAN = {"similarity": "euclidean"}


def network(memory="none", widths=(12, 8, 3)):
    torch.manual_seed(0)
    settings = {**MEMORIES, "euclidean": EUCLIDEAN}[memory]
    items = None if settings is None else MemoryModule(10, widths[-1], query="whole", **settings)
    return Autoencoder(fully_connected(widths), items, fully_connected(widths[::-1]))


def by_hand(model, **objective):
    """Its gradients, which start at 0."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return RowGradients(model, ReconstructionObjective(**{"alpha": 2e-2, "reduction": "sum"} | objective))


def same_gradients(model, other):
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(("alpha", "noise"), [(2e-2, 0.0), (0.0, 0.0), (2e-2, 0.3)])
@pytest.mark.parametrize("widths", [(12, 8, 3), (5, 2), (7, 6, 5, 4, 3)])
def test_the_gradients_are_those_of_autograd(memory, reduction, alpha, noise, widths):
    model = network(memory, widths)
    other, terms = copy.deepcopy(model), {"alpha": alpha, "reduction": reduction, "noise": noise}
    gradients, objective = by_hand(model, **terms), ReconstructionObjective(**terms)
    for batch in (16, 17, 1):
        x = torch.randn(batch, widths[0])
        model.zero_grad(set_to_none=False)
        other.zero_grad()
        torch.manual_seed(1)
        loss, read = gradients(x)
        torch.manual_seed(1)
        expected = objective(other, x)
        expected.loss.backward()
        assert_close(loss, expected.loss.detach())
        assert not loss.requires_grad
        same_gradients(model, other)
        assert (read is None) == (expected.read is None)
        if read is not None:
            assert_close(read.weights, expected.read.weights.detach())
            assert torch.equal(read.rescued, expected.read.rescued)


@pytest.mark.parametrize("memory", MEMORIES)
def test_shares_of_a_batch_add_up_to_it(memory):
    model = network(memory)
    other, x = copy.deepcopy(model), torch.randn(30, 12)
    whole, _ = by_hand(model)(x)
    parts = by_hand(other)
    losses = [parts(part, len(part) / 30)[0] for part in x.split([5, 20, 5])]
    assert_close(sum(losses), whole)
    same_gradients(model, other)


def frozen():
    model = network()
    next(model.parameters()).requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("make", "suits"),
    [
        (network, True),
        (lambda: network("dot"), True),
        (lambda: network("euclidean"), False),
        (lambda: Autoencoder(nn.Linear(4, 2), None, nn.Linear(2, 4)), False),
        (lambda: Autoencoder(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), None, fully_connected((2, 4))), False),
        (lambda: network().double(), False),
        (frozen, False),
        (lambda: fully_connected((4, 4)), False),
    ],
)  # fmt: skip
def test_other_networks_are_left_to_autograd(make, suits):
    assert RowGradients.suit(make()) is suits


def test_a_network_of_its_own_making_is_left_to_autograd():
    class Mine(Autoencoder):
        def forward(self, x):
            return super().forward(2 * x)

    model = network()
    assert not RowGradients.suit(Mine(model.encoder, None, model.decoder))


def test_a_step_of_the_block_is_one_of_adam():
    model = network("cosine")
    other = copy.deepcopy(model)
    block, adam = BlockAdam(model.parameters(), 0.02), torch.optim.Adam(other.parameters(), 0.02)
    for step in range(20):
        x = torch.randn(8, 12)
        for net, optimiser in ((model, block), (other, adam)):
            net(x).x.sub(x).square().sum().backward()  # autograd adds to the block, too
            optimiser.param_groups[0]["lr"] = 0.02 / (1 + step)
            optimiser.step()
            optimiser.zero_grad()
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert_close(mine, its, rtol=1e-4, atol=1e-5)
    for mine, its in zip(block.state.values(), adam.state.values(), strict=True):
        assert_close(mine["exp_avg"], its["exp_avg"], rtol=1e-3, atol=1e-4)
        assert mine["step"] == its["step"] == 20


def test_the_state_of_one_adam_goes_on_in_the_other():
    model = network()
    other = copy.deepcopy(model)
    adam = torch.optim.Adam(other.parameters(), 0.02)
    x = torch.randn(8, 12)
    for _ in range(5):
        adam.zero_grad()
        other(x).x.sub(x).square().sum().backward()
        adam.step()
    adam.zero_grad()
    model.load_state_dict(other.state_dict())
    block = BlockAdam(model.parameters(), 0.02)
    block.load_state_dict(adam.state_dict())
    back = torch.optim.Adam(network().parameters(), 0.02)
    back.load_state_dict({**back.state_dict(), **copy.deepcopy(block.state_dict())})
    for net, optimiser in ((model, block), (other, adam)):
        net(x).x.sub(x).square().sum().backward()
        optimiser.step()
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert_close(mine, its)
    assert back.state_dict()["state"][0]["step"] == 5


def test_after_the_release_parameters_have_memory_of_their_own():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    block = BlockAdam(model.parameters(), 0.02)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    block.release()
    places = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert len(places) == len(list(model.parameters()))
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("memory", ["none", "cosine"])
def test_a_training_by_hand_is_the_training_of_autograd(monkeypatch, memory):
    model, x = network(memory), torch.randn(100, 12)
    other = copy.deepcopy(model)
    settings = TrainConfig(epochs=3, batch_size=16, patience=0)
    objective = ReconstructionObjective(alpha=2e-4, reduction="sum")
    found = train(model, x, x[:20], objective=objective, settings=settings, seed=0, device="cpu", revive_epochs=2)
    monkeypatch.setattr(row_training.RowGradients, "suit", staticmethod(lambda _: False))
    monkeypatch.setattr("memae.train.BLOCK_NUMBERS", 0)
    expected = train(
        other, x, x[:20], objective=objective, settings=settings, seed=0, device="cpu", revive_epochs=2
    )
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert mine.grad is None
        assert_close(mine, its, rtol=1e-3, atol=1e-5)
    for mine, its in zip(found.records, expected.records, strict=True):
        assert mine.loss == pytest.approx(its.loss, rel=1e-5)
        assert mine.held_out_loss == pytest.approx(its.held_out_loss, rel=1e-5)
        assert mine.memory == its.memory
