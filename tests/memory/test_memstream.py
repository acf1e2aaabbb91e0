"""MemStream's memory against its formulas: what it inserts, in which order, and its distances."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from memae.memory.memstream import MemStream

STREAM = torch.tensor([[0.5], [11.0], [3.0], [1.4]])


def example(**numbers: Any) -> MemStream:
    made = MemStream(2, 1, **{"beta": 1.0} | numbers)
    made.initialise(torch.tensor([[0.0], [10.0]]))
    return made


def test_the_stream_of_the_worked_example() -> None:
    made = example()
    assert_close(made.follow(STREAM[:, None]), torch.tensor([0.5, 1.0, 2.5, 0.9]))
    assert made.inserted == 3
    assert_close(made.items, torch.tensor([[1.4], [11.0]]))


def test_two_neighbours_of_the_worked_example() -> None:
    made = example(neighbours=2, gamma=0.5)
    assert made.read(STREAM[None, :1]).distance.item() == pytest.approx(3.5)
    assert made.follow(STREAM[:1, None]).item() == pytest.approx(3.5)


def naive(made: MemStream, queries: Tensor, beta: float, shares: list[float]) -> tuple[list[float], list[bool]]:
    """One query after the other, in plain words; the items are changed in place."""
    items, oldest, distances, inserted = made.items, 0, [], []
    for query in queries:
        apart = (items - query).abs().sum(dim=1).sort().values
        found = sum(share * float(x) for share, x in zip(shares, apart, strict=False)) / sum(shares)
        distances.append(found)
        inserted.append(found <= beta and float(apart[0]) > 0)
        if inserted[-1]:
            items[oldest] = query
            oldest = (oldest + 1) % len(items)
    return distances, inserted


@pytest.mark.parametrize(("neighbours", "gamma"), [(1, 0.0), (3, 0.25), (3, 1.0)])
def test_blocks_insert_what_one_by_one_inserts(neighbours: int, gamma: float) -> None:
    torch.manual_seed(0)
    queries = torch.randn(200, 3) + torch.linspace(0, 5, 200)[:, None]
    queries[50] = queries[49]  # a repetition
    made = MemStream(8, 3, beta=1.8, neighbours=neighbours, gamma=gamma)
    made.initialise(queries[:8])
    one_by_one, slow = MemStream(8, 3, beta=1.8, neighbours=neighbours, gamma=gamma), MemStream(8, 3, beta=1.8)
    for other in (one_by_one, slow):
        other.initialise(queries[:8])
    wanted, inserted = naive(slow, queries, 1.8, [gamma**place for place in range(neighbours)])
    blocks = torch.cat([made.follow(part[:, None]) for part in queries.split(64)])
    single = torch.cat([one_by_one.follow(query[None, None]) for query in queries])
    assert torch.equal(blocks, single)
    assert blocks.tolist() == pytest.approx(wanted, abs=1e-5)
    assert made.inserted == one_by_one.inserted == sum(inserted)
    assert 20 < sum(inserted) < 190
    for other in (one_by_one, slow):
        assert torch.equal(made.items, other.items)
    assert torch.equal(made.ages, one_by_one.ages)


def test_the_ages_say_when_an_item_came() -> None:
    made = example()
    made.follow(STREAM[:, None])
    assert made.ages.tolist() == [0, 2]  # 1.4 was the last, 11 the second of four
    made.follow(torch.tensor([[[100.0]]]))
    assert made.ages.tolist() == [1, 3]


def test_observe_offers_the_queries_in_order_and_trusts_whom_it_is_told() -> None:
    made = example()
    assert made.observe(made.read(STREAM[:, None])) == 3
    assert_close(made.items, torch.tensor([[1.4], [11.0]]))
    for trusted in (torch.tensor([True, False, True, True]), torch.tensor([[True], [False], [True], [True]])):
        made = example()
        assert made.observe(made.read(STREAM[:, None]), trusted) == 2
        assert_close(made.items, torch.tensor([[0.5], [1.4]]))  # 1.4 is .9 from .5 and takes the place of 10


def test_a_query_that_is_an_item_already_is_not_inserted() -> None:
    made = example()
    assert made.observe(made.read(torch.tensor([[[0.0], [10.0], [10.0]]]))) == 0
    assert made.inserted == 0


def test_a_group_beyond_the_limit_is_scored_and_not_learnt_from() -> None:
    made = example()
    assert_close(made.follow(STREAM[:, None], limit=0.7), torch.tensor([0.5, 1.0, 2.5, 0.9]))
    assert_close(made.items, torch.tensor([[0.5], [10.0]]))


def test_a_group_of_several_queries_is_scored_as_a_whole_before_any_is_learnt() -> None:
    made = example()
    groups = torch.tensor([[[0.5], [0.6]], [[0.7], [30.0]]])  # .1 from the one, and far from all
    assert_close(made.follow(groups), torch.tensor([0.55, (0.1 + 29.4) / 2]))
    assert_close(made.items, torch.tensor([[0.7], [0.6]]))


def test_before_beta_is_known_nothing_is_inserted() -> None:
    made = example(beta=None)
    assert made.observe(made.read(STREAM[None])) == 0
    made.calibrate(torch.tensor([0.1, 0.2, 0.3, 0.4, 1.2], dtype=torch.float64))
    assert made.beta.item() == pytest.approx(torch.quantile(torch.tensor([0.1, 0.2, 0.3, 0.4, 1.2]), 0.9).item())
    assert made.observe(made.read(STREAM[None, :1])) == 1


def test_a_beta_that_was_given_stays() -> None:
    made = example(beta=0.3)
    made.calibrate(torch.ones(5))
    assert made.beta.item() == pytest.approx(0.3)


def test_the_values_are_the_queries_and_nothing_is_to_minimise() -> None:
    made = example()
    read = made.read(STREAM[None])
    assert torch.equal(read.values, STREAM[None])
    assert made.loss_terms(read) == ()
    assert list(made.parameters()) == []


@pytest.mark.parametrize("numbers", [{"neighbours": 3}, {"gamma": 1.5}])
def test_numbers_out_of_range_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"neighbours lie in \[1, 2\], gamma in \[0, 1\]"):
        example(**numbers)
