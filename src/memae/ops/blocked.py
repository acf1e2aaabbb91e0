"""The sparse read in blocks of rows, and its gradient; where few weights are above 0, that of these alone.

Forward, for logits s = d(q, k) / temperature, with K the kept set { i : softmax(s)_i > lambda } (or the best item alone
where that is empty):

    w = softmax of s over K,  value = w M,  entropy E = -sum_i w_i log w_i

Backward, for upstream gradients g of the value and h of the entropy (and r of the weights), K held fixed, as
it is almost everywhere:

    u = g M^T - h log w + r,   ds = w (u - sum(w u))
    dq = ds k / temperature,   dk = ds^T q / temperature,   dM = w^T g

A shrunken read keeps a handful of hundreds or thousands of items. On a CPU their places are found once, and all that
follows the softmax is computed for them alone (`_Few`). A GPU, and a read that keeps many, works on all of T x N. Then
log w is s less a constant of the row, which falls out of u - sum(w u), and sum(w g M^T) is g value. So, but for r,
u - sum(w u) = g M^T + c - h s with c = h sum(w s) - g value: no logarithm and no mean over T x N.

For cosine q and k are directions, x / |x|, and a gradient d of a direction e is (d - e (e d)) / |x| of the vector. It
is all one function, because each step of autograd costs more than its work on a small batch. A block is small enough
that its logits stay in the cache between the matrix product and the softmax.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["sparse_read"]

BLOCK_ELEMENTS = 1 << 18  # logits per block: 1 MiB in float32, about one core's second-level cache
SHORTEST = 1e-12  # vectors shorter than this are divided by it
NARROW = 16  # matrices of fewer columns are multiplied faster from the other side
FEW = 64  # at most one weight in so many is above 0: then these alone are gone through


def sparse_read(
    query: Tensor, items: Tensor, threshold: float, temperature: float, cosine: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value (T, C), weights (T, N), entropy (T,), rescued (T,) bool of queries (T, C) and items (N, C) of one dtype.

    Differentiable once in query and items. A threshold of 0 keeps every item.
    """
    return _SparseRead.apply(  # type: ignore[no-any-return,no-untyped-call]
        query, items, threshold, temperature, cosine, torch.is_grad_enabled()
    )


def _blocks(rows: int, num_items: int) -> list[slice]:
    size = max(1, BLOCK_ELEMENTS // max(1, num_items))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _weigh(logits: Tensor, threshold: float, weights: Tensor) -> Tensor:
    """Writes the masked-softmax weights of logits, from which it takes the greatest of each row; the rescued rows."""
    logits -= logits.amax(dim=1, keepdim=True)
    torch.softmax(logits, dim=1, out=weights)
    rescued = torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    if threshold > 0:
        torch.threshold_(weights, threshold, 0.0)
        kept = weights.sum(dim=1, keepdim=True)
        rescued = kept.squeeze(1) == 0
        if weights.device.type != "cpu":  # to ask a GPU which rows means to wait for it
            lone = rescued[:, None].to(weights)
            weights.scatter_add_(1, logits.argmax(dim=1, keepdim=True), lone)
            kept += lone
        elif len(rows := rescued.nonzero().squeeze(1)):
            weights[rows, logits[rows].argmax(dim=1)] = 1
            kept[rows] = 1
        weights /= kept
    return rescued


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


class _Few(NamedTuple):
    """The weights above 0 of a read of T queries, n in all, row by row."""

    weights: Tensor
    """(n,)"""
    rows: Tensor
    """(n,) the query of each"""
    items: Tensor
    """(n,) the item of each"""
    starts: Tensor
    """(T,) where each row begins"""

    @classmethod
    def at(cls, places: Tensor, weights: Tensor) -> _Few:
        """Those at the places (n,) of the flat weights (T, N)."""
        rows = places.div(weights.shape[1], rounding_mode="floor")
        items = places - rows * weights.shape[1]
        return cls(weights.view(-1).index_select(0, places), rows, items, _starts(rows, len(weights)))

    def by_query(self, factors: Tensor, x: Tensor) -> Tensor:
        """(T, C): for each query the sum of the rows of x (N, C) of its items, times factors (n,)."""
        return F.embedding_bag(self.items, x, self.starts, mode="sum", per_sample_weights=factors)

    def by_item(self, num_items: int, *sums: tuple[Tensor, Tensor]) -> list[Tensor]:
        """(N, C) for each (factors (n,), x (T, C)): for each item the sum of the rows of x of its queries."""
        # of 16 bits numpy sorts by the digits, in a third of the time
        numbers = self.items.numpy().astype(np.uint16 if num_items <= 1 << 16 else np.int64)
        order = torch.from_numpy(np.argsort(numbers, kind="stable"))
        rows, starts = self.rows.index_select(0, order), _starts(self.items, num_items)
        return [
            F.embedding_bag(rows, x, starts, mode="sum", per_sample_weights=factors.index_select(0, order))
            for factors, x in sums
        ]

    def row_sums(self, x: Tensor) -> Tensor:
        """(T,) of x (n,)."""
        return x.new_zeros(len(self.starts)).index_add_(0, self.rows, x)


class _All(NamedTuple):
    """All weights of a read, and what their gradient wants besides."""

    weights: Tensor
    """(T, N)"""
    logits: Tensor
    """(T, N) less the greatest of each row"""
    value: Tensor
    """(T, C)"""
    mean: Tensor
    """(T,) sum(w s)"""
    entropy: Tensor
    """(T,)"""


class _Upstream(NamedTuple):
    """Gradients of what a read gives."""

    value: Tensor
    weights: Tensor | None
    entropy: Tensor | None


def _starts(groups: Tensor, count: int) -> Tensor:
    """Where each of `count` groups begins, if the elements (n,) lie group by group."""
    sizes = torch.bincount(groups, minlength=count)
    return sizes.cumsum(0) - sizes


def _not_zero(weights: Tensor) -> Tensor:
    """The flat places of what is not 0, in order; numpy finds them in a tenth of the time of torch."""
    return torch.from_numpy(np.flatnonzero(np.not_equal(weights.numpy(), 0)))


class _SparseRead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, items: Tensor, threshold: float, temperature: float, cosine: bool, learning: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        lengths: tuple[Tensor, ...] = ()
        keys = items
        if cosine:
            (query, query_inverse), (keys, key_inverse) = _directions(query), _directions(items)
            lengths = query_inverse, key_inverse
        keys = keys / temperature
        rows, num_items = query.shape[0], keys.shape[0]
        blocks = _blocks(rows, num_items)
        weights = query.new_empty(rows, num_items)
        rescued = torch.empty(rows, dtype=torch.bool, device=query.device)
        few = rows > 0 and threshold > 0 and query.device.type == "cpu"
        places: list[Tensor] = []
        logits = torch.empty_like(weights[: rows if learning else blocks[0].stop])
        entropy, mean = query.new_empty(rows), query.new_empty(rows)
        value = query.new_empty(rows, items.shape[1])
        for block in blocks:
            w = weights[block]
            some = logits[block] if learning and not few else logits[: len(w)]
            rescued[block] = _weigh(torch.mm(query[block], keys.T, out=some), threshold, w)
            if few:
                found = _not_zero(w)
                few = bool(places) or len(found) * FEW <= w.numel()  # the first block speaks for all
                places.append(found + block.start * num_items)
            if not few:
                value[block] = _product(w, items)
                # log w = s + log(greatest w), as the greatest s is 0 now: no logarithm of all the weights
                mean[block] = (some * w).sum(dim=1)
                entropy[block] = -(mean[block] + w.amax(dim=1).log_())
        kept: _Few | _All = _All(weights, logits, value, mean, entropy)
        if few:
            kept = _Few.at(torch.cat(places), weights)
            value = kept.by_query(kept.weights, items)
            entropy = -kept.row_sums(kept.weights * kept.weights.log())
        ctx.save_for_backward(query, keys, items, *kept, *lengths)
        ctx.few, ctx.temperature = few, temperature
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
    ) -> tuple[Tensor, Tensor, None, None, None, None]:
        query, keys, items, *more = ctx.saved_tensors
        with torch.autocast(query.device.type, enabled=False):  # backward may be called inside autocast, too
            upstream = _Upstream(
                torch.zeros_like(query) if grad_value is None else grad_value, grad_weights, grad_entropy
            )
            if ctx.few:
                lengths = more[len(_Few._fields) :]
                kept = _Few(*more[: len(_Few._fields)])
                grad_query, grad_keys, grad_items = _few_gradients(query, keys, items, kept, upstream)
            else:
                lengths = more[len(_All._fields) :]
                every = _All(*more[: len(_All._fields)])
                grad_query, grad_keys, grad_items = _gradients(query, keys, items, every, upstream)
            grad_keys /= ctx.temperature
            if lengths:
                grad_query = _through_directions(grad_query, query, lengths[0])
                grad_keys = _through_directions(grad_keys, keys * ctx.temperature, lengths[1])
        return grad_query, grad_keys.add_(grad_items), None, None, None, None


