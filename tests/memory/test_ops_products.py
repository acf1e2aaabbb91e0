"""Both libraries give the product, each is asked where it should be, and a torch without oneDNN does without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from memae.memory.ops import products
from memae.memory.ops.products import affine, onednn_linear, product

SMALL, LARGE = (7, 5, 3), (128, 130, 70)  # rows, inner, columns


def drawn(shape: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(rows)
    return (
        torch.randn(rows, inner, generator=generator, dtype=torch.float64).to(dtype),
        torch.randn(inner, columns, generator=generator, dtype=torch.float64).to(dtype),
    )


def turned(x: Tensor) -> Tensor:
    """The same numbers in the other order in memory."""
    return x.T.contiguous().T


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The left sides that oneDNN was asked for."""
    found, linear = [], onednn_linear()
    if linear is None:
        pytest.skip("this torch has no oneDNN")

    def noting(left: Tensor, *rest: Any) -> Tensor:
        found.append(left)
        return linear(left, *rest)

    monkeypatch.setattr(products, "onednn_linear", lambda: noting)
    yield found


@pytest.mark.parametrize("shape", [SMALL, LARGE, (1, 1 << 20, 1), (2000, 600, 3), (0, 4, 4)])
def test_products_of_any_layout(shape: tuple[int, int, int]) -> None:
    left, right = drawn(shape)
    wanted = (left.double() @ right.double()).float()
    for a in (left, turned(left)):
        for b in (right, turned(right)):
            assert_close(product(a, b), wanted, rtol=1e-4, atol=1e-2 if shape[1] > 1000 else 1e-4)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("times", [1.0, 2.0])
def test_affine_adds_and_multiplies(shape: tuple[int, int, int], times: float) -> None:
    left, right = drawn(shape)
    rows, _, columns = shape
    for added in (torch.randn(rows, 1), torch.randn(columns), torch.randn(rows, columns)):
        wanted = times * (left.double() @ right.double() + added).float()
        assert_close(affine(left, right, added, times=times), wanted, rtol=1e-4, atol=1e-4)
        out = torch.full((rows, columns), 7.0)
        assert affine(left, right, added, times=times, out=out) is out
        assert_close(out, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_affine_adds_to_what_is_there(shape: tuple[int, int, int]) -> None:
    left, right = drawn(shape)
    total = torch.ones(shape[0], shape[2])
    affine(left, right, total, out=total)
    assert_close(total, 1 + left @ right, rtol=1e-4, atol=1e-4)


def test_large_float32_products_go_to_onednn_and_no_others(asked: list[Any]) -> None:
    product(*drawn(SMALL))
    affine(*drawn(SMALL), torch.zeros(3))
    product(*drawn(LARGE, torch.float64))
    assert not asked
    product(*drawn(LARGE))
    affine(*drawn(LARGE), torch.zeros(70))
    assert len(asked) == 2


def test_without_onednn_the_other_library_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "onednn_linear", lambda: None)
    left, right = drawn(LARGE)
    assert torch.equal(product(left, right), left @ right)
    assert torch.equal(affine(left, right, torch.ones(70)), torch.addmm(torch.ones(70), left, right))


def test_where_onednn_fails_the_other_library_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Tensor:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(products, "onednn_linear", lambda: failing)
    left, right = drawn(LARGE)
    assert torch.equal(product(left, right), left @ right)


@pytest.mark.parametrize("broken", ["missing", "raises", "wrong"])
def test_an_onednn_that_is_not_as_it_was_is_not_used(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def other(*_: Any) -> Tensor:
        if broken == "raises":
            raise RuntimeError("another schema")
        return torch.zeros(2, 3)

    class Operators:
        if broken != "missing":
            _linear_pointwise = type("Packet", (), {"default": staticmethod(other)})

    monkeypatch.setattr(torch.ops, "mkldnn", Operators)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert onednn_linear.__wrapped__() is None


def test_a_torch_that_says_it_has_no_onednn_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert onednn_linear.__wrapped__() is None
