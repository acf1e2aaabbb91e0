"""The sparse read in blocks of rows: one T x N tensor, the weights, and no other.

Forward, for logits s = d(q, k) / temperature, with K the kept set { i : softmax(s)_i > lambda } (or the best item alone
where that is empty):

    w = softmax of s over K,  value = w M,  entropy E = -sum_i w_i log w_i

Backward, for upstream gradients g of the value and h of the entropy (and r of the weights), K held fixed, as
it is almost everywhere:

    u = g M^T + r - h log w,   ds = w (u - sum(w (g M^T + r)) - h E)
    dq = ds k / temperature,   dk = ds^T q / temperature,   dM = w^T g

For cosine q and k are directions, x / |x|, and a gradient d of a direction e is (d - e (e d)) / |x| of the vector. It
is all one function, because each step of autograd costs more than its work on a small batch. A block is small enough
that its logits stay in the cache between the matrix product and the softmax.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["sparse_read"]

BLOCK_ELEMENTS = 1 << 18  # logits per block: 1 MiB in float32, about one core's second-level cache
SHORTEST = 1e-12  # vectors shorter than this are divided by it
NARROW = 16  # matrices of fewer columns are multiplied faster from the other side


def sparse_read(
    query: Tensor, items: Tensor, threshold: float, temperature: float, cosine: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value (T, C), weights (T, N), entropy (T,), rescued (T,) bool of queries (T, C) and items (N, C) of one dtype.

    Differentiable once in query and items. `log_lambda` is -inf for no shrinkage.
    """
    return _SparseRead.apply(  # type: ignore[no-any-return,no-untyped-call]
        query, items, threshold, temperature, cosine
    )


def _blocks(rows: int, num_items: int) -> list[slice]:
    size = max(1, BLOCK_ELEMENTS // max(1, num_items))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _weigh(logits: Tensor, threshold: float, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Writes the masked-softmax weights of logits, which it overwrites; gives the entropies and the rescued rows."""
    logits -= logits.amax(dim=1, keepdim=True)
    torch.softmax(logits, dim=1, out=weights)
    rescued = torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    if threshold > 0:
        torch.threshold_(weights, threshold, 0.0)
        kept = weights.sum(dim=1, keepdim=True)
        rescued = kept.squeeze(1) == 0
        if weights.device.type != "cpu" or rescued.any():  # to ask a GPU means to wait for it
            lone = rescued[:, None].to(weights)
            weights.scatter_add_(1, logits.argmax(dim=1, keepdim=True), lone)
            kept += lone
        weights /= kept
    # log w = s + log(greatest w), as the greatest s is 0 now: no logarithm of all the weights, most of which are 0
    entropy = -(logits.mul_(weights).sum(dim=1) + weights.amax(dim=1).log_())
    return entropy, rescued


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right."""
    return (right.T @ left.T).T if right.shape[1] < NARROW else left @ right


def _directions(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / |x| row by row, and 1 / |x| as a column."""
    inverse = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(SHORTEST).reciprocal_()
    return x * inverse, inverse


def _through_directions(grad: Tensor, directions: Tensor, inverse: Tensor) -> Tensor:
    """The gradient with respect to x, given that with respect to its directions."""
    along = (grad * directions).sum(dim=1, keepdim=True)
    along.masked_fill_(inverse >= 1 / SHORTEST, 0.0)  # there |x| is not what x was divided by
    return grad.addcmul(directions, along, value=-1).mul_(inverse)


class _SparseRead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, items: Tensor, threshold: float, temperature: float, cosine: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        lengths: tuple[Tensor, ...] = ()
        keys = items
        if cosine:
            (query, query_inverse), (keys, key_inverse) = _directions(query), _directions(items)
            lengths = query_inverse, key_inverse
        rows, num_items = query.shape[0], keys.shape[0]
        weights = query.new_empty(rows, num_items)
        entropy = query.new_empty(rows)
        rescued = torch.empty(rows, dtype=torch.bool, device=query.device)
        value = query.new_empty(rows, items.shape[1])
        scaled = keys / temperature
        for block in _blocks(rows, num_items):
            entropy[block], rescued[block] = _weigh(query[block] @ scaled.T, threshold, weights[block])
            value[block] = _product(weights[block], items)
        ctx.save_for_backward(query, keys, items, weights, entropy, *lengths)
        ctx.temperature = temperature
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
    ) -> tuple[Tensor, Tensor, None, None, None]:
        query, keys, items, weights, entropy, *lengths = ctx.saved_tensors
        grad_query = torch.empty_like(query)
        grad_keys = torch.zeros_like(keys)
        with torch.autocast(query.device.type, enabled=False):  # backward may be called inside autocast, too
            for block in _blocks(query.shape[0], keys.shape[0]):
                w = weights[block]
                grad_logits = torch.zeros_like(w) if grad_value is None else torch.mm(grad_value[block], items.T)
                if grad_weights is not None:
                    grad_logits += grad_weights[block]
                mean = (grad_logits * w).sum(dim=1, keepdim=True)
                if grad_entropy is not None:
                    pull = grad_entropy[block, None]
                    logarithms = w.clamp_min(torch.finfo(w.dtype).tiny).log_()  # of w = 0 it does not count
                    grad_logits.addcmul_(logarithms, pull, value=-1)
                    mean.addcmul_(entropy[block, None], pull)
                grad_logits.sub_(mean).mul_(w).div_(ctx.temperature)
                grad_query[block] = _product(grad_logits, keys)
                grad_keys += _product(grad_logits.T, query[block])
            if lengths:
                grad_query = _through_directions(grad_query, query, lengths[0])
                grad_keys = _through_directions(grad_keys, keys, lengths[1])
            grad_items = grad_keys if grad_value is None else grad_keys.add_(_product(weights.T, grad_value))
        return grad_query, grad_items, None, None, None
