"""Every family of memories keeps the contract of memories."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from memae.config import memory_sections
from memae.memory import MEMTO, MNAD, MPN, MemAE, MemStream
from tests.memory.contract import check_memory

MEMORIES: dict[str, Callable[[], Any]] = {
    "memae": partial(MemAE, 4, 3),
    "memae, by distance": partial(MemAE, 4, 3, similarity="euclidean", temperature=0.2),
    "mnad, paper": partial(MNAD, 4, 3),
    "mnad, released": partial(MNAD, 4, 3, variant="released", temperature=0.3),
    "mnad, decay": partial(MNAD, 4, 3, decay=0.9),
    "mpn": partial(MPN, 4, 3),
    "memto": partial(MEMTO, 4, 3),
    "memstream": partial(MemStream, 4, 3, beta=50.0),
    "memstream, three neighbours": partial(MemStream, 4, 3, beta=50.0, neighbours=3, gamma=0.5),
}


@pytest.mark.parametrize("name", MEMORIES)
def test_it_keeps_the_contract(name: str) -> None:
    check_memory(MEMORIES[name], item_dim=3)


def test_no_family_is_left_out() -> None:
    checked = {name.partition(",")[0] for name in MEMORIES}
    assert memory_sections().keys() - {"nearest"} == checked  # "nearest" is that of tests/memory/test_toy.py
