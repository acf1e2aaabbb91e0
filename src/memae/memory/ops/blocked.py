"""The sparse read in blocks of rows: one T x N tensor, the weights, and for wide items the logits where they learn.

Forward, for logits s = d(q, k) / temperature, with K the kept set { i : softmax(s)_i > lambda } (or the best item alone
where that is empty):

    w = softmax of s over K,  value = w M,  entropy E = -sum_i w_i log w_i

Backward, for upstream gradients g of the value and h of the entropy (and r of the weights), K held fixed, as
it is almost everywhere:

    u = g M^T - h log w + r,   ds = w (u - sum(w u))
    dq = ds k / temperature,   dk = ds^T q / temperature,   dM = w^T g

Over K log w is s less a constant of the row, which falls out of u - sum(w u), and sum(w g M^T) is g value. So, but
for r, u - sum(w u) = g M^T + c - h s with c = h sum(w s) - g value: no logarithm and no mean over T x N. And as
s = q k^T, with k divided by the temperature, that is one product, [g, -h q] [M, k]^T + c: for narrow items it takes
less time than to keep the logits.

For cosine q and k are directions, x / |x|, and a gradient d of a direction e is (d - e (e d)) / |x| of the vector. It
is all one function, because each step of autograd costs more than its work on a small batch. A block is small enough
that its logits stay in the cache between the matrix product and the softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["sparse_read"]

BLOCK_ELEMENTS = 1 << 18  # logits per block: 1 MiB in float32, about one core's second-level cache
BLOCK_ROWS = 256  # per block at least: a product of fewer rows takes longer to read the items than to multiply
NARROW = 16  # torch multiplies by a matrix of fewer columns faster from the other side
SHORTEST = 1e-12  # vectors shorter than this are divided by it
MERGED = 32  # items of at most so many numbers: what the entropy adds to a gradient is one product with the rest


def sparse_read(
    query: Tensor, items: Tensor, threshold: float, temperature: float, cosine: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value (T, C), weights (T, N), entropy (T,), fallback (T,) bool of queries (T, C) and items (N, C) of one dtype.

    Differentiable once in query and items. A threshold of 0 keeps every item.
    """
    learning = torch.is_grad_enabled() and (query.requires_grad or items.requires_grad)
    if not learning:  # a step of autograd costs a tenth of a small read
        return _read_forward(query, items, threshold, temperature, cosine, False)[0]
    return _SparseRead.apply(  # type: ignore[no-any-return,no-untyped-call]  # torch has no annotation
        query, items, threshold, temperature, cosine
    )


