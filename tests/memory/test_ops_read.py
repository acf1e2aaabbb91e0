"""The memory read: rows worked out by hand, the paper's literal formulas as oracle, gradients, and properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from memae.memory.ops import Similarity, blocked, read_memory
from memae.memory.ops.reference import literal_read


def drawn(rows: int, items: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    memory = torch.randn(items, dim, generator=generator, dtype=torch.float64)
    return query.requires_grad_(), memory.requires_grad_()


def clear_rows(query: Tensor, items: Tensor, least: float = 0.01, **kind: Any) -> Tensor:
    """The queries that keep an item, and none of whose plain softmax weights lies within `least` of lambda."""
    shrinkage = float(kind.pop("shrinkage"))
    weights = literal_read(query, items, shrinkage=0, **kind)[1]
    threshold = shrinkage / len(items)
    clear = ((weights - threshold).abs() > least).all(dim=1) & (weights > threshold).any(dim=1)
    clear |= torch.tensor(shrinkage == 0)  # nothing is dropped
    return query.detach()[clear].requires_grad_()


def test_dot_weights_of_a_hand_written_memory() -> None:
    items = torch.tensor([[math.log(2.0), 0.0], [0.0, 5.0], [math.log(5.0), 1.0]], dtype=torch.float64)
    # logits log 2, 0, log 5: weights 2/8, 1/8, 5/8
    read = read_memory(torch.tensor([[1.0, 0.0]]).double(), items, similarity="dot", shrinkage=0)
    assert_close(read.weights, torch.tensor([[0.25, 0.125, 0.625]]).double())
    value = [0.25 * math.log(2) + 0.625 * math.log(5), 0.125 * 5 + 0.625]
    assert_close(read.value, torch.tensor([value]).double())
    entropy = 0.25 * math.log(4) + 0.125 * math.log(8) + 0.625 * math.log(1.6)
    assert_close(read.entropy, torch.tensor([entropy]).double())
    assert read.fallback.tolist() == [False]


def test_shrinkage_drops_the_small_weights_and_renormalises_the_rest() -> None:
    items = torch.tensor([[math.log(2.0), 0.0], [0.0, 5.0], [math.log(5.0), 1.0]], dtype=torch.float64)
    query = torch.tensor([[1.0, 0.0]]).double()
    # weights 2/8, 1/8, 5/8: lambda 0.6/3 = 0.2 drops the 1/8, lambda 1/3 also the 2/8
    some = read_memory(query, items, similarity="dot", shrinkage=0.6)
    assert_close(some.weights, torch.tensor([[2 / 7, 0, 5 / 7]]).double())
    assert some.weights[0, 1] == 0
    assert_close(some.value, torch.tensor([[(2 * math.log(2) + 5 * math.log(5)) / 7, 5 / 7]]).double())
    assert_close(some.entropy[0].item(), 2 / 7 * math.log(7 / 2) + 5 / 7 * math.log(7 / 5))
    one = read_memory(query, items, similarity="dot", shrinkage=1)
    assert one.weights.tolist() == [[0, 0, 1]]
    assert_close(one.value, items[2:])
    assert one.entropy.tolist() == [0]
    assert not some.fallback.any()
    assert not one.fallback.any()


def test_a_row_where_nothing_survives_keeps_its_best_item() -> None:
    items = torch.tensor([[math.log(2.0), 0.0], [0.0, 5.0], [math.log(5.0), 1.0]], dtype=torch.float64)
    query = torch.tensor([[1.0, 0.0], [0.0, 9.0]]).double()
    # the best weight of the first row is 5/8 < 2/3; the second row is all on the item (0, 5)
    read = read_memory(query, items, similarity="dot", shrinkage=2)
    assert read.weights.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert_close(read.value, items[[2, 1]])
    assert read.entropy.tolist() == [0, 0]
    assert read.fallback.tolist() == [True, False]


def test_a_weight_equal_to_lambda_is_dropped() -> None:
    # logits 0, 0 and a very small one: weights 1/2, 1/2, 0 and lambda = 1.5/3
    items = torch.tensor([[0.0, 1.0], [0.0, 2.0], [-1e4, 0.0]], dtype=torch.float64)
    query = torch.tensor([[1.0, 0.0]]).double()
    read = read_memory(query, items, similarity="dot", shrinkage=1.5 + 1e-9)
    assert read.fallback.tolist() == [True]
    assert read.weights.tolist() == [[1, 0, 0]]
    kept = read_memory(query, items, similarity="dot", shrinkage=1.5 - 1e-9)
    assert kept.fallback.tolist() == [False]
    assert_close(kept.weights, torch.tensor([[0.5, 0.5, 0]]).double())


def test_cosine_weights_of_a_hand_written_memory() -> None:
    # unlike lengths, so that the dot product would give other weights: cosines 1, 0, -1, 3/5
    items = torch.tensor([[7.0, 0.0], [0.0, 0.1], [-2.0, 0.0], [30.0, 40.0]], dtype=torch.float64)
    query = torch.tensor([[5.0, 0.0]]).double()
    read = read_memory(query, items, shrinkage=0)
    exponentials = [math.e, 1.0, 1 / math.e, math.exp(0.6)]
    weights = torch.tensor([[each / sum(exponentials) for each in exponentials]]).double()
    assert_close(read.weights, weights)
    assert_close(read.value, weights @ items)
    # lambda 1/4: e and e^0.6 of a sum of 5.908 stay
    shrunk = read_memory(query, items, shrinkage=1)
    share = math.e / (math.e + math.exp(0.6))
    assert_close(shrunk.weights, torch.tensor([[share, 0, 0, 1 - share]]).double())
    assert_close(shrunk.value, torch.tensor([[7 * share + 30 * (1 - share), 40 * (1 - share)]]).double())


def test_euclidean_weights_of_a_hand_written_memory() -> None:
    # squared distances from (1, 0): 0, 2, 9 and, in the same direction as the query, 9; columns vary by 2.25 and 1.5
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 3.0], [4.0, 0.0]], dtype=torch.float64)
    query = torch.tensor([[1.0, 0.0]]).double()
    read = read_memory(query, items, similarity="euclidean", temperature=0.5, shrinkage=0)
    exponentials = [math.exp(-distance / (0.5 * 3.75)) for distance in (0, 2, 9, 9)]
    weights = torch.tensor([[each / sum(exponentials) for each in exponentials]]).double()
    assert_close(read.weights, weights)
    assert_close(read.value, weights @ items)
    assert_close(read.entropy, torch.special.entr(weights).sum(dim=1))


def test_euclidean_does_not_see_the_scale_and_the_place_of_the_encodings() -> None:
    query, items = (part.detach() for part in drawn(5, 8, 4, seed=6))
    read = read_memory(query, items, similarity="euclidean", temperature=0.1)
    moved = read_memory(7 * query - 3, 7 * items - 3, similarity="euclidean", temperature=0.1)
    assert_close(moved.weights, read.weights)
    assert_close(moved.value, 7 * read.value - 3)


def test_euclidean_finds_the_nearest_item_from_far_away() -> None:
    items = torch.tensor([[3.0, 4.0], [-3.0, -4.0]])
    read = read_memory(torch.tensor([[1e12, 1e12]]), items, similarity="euclidean", temperature=1e-3)
    assert_close(read.value, items[:1])


def test_temperature_divides_the_similarity() -> None:
    items = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    query = torch.tensor([[3.0, 0.0, 4.0]]).double()
    sharp = read_memory(query, items, temperature=0.2, shrinkage=0)  # logits 3, 0, 4
    total = math.exp(3) + 1 + math.exp(4)
    assert_close(sharp.weights, torch.tensor([[math.exp(3) / total, 1 / total, math.exp(4) / total]]).double())
    dot = read_memory(query, items, similarity="dot", temperature=4, shrinkage=0)  # logits 3/4, 0, 3
    total = math.exp(0.75) + 1 + math.exp(3)
    assert_close(dot.weights, torch.tensor([[math.exp(0.75) / total, 1 / total, math.exp(3) / total]]).double())


def test_large_logits_stay_finite() -> None:
    items = torch.tensor([[1e4, 0.0], [-1e4, 0.0], [0.0, 1e4]])
    read = read_memory(torch.tensor([[1e4, 0.0]]), items, similarity="dot")
    assert read.weights.tolist() == [[1, 0, 0]]
    assert read.entropy.tolist() == [0]


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("shrinkage", [0.0, 0.9, 1.1, 3.0])
def test_a_zero_query_reads_something_finite_and_has_finite_gradients(
    similarity: Similarity, shrinkage: float
) -> None:
    items = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    query = torch.zeros(1, 4, requires_grad=True)
    read = read_memory(query, items, similarity=similarity, shrinkage=shrinkage)
    if shrinkage < 1:  # all weights are 1/6
        assert_close(read.weights, torch.full((1, 6), 1 / 6))
        assert_close(read.entropy, torch.tensor([math.log(6)]))
    else:
        assert read.fallback.tolist() == [True]
        assert sorted(read.weights[0].tolist()) == [0, 0, 0, 0, 0, 1]
    (read.value.sum() + read.entropy.sum()).backward()
    assert query.grad.isfinite().all()
    assert items.grad.isfinite().all()


def test_no_queries_give_an_empty_read() -> None:
    read = read_memory(torch.zeros(0, 3), torch.eye(3))
    assert [tuple(part.shape) for part in read] == [(0, 3), (0, 3), (0,), (0,)]


KINDS = [
    {"similarity": "cosine", "temperature": 0.2, "shrinkage": 0.0},
    {"similarity": "cosine", "temperature": 0.2, "shrinkage": 1.0},
    {"similarity": "cosine", "temperature": 0.1, "shrinkage": 2.5},
    {"similarity": "dot", "temperature": 1.0, "shrinkage": 0.0},
    {"similarity": "dot", "temperature": 1.0, "shrinkage": 1.0},
    {"similarity": "dot", "temperature": 0.5, "shrinkage": 3.0},
    {"similarity": "euclidean", "temperature": 1.0, "shrinkage": 0.0},
    {"similarity": "euclidean", "temperature": 0.4, "shrinkage": 1.0},
    {"similarity": "euclidean", "temperature": 0.5, "shrinkage": 3.0},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_values_and_gradients_are_those_of_the_literal_formulas(kind: dict[str, Any]) -> None:
    query, items = drawn(400, 12, 5, seed=1)
    query = clear_rows(query, items, **kind)
    assert len(query) >= 30
    ours, literal = read_memory(query, items, **kind), literal_read(query, items, **kind)
    assert not ours.fallback.any()
    for got, wanted in zip(ours, literal, strict=False):
        assert_close(got, wanted, rtol=0, atol=2e-10)
    if kind["shrinkage"]:  # the case is worth its name: rows of one item and of several, and dropped items
        kept = (ours.weights > 0).sum(dim=1)
        assert kept.min() == 1
        assert kept.max() > 1
        assert (ours.weights == 0).any()

    # the derivative of w log w at a dropped w = 0 is infinite, and times 0 not a number: only kept ones enter
    entropy = torch.special.entr(torch.where(literal[1] > 0, literal[1], 1.0)).sum(dim=1)
    literal = (*literal[:2], entropy)
    generator = torch.Generator().manual_seed(2)
    upstream = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in literal]
    for chosen in ([0], [1], [2], [0, 1, 2]):
        grads = [
            torch.autograd.grad(
                [read[place] for place in chosen],
                [query, items],
                [upstream[place] for place in chosen],
                retain_graph=True,
                materialize_grads=True,
            )
            for read in (ours, literal)
        ]
        for got, wanted in zip(*grads, strict=True):
            # the items gather the literal form's 1e-12 / margin^2 from all rows
            assert_close(got, wanted, rtol=0, atol=3e-8)
            assert got.abs().max() > 1e-3


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("shrinkage", [0.0, 1.0, 2.0, 4.5])
@pytest.mark.parametrize("wanted", ["value", "weights", "entropy"])
def test_gradients_are_those_of_finite_differences(similarity: Similarity, shrinkage: float, wanted: str) -> None:
    temperature = 0.3 if similarity == "cosine" else 1.0
    query, items = drawn(12, 5, 2, seed=3)
    plain = literal_read(query, items, similarity=similarity, temperature=temperature, shrinkage=0)[1]
    clear = ((plain - shrinkage / 5).abs() > 1e-3).all(dim=1)  # a step of 1e-6 must not change what is kept
    query = query.detach()[clear][:4].requires_grad_()

    def outputs(query: Tensor, items: Tensor) -> tuple[Tensor, ...]:
        read = read_memory(query, items, similarity=similarity, temperature=temperature, shrinkage=shrinkage)
        return (getattr(read, wanted),)

    fallback = read_memory(query, items, similarity=similarity, temperature=temperature, shrinkage=shrinkage)[3]
    assert bool(fallback.any()) >= (shrinkage == 4.5)
    assert bool(fallback.all()) <= (shrinkage == 4.5)
    assert torch.autograd.gradcheck(outputs, (query, items))


def test_only_the_inputs_that_want_a_gradient_need_one() -> None:
    query, items = drawn(4, 5, 3, seed=4)
    read = read_memory(query, items.detach(), temperature=0.2)
    (grad,) = torch.autograd.grad(read.value.sum(), query)
    both = read_memory(query, items, temperature=0.2)
    assert_close(grad, torch.autograd.grad(both.value.sum(), query)[0])
    alone = read_memory(query.detach(), items, temperature=0.2)
    assert_close(
        torch.autograd.grad(alone.value.sum(), items)[0],
        torch.autograd.grad(read_memory(query, items, temperature=0.2).value.sum(), items)[0],
    )
    assert not read_memory(query.detach(), items.detach()).value.requires_grad


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_dropped_items_get_exactly_no_gradient(similarity: Similarity) -> None:
    query, items = drawn(6, 40, 4, seed=5)
    read = read_memory(query, items, similarity=similarity, temperature=0.3, shrinkage=4.0)
    dropped = (read.weights == 0).all(dim=0)
    assert 5 <= int(dropped.sum()) <= 35
    (grad,) = torch.autograd.grad([read.value.square().sum(), read.entropy.sum()], items)
    assert (grad[dropped] == 0).all()
    assert (grad[~dropped].abs().sum(dim=1) > 0).all()


def test_a_row_of_argmax_fallback_teaches_its_item_and_not_its_query() -> None:
    items = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    query = torch.tensor([[2.0, 0.1]], dtype=torch.float64, requires_grad=True)
    read = read_memory(query, items, shrinkage=2)
    assert read.fallback.all()
    best = int(read.weights.argmax())
    grad_query, grad_items = torch.autograd.grad((read.value * torch.tensor([[3.0, -1.0]])).sum(), [query, items])
    wanted = torch.zeros(3, 2, dtype=torch.float64)
    wanted[best] = torch.tensor([3.0, -1.0])
    assert_close(grad_items, wanted)
    assert_close(grad_query, torch.zeros(1, 2, dtype=torch.float64))


def test_a_read_of_one_item_passes_exactly_no_gradient_to_the_query() -> None:
    query, items = (part.detach().float().requires_grad_() for part in drawn(200, 12, 5, seed=11))
    read = read_memory(query, items, temperature=0.1, shrinkage=2.5)
    lone = (read.weights > 0).sum(dim=1) == 1
    assert 10 < int(lone.sum()) < 190
    upstream = torch.randn(200, 5, generator=torch.Generator().manual_seed(12))
    (grad,) = torch.autograd.grad([(read.value * upstream).sum(), read.entropy.sum()], query)
    assert (grad[lone] == 0).all()
    assert (grad[~lone].abs().sum(dim=1) > 0).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    items=st.integers(1, 30),
    dim=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    similarity=st.sampled_from(["cosine", "dot", "euclidean"]),
    temperature=st.sampled_from([0.02, 0.3, 1.0, 5.0]),
    share=st.floats(0, 0.999),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_every_read_is_a_sparse_mixture(
    rows: int,
    items: int,
    dim: int,
    seed: int,
    similarity: str,
    temperature: float,
    share: float,
    dtype: torch.dtype,
) -> None:
    query, memory = (part.detach().to(dtype) for part in drawn(rows, items, dim, seed))
    kind: dict[str, Any] = {"similarity": similarity, "temperature": temperature, "shrinkage": share * items}
    read = read_memory(query, memory, **kind)
    near: dict[str, Any] = {"rtol": 0, "atol": 1e-5 if dtype is torch.float32 else 1e-12}
    assert read.value.dtype == read.weights.dtype == read.entropy.dtype == dtype
    assert (read.weights >= 0).all()
    assert_close(read.weights.sum(dim=1), torch.ones(rows, dtype=dtype), **near)
    kept = (read.weights > 0).sum(dim=1)
    assert (kept >= 1).all()
    if share > 1e-3:  # share is lambda: weights above it number less than 1/lambda
        assert (kept <= max(1, math.floor(1 / share + 1e-4))).all()
    assert (read.entropy >= 0).all()
    assert (read.entropy <= math.log(items) + 1e-5).all()
    assert_close(read.value, read.weights @ memory, **near)
    assert (kept[read.fallback] == 1).all()
    assert (read.entropy[read.fallback] == 0).all()


@settings(max_examples=40, deadline=None)
@given(
    items=st.integers(2, 20),
    seed=st.integers(0, 10_000),
    similarity=st.sampled_from(["cosine", "dot", "euclidean"]),
    share=st.floats(0, 0.9),
)
def test_permuted_items_permute_the_weights(items: int, seed: int, similarity: str, share: float) -> None:
    query, memory = (part.detach() for part in drawn(5, items, 4, seed))
    kind: dict[str, Any] = {"similarity": similarity, "temperature": 0.3, "shrinkage": share * items}
    order = torch.randperm(items, generator=torch.Generator().manual_seed(seed))
    read, moved = read_memory(query, memory, **kind), read_memory(query, memory[order], **kind)
    assert_close(moved.weights, read.weights[:, order])
    assert_close(moved.value, read.value)
    assert_close(moved.entropy, read.entropy)
    assert torch.equal(moved.fallback, read.fallback)


def test_cosine_does_not_see_the_length_of_query_or_item() -> None:
    query, items = (part.detach() for part in drawn(5, 8, 4, seed=6))
    lengths = torch.tensor([0.01, 3.0, 100.0, 1.0, 7.0]).double()
    read = read_memory(query, items, temperature=0.2)
    assert_close(read_memory(query * lengths[:, None], items, temperature=0.2).value, read.value)
    assert_close(read_memory(query, 50 * items, temperature=0.2).value, 50 * read.value)


@pytest.mark.parametrize("elements", [1, 11, 25, 64, 10**6])
@pytest.mark.parametrize("shrinkage", [0.0, 2.0, 8.0])
def test_the_size_of_a_block_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, elements: int, shrinkage: float
) -> None:
    query, items = drawn(17, 11, 3, seed=7)

    def everything() -> list[Tensor]:
        read = read_memory(query, items, temperature=0.3, shrinkage=shrinkage)
        loss = read.value.square().sum() + (read.weights * torch.arange(11)).sum() + read.entropy.square().sum()
        return [*read, *torch.autograd.grad(loss, [query, items])]

    whole = everything()
    assert len(blocked._blocks(17, 11)) == 1
    monkeypatch.setattr(blocked, "BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(blocked, "BLOCK_ROWS", 1)
    assert len(blocked._blocks(17, 11)) == {1: 17, 11: 17, 25: 9, 64: 4, 10**6: 1}[elements]
    for got, wanted in zip(everything(), whole, strict=True):
        assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("elements", [25, 10**6])
@pytest.mark.parametrize("chosen", ["value", "entropy", "all"])
def test_wide_items_have_the_gradients_of_narrow_ones(
    monkeypatch: pytest.MonkeyPatch, chosen: str, elements: int
) -> None:
    query, items = drawn(200, 12, 40, seed=11)
    monkeypatch.setattr(blocked, "BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(blocked, "BLOCK_ROWS", 1)

    def gradients() -> tuple[Tensor, ...]:
        read = read_memory(query, items, temperature=0.1, shrinkage=2.5)
        lone = (read.weights > 0).sum(dim=1) == 1
        assert 10 < int(lone.sum()) < 190
        terms = {
            "value": read.value.square().sum(),
            "entropy": read.entropy.square().sum(),
            "all": read.value.square().sum() + read.entropy.sum() + (read.weights * torch.arange(12)).sum(),
        }
        found = torch.autograd.grad(terms[chosen], [query, items])
        assert (found[0][lone] == 0).all()
        assert (found[0][~lone].abs().sum(dim=1) > 0).all()
        return found

    wide = gradients()
    monkeypatch.setattr(blocked, "MERGED", 40)
    for got, wanted in zip(wide, gradients(), strict=True):
        assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_autocast_leaves_the_read_and_its_gradients_in_float32() -> None:
    query, items = (part.detach().float().requires_grad_() for part in drawn(9, 7, 6, seed=8))

    def everything() -> list[Tensor]:
        read = read_memory(query, items, temperature=0.1, shrinkage=1.0)
        loss = read.value.square().sum() + read.entropy.sum()
        return [*read, *torch.autograd.grad(loss, [query, items])]

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (query @ items.T).dtype == torch.bfloat16  # autocast is on
        cast = everything()
        assert (query @ items.T).dtype == torch.bfloat16  # and still is
    for got, wanted in zip(cast, plain, strict=True):
        assert got.dtype == wanted.dtype
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_half_precision_is_lifted_to_float32(dtype: torch.dtype, similarity: Similarity) -> None:
    query, items = (part.detach().float() for part in drawn(9, 7, 6, seed=9))
    query = query.to(dtype).requires_grad_()
    read = read_memory(query, items, similarity=similarity, temperature=0.1)
    assert read.value.dtype == read.weights.dtype == read.entropy.dtype == torch.float32
    wanted = read_memory(query.detach().float(), items, similarity=similarity, temperature=0.1)
    assert all(torch.equal(got, want) for got, want in zip(read, wanted, strict=True))
    read.value.sum().backward()
    assert query.grad.dtype == dtype


def test_tiny_half_precision_queries_still_have_a_direction() -> None:
    # their squares underflow in fp16, and so would an epsilon of 1e-12
    query = torch.tensor([[1e-5, 0.0], [0.0, 1e-5]], dtype=torch.float16)
    assert read_memory(query, torch.eye(2), temperature=0.05).weights.tolist() == [[1, 0], [0, 1]]


def test_cosine_without_temperature_cannot_be_sparse_and_falls_back_to_the_nearest_item() -> None:
    generator = torch.Generator().manual_seed(10)
    query = torch.randn(24, 256, generator=generator)
    items = torch.randn(2000, 256, generator=generator)
    literal = literal_read(query, items, shrinkage=1)[1]
    share = (literal > 0).float().mean(dim=1)
    assert (share > 0.4).all()
    assert (share < 0.6).all()
    ours = read_memory(query, items, shrinkage=1)
    assert_close((ours.weights > 0).float().mean(dim=1), share, rtol=0, atol=0.001)
    assert not ours.fallback.any()
    best = (torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(items).T).argmax(dim=1)
    for shrinkage in (2.0, 3.0):
        value, weights, _ = literal_read(query, items, shrinkage=shrinkage)
        assert (weights == 0).all()
        assert (value == 0).all()
        read = read_memory(query, items, shrinkage=shrinkage)
        assert read.fallback.all()
        assert ((read.weights > 0).sum(dim=1) == 1).all()
        assert torch.equal(read.weights.argmax(dim=1), best)
        assert_close(read.value, items[best])


@pytest.mark.parametrize("shrinkage", [1.0, 2.0, 3.0])
def test_a_temperature_of_one_fortieth_makes_the_same_memory_sparse(shrinkage: float) -> None:
    generator = torch.Generator().manual_seed(10)
    query = torch.randn(24, 256, generator=generator)
    items = torch.randn(2000, 256, generator=generator)
    read = read_memory(query, items, temperature=1 / 40, shrinkage=shrinkage)
    assert not read.fallback.any()
    kept = (read.weights > 0).sum(dim=1)
    assert (kept > 1).all()
    assert (kept < 2000 / 6 / shrinkage**0.5).all()  # cosine at 1 keeps 1000, or none


@pytest.mark.parametrize(
    ("query", "items"),
    [((3,), (2, 3)), ((1, 3), (3,)), ((1, 3), (2, 4)), ((1, 2, 3), (2, 3)), ((2, 3), (1, 2, 3))],
)
def test_shapes_that_do_not_fit_are_refused_with_both_named(
    query: tuple[Any, ...], items: tuple[Any, ...]
) -> None:
    with pytest.raises(ValueError, match=r"\(T, C\).*\(N, C\)") as caught:
        read_memory(torch.zeros(query), torch.zeros(items))
    assert str(query) in str(caught.value)
    assert str(items) in str(caught.value)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature must be above 0; got {temperature}"):
        read_memory(torch.zeros(1, 2), torch.eye(2), temperature=temperature)


@pytest.mark.parametrize("shrinkage", [-0.1, 2.0, 7.0, math.nan])
def test_a_shrinkage_outside_zero_to_n_is_refused(shrinkage: float) -> None:
    with pytest.raises(ValueError, match=rf"shrinkage .* \[0, 2\); got {shrinkage}"):
        read_memory(torch.zeros(1, 2), torch.eye(2), shrinkage=shrinkage)
