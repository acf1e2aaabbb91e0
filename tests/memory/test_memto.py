"""MEMTO's gate against its formulas: what it keeps and replaces, that it learns, and the read behind it."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from memae.memory.memto import MEMTO


def memory(num_items: int = 3, item_dim: int = 2, **numbers: float) -> MEMTO:
    torch.manual_seed(0)
    return MEMTO(num_items, item_dim, **numbers)


def with_gate(made: MEMTO, bias: float) -> MEMTO:
    """The same memory, its gate open by sigmoid(bias) for queries whose first channel is 1 in every item."""
    torch.nn.init.zeros_(made.of_queries.weight)
    torch.nn.init.zeros_(made.of_item.weight)
    made.of_item.weight.data[:, 0] = bias
    made.items[:, 0] = 1
    return made


def test_the_gate_of_the_worked_example() -> None:
    made = memory(1, temperature=1.0).train()
    made.initialise(torch.tensor([[1.0, 0.0]]))
    for part in (made.of_item, made.of_queries):
        torch.nn.init.zeros_(part.weight)
    read = made.read(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
    assert_close(read.items, torch.tensor([[0.8655, 0.1345]]), atol=5e-5, rtol=0)
    assert made.observe(read) == 1
    assert_close(made.items, torch.tensor([[0.8655, 0.1345]]), atol=5e-5, rtol=0)


def test_an_open_gate_replaces_and_a_closed_one_keeps() -> None:
    queries = torch.randn(4, 5, 2)
    for bias, wanted in ((-200.0, "kept"), (200.0, "replaced")):
        made = with_gate(memory(), bias).train()
        flat = queries.flatten(0, 1)
        attended = torch.softmax(flat @ made.items.T / 0.1, dim=0).T @ flat
        assert_close(made.read(queries).items, made.items if wanted == "kept" else attended)


def test_all_samples_of_a_step_are_one_set_of_queries() -> None:
    made, queries = memory().train(), torch.randn(4, 5, 2)
    assert_close(made.read(queries).items, made.read(queries.flatten(0, 1)[:, None]).items)


def test_the_gate_learns_from_the_reconstruction_and_from_the_entropy() -> None:
    made = memory().train()
    read = made.read(torch.randn(4, 5, 2))
    (term,) = made.loss_terms(read)
    for loss in (read.values.square().sum(), term.value):
        for gradient in torch.autograd.grad(loss, list(made.parameters()), retain_graph=True):
            assert gradient.abs().max() > 1e-6
    assert {name for name, _ in made.named_parameters()} == {"of_item.weight", "of_queries.weight"}


def test_the_read_is_of_the_gated_items_while_training_and_of_the_stored_ones_else() -> None:
    made, queries = memory(temperature=0.5), torch.randn(4, 5, 2)
    for training in (True, False):
        read = made.train(training).read(queries)
        assert (read.items is made.items) != training
        weights = torch.softmax(queries @ read.items.T / 0.5, dim=2)
        assert_close(read.weights, weights)
        assert_close(read.values, torch.cat([queries, weights @ read.items], dim=2))
        apart = (queries[:, :, None] - read.items).square().sum(dim=3)
        assert_close(read.distance, apart.amin(dim=2))
        assert torch.equal(read.nearest, apart.argmin(dim=2))


def test_a_read_for_a_score_changes_nothing() -> None:
    made = memory().eval()
    before = made.items.clone()
    assert made.observe(made.read(torch.randn(4, 5, 2))) == 0
    assert torch.equal(made.items, before)


def test_trusted_queries_alone_pass_the_gate() -> None:
    made, alone = memory().train(), memory().train()
    queries, trusted = torch.randn(4, 5, 2), torch.tensor([True, False, True, True])
    made.observe(made.read(queries), trusted)
    alone.observe(alone.read(queries[trusted]))
    assert_close(made.items, alone.items)
    mask = trusted[:, None].expand(4, 5)
    single = memory().train()
    single.observe(single.read(queries), mask)
    assert_close(single.items, alone.items)


def test_weights_that_vanish_give_a_finite_gradient() -> None:
    made, queries = memory(temperature=1e-3).train(), (100 * torch.randn(4, 5, 2)).requires_grad_()
    read = made.read(queries)
    assert (read.weights == 0).any()
    (made.loss_terms(read)[0].value + read.values.sum()).backward()
    assert queries.grad is not None
    assert torch.isfinite(queries.grad).all()


def test_a_temperature_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature must be above 0; got 0\.0"):
        MEMTO(3, 2, temperature=0.0)
