"""MNAD's memory against its formulas: the rule, the two penalties, both variants and our decay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from memae import Detector
from memae.errors import ConfigError
from memae.memory.mnad import MNAD
from memae.modality import preset_config

ITEMS = torch.eye(2)
QUERIES = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]])


def memory(**numbers: Any) -> MNAD:
    made = MNAD(2, 2, **numbers)
    made.initialise(ITEMS)
    return made


def random_memory(num_items: int, item_dim: int, **numbers: Any) -> MNAD:
    torch.manual_seed(1)
    made = MNAD(num_items, item_dim, **numbers)
    made.initialise(torch.randn(num_items, item_dim))
    return made


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_rule_of_the_worked_example(variant: Any) -> None:
    made = memory(variant=variant)
    assert made.observe(made.read(QUERIES)) == 2
    assert_close(made.items, torch.tensor([[1.0, 0.0], [0.18194, 0.98331]]), atol=5e-6, rtol=0)


def test_the_rule_item_by_item() -> None:
    made = random_memory(4, 3)
    queries = torch.randn(5, 7, 3)
    q = torch.nn.functional.normalize(queries, dim=2).flatten(0, 1)
    wanted = made.items.clone()
    nearest = (q @ made.items.T).argmax(dim=1)
    for place, item in enumerate(made.items):
        own = q[nearest == place]
        if len(own):
            products = own @ item
            moved = item + ((products - products.max()).exp()[:, None] * own).sum(dim=0)
            wanted[place] = moved / moved.norm()
    made.observe(made.read(queries))
    assert_close(made.items, wanted)


def at(*degrees: float) -> Tensor:
    """Unit vectors in the plane."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_the_maximum_is_over_the_own_queries_in_the_paper_and_over_all_in_the_release() -> None:
    item, own = at(0, -30)
    greatest_products: dict[Any, Tensor] = {"paper": item @ own, "released": item @ at(12)[0]}
    for variant, greatest in greatest_products.items():
        made = MNAD(2, 2, variant=variant)
        made.initialise(at(0, 20))
        made.observe(made.read(at(-30, 12)[None]))  # the second query is nearer to the second item
        moved = item + (item @ own - greatest).exp() * own
        assert_close(made.items[0], moved / moved.norm())


def test_an_item_without_queries_stays_and_is_not_counted() -> None:
    made = memory()
    assert made.observe(made.read(QUERIES[:, :1])) == 1
    assert torch.equal(made.items[1], ITEMS[1])


def test_only_trusted_groups_and_queries_are_learnt_from() -> None:
    queries = QUERIES.transpose(0, 1)  # three samples of one query
    made, alone = memory(), memory()
    made.observe(made.read(queries), torch.tensor([True, False, True]))
    alone.observe(alone.read(queries[[0, 2]]))
    assert torch.equal(made.items, alone.items)
    single = memory()
    single.observe(single.read(QUERIES), torch.tensor([[True, False, True]]))
    assert_close(single.items, alone.items)


def test_the_value_is_the_query_beside_the_dense_mixture() -> None:
    made = random_memory(3, 4, temperature=0.7)
    queries = torch.randn(2, 5, 4)
    q = queries / queries.norm(dim=2, keepdim=True)
    weights = torch.softmax(q @ made.items.T / 0.7, dim=2)
    assert_close(made.read(queries).values, torch.cat([q, weights @ made.items], dim=2))


def test_the_read_of_the_paper_is_nearly_uniform() -> None:
    made = MNAD(10, 64)
    made.initialise(torch.eye(10, 64))
    read = made.read(torch.eye(10, 64)[None])
    assert_close(read.weights.amax(), torch.e / (torch.e + torch.tensor(9.0)))  # .232, where uniform is .1


def penalties(made: MNAD, queries: Tensor) -> dict[str, float]:
    return {term.name: float(term.value) for term in made.loss_terms(made.read(queries))}


def test_the_penalties_of_the_paper_are_sums_of_norms() -> None:
    near = 0.4**0.5  # from (.6, .8) to (0, 1); to (1, 0) it is .8 ** .5
    apart = [1 - 2**0.5, near - 0.8**0.5 + 1, 1 - 2**0.5]
    found = penalties(memory(), QUERIES)
    assert found == pytest.approx({"compactness": near, "separateness": sum(max(0, x) for x in apart)}, abs=1e-5)
    assert penalties(memory(), QUERIES.repeat(4, 1, 1)) == pytest.approx(found, abs=1e-5)


