import copy

import pytest
import torch
from torch.testing import assert_close

from memae.autoencoder import Autoencoder
from memae.memory.memae import MemAE
from memae.table.networks import fully_connected
from memae.training.compiled_gradients import available
from memae.training.flat_adam import FlatAdam

needs_library = pytest.mark.skipif(not available(), reason="memae was installed without a compiler")


@pytest.fixture(params=[pytest.param("compiled", marks=needs_library), "torch"], autouse=True)
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which code takes the steps."""
    if request.param == "torch":
        monkeypatch.setenv("MEMAE_COMPILED", "0")


def network(memory: bool = False, widths: tuple[int, int, int] = (12, 8, 3)) -> Autoencoder:
    torch.manual_seed(0)
    items = MemAE(10, widths[-1], temperature=0.1) if memory else None
    return Autoencoder(fully_connected(widths), items, fully_connected(widths[::-1]))


def test_a_step_of_the_block_is_one_of_adam() -> None:
    model = network(memory=True)
    other = copy.deepcopy(model)
    block, adam = FlatAdam(model.parameters(), 0.02), torch.optim.Adam(other.parameters(), 0.02)
    for step in range(20):
        x = torch.randn(8, 12)
        for net, optimiser in ((model, block), (other, adam)):
            net(x).x.sub(x).square().sum().backward()  # autograd adds to the block, too
            optimiser.param_groups[0]["lr"] = 0.02 / (1 + step)
            optimiser.step()
            optimiser.zero_grad()
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert_close(mine, its, rtol=1e-4, atol=1e-5)
    for one, other_one in zip(block.state.values(), adam.state.values(), strict=True):
        assert_close(one["exp_avg"], other_one["exp_avg"], rtol=1e-3, atol=1e-4)
        assert one["step"] == other_one["step"] == 20


def test_the_state_of_one_adam_goes_on_in_the_other() -> None:
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
    block = FlatAdam(model.parameters(), 0.02)
    block.load_state_dict(adam.state_dict())
    back = torch.optim.Adam(network().parameters(), 0.02)
    back.load_state_dict({**back.state_dict(), **copy.deepcopy(block.state_dict())})
    for net, optimiser in ((model, block), (other, adam)):
        net(x).x.sub(x).square().sum().backward()
        optimiser.step()
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert_close(mine, its)
    assert back.state_dict()["state"][0]["step"] == 5


def test_after_the_release_parameters_have_memory_of_their_own() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    block = FlatAdam(model.parameters(), 0.02)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    block.release()
    places = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert len(places) == len(list(model.parameters()))
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