def _blocks(rows: int, num_items: int) -> list[slice]:
    size = max(BLOCK_ROWS, BLOCK_ELEMENTS // max(1, num_items))
    return [slice(start, min(start + size, rows)) for start in range(0, max(rows, 1), size)]


def _weigh(logits: Tensor, threshold: float, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Writes the masked-softmax weights of logits, from which it takes the greatest of each row.

    Gives the entropies, sum(w s) of what the logits are then, what was taken, and the fallback rows.
    """
    greatest = logits.amax(dim=1, keepdim=True)
    torch.softmax(logits.sub_(greatest), dim=1, out=weights)
    fallback = torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    if threshold > 0:
        torch.threshold_(weights, threshold, 0.0)
        kept = weights.sum(dim=1, keepdim=True)
        fallback = kept.squeeze(1) == 0
        if weights.device.type != "cpu":  # to ask a GPU which rows means to wait for it
            lone = fallback[:, None].to(weights)
            weights.scatter_add_(1, logits.argmax(dim=1, keepdim=True), lone)
            kept += lone
        elif len(rows := fallback.nonzero().squeeze(1)):
            weights[rows, logits[rows].argmax(dim=1)] = 1
            kept[rows] = 1
        weights /= kept
    # log w = s + log(greatest w), as the greatest s is 0 now: no logarithm of all the weights, most of which are 0
    mean = (logits * weights).sum(dim=1)
    return -(mean + weights.amax(dim=1).log_()), mean, greatest.squeeze(1), fallback


def _directions(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / |x| row by row, and 1 / |x| as a column."""
    inverse = _row_sums(x * x).sqrt_().clamp_min_(SHORTEST).reciprocal_()
    return x * inverse, inverse


def _row_sums(x: Tensor) -> Tensor:
    """(T, 1) of (T, C), as a product: the library adds short rows ten times slower."""
    return x @ x.new_ones(x.shape[1], 1)


def _through_directions(grad: Tensor, directions: Tensor, inverse: Tensor) -> Tensor:
    """The gradient with respect to x, given that with respect to its directions."""
    along = _row_sums(grad * directions)
    along.masked_fill_(inverse >= 1 / SHORTEST, 0.0)  # there |x| is not what x was divided by
    return grad.addcmul(directions, along, value=-1).mul_(inverse)


class _Kept(NamedTuple):
    """What the backward pass of a read takes from the forward one."""

    query: Tensor
    """(T, C); directions for cosine, as the keys."""
    keys: Tensor
    """(N, C), divided by the temperature."""
    items: Tensor
    weights: Tensor
    logits: Tensor
    """(T, N), less the greatest of each row; (0, N) for narrow items."""
    value: Tensor
    mean: Tensor
    """(T,) sum(w s); of the logits as they are kept, where they are."""
    entropy: Tensor
    inverse: tuple[Tensor, ...]
    """For cosine 1 / |x| of the queries and of the items, as columns; else empty."""


def _read_forward(
    query: Tensor, items: Tensor, threshold: float, temperature: float, cosine: bool, learning: bool
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], _Kept]:
    """What `sparse_read` gives, and what `_read_backward` takes where it is `learning`; autograd sees none of it."""
    inverse: tuple[Tensor, ...] = ()
    keys = items
    if cosine:
        (query, query_inverse), (keys, key_inverse) = _directions(query), _directions(items)
        inverse = query_inverse, key_inverse
    keys = keys / temperature
    rows, num_items = query.shape[0], keys.shape[0]
    weights = query.new_empty(rows, num_items)
    keep = learning and query.shape[1] > MERGED
    logits = query.new_empty(rows if keep else 0, num_items)
    found = []
    for block in _blocks(rows, num_items):
        some = _product(query[block], keys.T)
        entropies, means, greatest, lone = _weigh(some, threshold, weights[block])
        if keep:
            logits = _with_block(logits, block, some)
        elif learning:
            means += greatest
        found.append((_product(weights[block], items), entropies, means, lone))
    value, entropy, mean, fallback = (_joined(parts) for parts in zip(*found, strict=True))
    kept = _Kept(query, keys, items, weights, logits, value, mean, entropy, inverse)
    return (value, weights, entropy, fallback), kept


def _read_backward(
    kept: _Kept,
    temperature: float,
    grad_value: Tensor | None,
    grad_weights: Tensor | None,
    grad_entropy: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The gradients of queries (T, C) and items (N, C), given those of value, weights and entropy."""
    query, keys, items, weights, logits, value, mean, entropy, inverse = kept
    wide = len(logits) > 0
    grad_query, grad_keys = torch.empty_like(query), torch.zeros_like(keys)
    if grad_value is None:
        grad_value = torch.zeros_like(value)
    constant, left, right = -_row_sums(grad_value * value), grad_value, items
    if grad_entropy is not None:
        constant += (grad_entropy * mean)[:, None]
        if not wide:
            left = torch.cat([left, query * -grad_entropy[:, None]], dim=1)
            right = torch.cat([right, keys], dim=1)
    # a weight of 1 is constant: what rounding leaves of its gradient is none, and Adam would make much of it
    several = (entropy > 0)[:, None].to(value)
    if not wide:  # the constant as one more column of the product; for wide items a copy of them costs more
        left = torch.cat([left, constant], dim=1) * several
        right = torch.cat([right, right.new_ones(len(right), 1)], dim=1)
    for block in _blocks(query.shape[0], keys.shape[0]):
        w = weights[block]
        grad_logits = _product(left[block], right.T)
        if wide:
            grad_logits += constant[block]
            if grad_entropy is not None:
                grad_logits.addcmul_(logits[block], grad_entropy[block, None], value=-1)
            grad_logits *= several[block]
        if grad_weights is not None:
            grad_logits += grad_weights[block] - (grad_weights[block] * w).sum(dim=1, keepdim=True)
        grad_logits *= w
        grad_query = _with_block(grad_query, block, _product(grad_logits, keys))
        grad_keys += _product(grad_logits.T, query[block])
    grad_keys /= temperature
    if inverse:
        grad_query = _through_directions(grad_query, query, inverse[0])
        grad_keys = _through_directions(grad_keys, keys * temperature, inverse[1])
    return grad_query, grad_keys.add_(_product(weights.T, grad_value))


def _product(left: Tensor, right: Tensor) -> Tensor:
    return (right.T @ left.T).T if right.shape[1] < NARROW else left @ right


def _joined(blocks: Sequence[Tensor]) -> Tensor:
    return blocks[0].contiguous() if len(blocks) == 1 else torch.cat(tuple(blocks))


def _with_block(whole: Tensor, block: slice, rows: Tensor) -> Tensor:
    """The whole with these rows as its block; they themselves where they are all of it: a copy takes a good part."""
    if len(rows) == len(whole):
        return rows.contiguous()
    whole[block] = rows
    return whole


class _SparseRead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, items: Tensor, threshold: float, temperature: float, cosine: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found, kept = _read_forward(query, items, threshold, temperature, cosine, True)
        ctx.save_for_backward(*kept[:-1], *kept.inverse)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(found[-1])
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any,
        grad_value: Tensor | None,
        grad_weights: Tensor | None,
        grad_entropy: Tensor | None,
        _grad_fallback: None,
    ) -> tuple[Tensor, Tensor, None, None, None]:
        kept = _Kept._make([*ctx.saved_tensors[:8], ctx.saved_tensors[8:]])
        with torch.autocast(kept.query.device.type, enabled=False):  # backward may be called inside autocast, too
            grads = _read_backward(kept, ctx.temperature, grad_value, grad_weights, grad_entropy)
        return *grads, None, None, None