def _few_gradients(
    query: Tensor, keys: Tensor, items: Tensor, few: _Few, upstream: _Upstream
) -> tuple[Tensor, Tensor, Tensor]:
    """With respect to the query, the keys (times the temperature) and the items as values."""
    w = few.weights
    # index_select, as x[index] takes three times as long
    pull = upstream.value.index_select(0, few.rows).mul_(items.index_select(0, few.items)).sum(dim=1)
    if upstream.entropy is not None:
        pull -= upstream.entropy.index_select(0, few.rows) * w.log()
    if upstream.weights is not None:
        pull += upstream.weights[few.rows, few.items]
    # of a weight of 1 nothing is left, not even rounding, of which Adam would make much
    grad_logits = w * (pull - few.row_sums(w * pull).index_select(0, few.rows))
    grad_keys, grad_items = few.by_item(len(items), (grad_logits, query), (w, upstream.value))
    return few.by_query(grad_logits, keys), grad_keys, grad_items


def _gradients(
    query: Tensor, keys: Tensor, items: Tensor, every: _All, upstream: _Upstream
) -> tuple[Tensor, Tensor, Tensor]:
    """The same from all weights, block by block."""
    grad_query, grad_keys = torch.empty_like(query), torch.zeros_like(keys)
    constant = -(upstream.value * every.value).sum(dim=1, keepdim=True)
    if upstream.entropy is not None:
        constant += (upstream.entropy * every.mean)[:, None]
    # a weight of 1 is constant: what rounding leaves of its gradient is none, and Adam would make much of it
    several = (every.entropy > 0)[:, None].to(query)
    left, constant = upstream.value * several, constant * several
    for block in _blocks(query.shape[0], keys.shape[0]):
        w = every.weights[block]
        grad_logits = torch.addmm(constant[block], left[block], items.T)
        if upstream.entropy is not None:
            pull = upstream.entropy[block, None] * several[block]
            grad_logits.addcmul_(every.logits[block], pull, value=-1)
        if upstream.weights is not None:
            given = upstream.weights[block]
            grad_logits += given - (given * w).sum(dim=1, keepdim=True)
        grad_logits *= w
        grad_query[block] = _product(grad_logits, keys)
        grad_keys += _product(grad_logits.T, query[block])
    return grad_query, grad_keys, _product(every.weights.T, upstream.value)