def test_the_penalties_of_the_release_are_means() -> None:
    found = penalties(memory(variant="released"), QUERIES)
    separateness = (0.4**0.5 - 0.8**0.5 + 1) / 3
    assert found == pytest.approx({"compactness": 0.4 / (3 * 2), "separateness": separateness}, abs=1e-5)


def gradient_of_mixture(variant: Any) -> Tensor:
    made, queries = random_memory(3, 4, variant=variant), torch.randn(2, 5, 4).requires_grad_()
    mixture = made.read(queries).values[:, :, 4:]
    if not mixture.requires_grad:
        return torch.zeros(())
    return torch.autograd.grad(mixture.square().sum(), queries)[0]


def test_the_gradient_passes_through_the_weights_of_the_paper_only() -> None:
    assert gradient_of_mixture("paper").abs().max() > 1e-3
    assert gradient_of_mixture("released").abs().max() == 0


def test_no_gradient_ever_reaches_the_items() -> None:
    made = random_memory(3, 4)
    assert list(made.parameters()) == []
    assert not made.read(torch.randn(1, 5, 4)).items.requires_grad


def test_the_rule_forgets_the_old_item_at_once() -> None:
    made, queries = random_memory(10, 32), torch.randn(16, 256, 32)
    made.observe(made.read(queries))
    assert made.kept_share is not None
    assert made.kept_share < 0.03


@pytest.mark.parametrize("decay", [0.9, 0.5])
def test_decay_keeps_its_share(decay: float) -> None:
    made = random_memory(3, 8, decay=decay)
    queries = torch.nn.functional.normalize(made.items + 0.05 * torch.randn(64, 3, 8), dim=2)  # each near its item
    for _ in range(5):
        made.observe(made.read(queries))
        assert made.kept_share == pytest.approx(decay, abs=0.02)


def test_decay_is_an_exponential_average_with_the_mass_of_each_item() -> None:
    made, rule = memory(decay=0.75), memory()
    for _ in range(2):
        made.observe(made.read(QUERIES))
    first = torch.tensor([0.6, 0.8]) * torch.tensor(-0.2).exp() + torch.tensor([0.0, 1.0])
    mass = 1 + torch.tensor(-0.2).exp()
    item = 0.75 * mass * torch.tensor([0.0, 1.0]) + 0.25 * first
    item = item / item.norm()
    products = torch.stack([torch.tensor([0.6, 0.8]), torch.tensor([0.0, 1.0])]) @ item
    weights = (products - products.max()).exp()
    second = weights @ torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    item = 0.75 * mass * item + 0.25 * second
    assert_close(made.items[1], item / item.norm())
    assert_close(made.counts[1], 0.75 * mass + 0.25 * weights.sum())
    assert torch.equal(rule.counts, torch.zeros(2))


def test_with_a_decay_of_one_nothing_moves() -> None:
    made = memory(decay=1.0)
    made.observe(made.read(QUERIES))
    assert_close(made.items, ITEMS)


def test_a_replaced_item_has_no_mass() -> None:
    made = memory(decay=0.5)
    made.observe(made.read(QUERIES))
    made.replace(torch.tensor([0]), torch.tensor([[0.0, -3.0]]))
    assert made.counts[0] == 0 < made.counts[1]
    assert torch.equal(made.items[0], torch.tensor([0.0, -1.0]))


@pytest.mark.parametrize("numbers", [{"num_items": 1}, {"temperature": 0.0}])
def test_numbers_out_of_range_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="num_items is at least 2, temperature above 0; got"):
        MNAD(**{"num_items": 3, "item_dim": 2} | numbers)


def test_the_presets_say_how_errors_are_reduced() -> None:
    settings = {f"{network}-mnad-{name}": name for network in ("table", "mnist") for name in ("paper", "released")}
    for preset, variant in settings.items():
        config: Any = preset_config(preset, "table" if preset.startswith("table") else "image")
        assert config.memory.kind == "mnad"
        assert config.memory.variant == variant
        assert config.memory.decay is None
        assert config.train.reduction == {"paper": "sum", "released": "mean"}[variant]
    with pytest.raises(ConfigError, match=r"memory\.decay = 1\.5"):
        Detector("mnad-paper", settings={"memory": {"decay": 1.5}})
