"""`memae.MemoryModule`, the old form of MemAE's memory, until 0.2.0."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import memae
from memae.config import Query
from memae.memory.ops import read_memory


@pytest.mark.parametrize(
    ("query", "width", "order"), [("position", 4, (0, 2, 3, 1)), ("whole", 4 * 3 * 5, (0, 1, 2, 3))]
)
def test_the_old_name_takes_encodings_and_warns(query: Query, width: int, order: tuple[int, ...]) -> None:
    with pytest.warns(FutureWarning, match=r"MemoryModule is memae\.MemAE now.* 0\.2\.0"):
        memory = memae.MemoryModule(9, width, query=query, temperature=0.1)
    encoding = torch.randn(2, 4, 3, 5)
    read = memory(encoding)
    wanted = read_memory(encoding.permute(order).reshape(-1, width), memory.items, temperature=0.1)
    assert torch.equal(read.value.permute(order).reshape(-1, width), wanted.value)
    assert torch.equal(read.weights, wanted.weights)
    assert torch.equal(read.entropy, wanted.entropy)
    assert torch.equal(read.fallback, wanted.fallback)
    with pytest.warns(FutureWarning, match="rescued is now called fallback"):
        assert read.rescued is read.fallback
    made = memae.Autoencoder(nn.Identity(), memory, nn.Identity())(encoding)
    assert torch.equal(made.x, read.value)
    assert list(memory.state_dict()) == ["items"]
