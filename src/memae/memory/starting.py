"""Which encodings a memory starts from: random ones, or centres of k-means; and which replace its dead items."""

from __future__ import annotations

import torch
from torch import Tensor

from memae.config import Initialisation
from memae.progress import Progress, stage

__all__ = ["kmeans_batch_size", "random_items", "starting_items"]

REPEAT_NOISE = 0.01  # of the root mean square: what repeated rows are moved by


@torch.no_grad()
def starting_items(
    encodings: Tensor,
    count: int,
    how: Initialisation,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Tensor:
    """(count, C) items for `Fillable.initialise`, no two of them equal.

    Args:
        encodings: (S, C) of a warm encoder, enough to see the variety of the data.
        count: N.
        how: "data" draws encodings, each once while there are enough; "kmeans" takes the centres of mini-batch k-means
            (Sculley, 2010), or encodings where there are no more than `count`.
        generator: the source of all randomness here, on the CPU.
        progress: who is told how far the work is.

    Raises:
        ValueError: "uniform", which is the start that a memory is made with.
    """
    if how == "uniform":
        raise ValueError("a uniform start needs no encodings: it is what a memory is made with")
    rows = encodings.float()
    if how == "data" or len(rows) <= count:
        return random_items(rows, count, generator)
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    with stage(progress, "clustering the encodings", "items", count) as done:
        centres = _centres(rows, count, seed)
        done(count)
    return _without_repeats(centres, generator)


@torch.no_grad()
def random_items(encodings: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count, C) encodings at random, each once while there are enough; repeats are moved a little."""
    order = torch.randperm(len(encodings), generator=generator)[:count]
    again = torch.randint(len(encodings), (count - len(order),), generator=generator)
    return _without_repeats(encodings[torch.cat([order, again]).to(encodings.device)], generator)


def kmeans_batch_size(count: int) -> int:
    """Encodings of one step of k-means with so many centres."""
    return max(1024, 3 * count)


def _centres(points: Tensor, count: int, seed: int) -> Tensor:
    from sklearn.cluster import MiniBatchKMeans

    found = MiniBatchKMeans(count, random_state=seed, n_init=1, batch_size=kmeans_batch_size(count))
    return torch.from_numpy(found.fit(points.cpu().numpy()).cluster_centers_).to(points)


def _without_repeats(rows: Tensor, generator: torch.Generator) -> Tensor:
    """The rows, each exact repeat of an earlier one slightly moved: both would get the same gradient for ever."""
    _, kind = torch.unique(rows, dim=0, return_inverse=True)
    place = torch.arange(len(rows), device=rows.device)
    first = torch.full_like(place, len(rows)).scatter_reduce(0, kind, place, "amin")
    repeated = first[kind] != place
    noise = torch.randn(int(repeated.sum()), rows.shape[1], generator=generator).to(rows)
    rows[repeated] += REPEAT_NOISE * rows.square().mean().sqrt() * noise
    return rows
