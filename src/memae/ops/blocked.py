"""The sparse read in blocks of rows: one T x N tensor, the weights, and no other.

Forward, for logits s = q k^T, with K the kept set { i : s_i > logsumexp(s) + log lambda } (or the best item
alone where that is empty):

    w = softmax of s over K,  value = w M,  entropy E = -sum_i w_i log w_i

Backward, for upstream gradients g of the value and h of the entropy (and r of the weights), K held fixed, as
it is almost everywhere:

    u = g M^T + r,   ds = w (u - sum(w u)) - h (w log w + w E)
    dq = ds k,   dk = ds^T q,   dM = w^T g

A block is small enough that its logits stay in the cache between the matrix product and the softmax.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["sparse_read"]

BLOCK_ELEMENTS = 1 << 18  # logits per block: 1 MiB in float32, about one core's second-level cache


def sparse_read(
    query: Tensor, keys: Tensor, items: Tensor, log_lambda: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value (T, C), weights (T, N), entropy (T,), rescued (T,) bool for logits = query keys^T.

    Differentiable once in query, keys and items. `log_lambda` is -inf for no shrinkage.
    """
    return _SparseRead.apply(query, keys, items, log_lambda)  # type: ignore[no-any-return,no-untyped-call]


def _blocks(rows: int, num_items: int) -> list[slice]:
    size = max(1, BLOCK_ELEMENTS // max(1, num_items))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _weigh(logits: Tensor, log_lambda: float) -> tuple[Tensor, Tensor]:
    """Turns logits into masked-softmax weights in place; also returns which rows were rescued."""
    best, best_index = logits.max(dim=1, keepdim=True)
    logits -= best
    weights = logits.exp_()
    total = weights.sum(dim=1, keepdim=True)
    if log_lambda == -math.inf:
        return weights.div_(total), torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    # relative to the best item, which now weighs exactly 1: keep w_i / total > lambda
    limit = total * math.exp(log_lambda)
    weights.masked_fill_(weights <= limit, 0.0)
    rescued = limit.squeeze(1) >= 1.0
    weights.scatter_(1, best_index, 1.0)
    return weights.div_(weights.sum(dim=1, keepdim=True)), rescued


class _SparseRead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, items: Tensor, log_lambda: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, num_items = query.shape[0], keys.shape[0]
        weights = query.new_empty(rows, num_items)
        entropy = query.new_empty(rows)
        rescued = torch.empty(rows, dtype=torch.bool, device=query.device)
        value = query.new_empty(rows, items.shape[1])
        for block in _blocks(rows, num_items):
            w = weights[block]
            torch.mm(query[block], keys.T, out=w)
            w, rescued[block] = _weigh(w, log_lambda)
            entropy[block] = torch.special.entr(w).sum(dim=1)
            torch.mm(w, items, out=value[block])
        ctx.save_for_backward(query, keys, items, weights, entropy)
        ctx.mark_non_differentiable(rescued)
        ctx.set_materialize_grads(False)
        return value, weights, entropy, rescued

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any,
        grad_value: Tensor | None,
        grad_weights: Tensor | None,
        grad_entropy: Tensor | None,
        _grad_rescued: None,
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        query, keys, items, weights, entropy = ctx.saved_tensors
        grad_query = torch.empty_like(query)
        grad_keys = torch.zeros_like(keys)
        with torch.autocast(query.device.type, enabled=False):  # backward may be called inside autocast, too
            for block in _blocks(query.shape[0], keys.shape[0]):
                w = weights[block]
                grad_logits = torch.zeros_like(w) if grad_value is None else torch.mm(grad_value[block], items.T)
                if grad_weights is not None:
                    grad_logits += grad_weights[block]
                grad_logits.sub_((grad_logits * w).sum(dim=1, keepdim=True)).mul_(w)
                if grad_entropy is not None:
                    pull = torch.special.entr(w).addcmul_(w, entropy[block, None], value=-1)
                    grad_logits.addcmul_(pull, grad_entropy[block, None])
                torch.mm(grad_logits, keys, out=grad_query[block])
                grad_keys.addmm_(grad_logits.T, query[block])
            grad_items = torch.zeros_like(items) if grad_value is None else weights.T @ grad_value
        return grad_query, grad_keys, grad_items, None
