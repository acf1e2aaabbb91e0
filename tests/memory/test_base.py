"""What every answer of a memory can be asked for."""

import torch
from torch import nn

from memae.memory.base import MemoryRead


def test_a_scorer_may_be_asked_for_the_nearest_item_when_its_pass_is_over() -> None:
    items = nn.Parameter(torch.eye(3))
    with torch.inference_mode():
        queries = torch.tensor([[[0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]])
        read = MemoryRead(queries, queries, items, lambda: torch.cdist(queries, items[None]).min(dim=2)[::-1])
    assert read.nearest.tolist() == [[1, 2]]
    assert read.shares.tolist() == [[[0, 1, 0], [0, 0, 1]]]
