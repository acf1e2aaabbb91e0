"""L1 distances between queries and items."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["city_block"]


def city_block(queries: Tensor, items: Tensor) -> Tensor:
    """(T, N): the L1 distances of queries (T, C) to items (N, C)."""
    if torch.compiler.is_compiling():  # ONNX has no `cdist`, and OpenVINO takes any p for 2
        return (queries[:, None] - items).abs().sum(dim=2)
    return torch.cdist(queries, items, p=1)
