"""Pictures that explain: input, reconstruction and error map side by side; the items of a memory; a table's row.

Each is written as PNG; `explanation_figure` gives a figure of matplotlib.

Grey and colour images are drawn in the units that the network sees; an error map is drawn from 0 to the largest
error shown, so that samples can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from memae.errors import DataError, printable
from memae.files.atomic import atomic_file
from memae.memory.shown import MemoryItems
from memae.types import Explanation

__all__ = ["draw_cells", "draw_items", "draw_reconstructions", "explanation_figure"]

MAX_ITEMS = 100  # decoded items in one picture, the most used first


def explanation_figure(found: Explanation) -> Figure:
    """One `memae.Explanation` as a matplotlib figure, which a notebook shows and `savefig` writes.

    Of a row it has a bar for each of the columns that carry most of the score, with seen and expected value. Of an
    image or a frame it has the input, the reconstruction, the squared error and the anomaly map, where there are these.

    Raises:
        DataError: an explanation without columns and pictures.
    """
    caption = f"{printable(str(found.key))}: score {found.score:.4g}"
    if found.cells:
        return cells_figure([found], [caption])
    pictures = {"input": found.x, "reconstruction": found.reconstruction}
    maps = {"squared error": found.error_map, "anomaly map": found.anomaly_map}
    shown = {name: one for name, one in (pictures | maps).items() if one is not None}
    if not shown:
        raise DataError(
            f"{found.key}: the explanation holds no columns and no pictures; take that of `Detector.explain`"
        )
    figure = Figure(figsize=(2.4 * len(shown) + 0.8, 2.9), layout="constrained")
    for axis, (name, values) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        if name in pictures:
            seen = values if found.x is None else found.x
            _show(axis, values, float(seen.min()), float(seen.max()))
        else:
            figure.colorbar(axis.imshow(values, cmap="inferno", vmin=0), ax=axis, shrink=0.7)
        axis.set(title=name, xticks=[], yticks=[])
    figure.suptitle(caption, fontsize=10, parse_math=False)
    return figure


def draw_reconstructions(found: Sequence[Explanation], captions: Sequence[str], path: Path) -> None:
    """One row a sample: its caption, what the network saw, what it rebuilt, and where they differ."""
    figure = Figure(figsize=(6.6, 1.75 * len(found) + 0.5), layout="constrained")
    axes = figure.subplots(len(found), 3, squeeze=False)
    most = max(float(np.quantile(e.error_map, 0.999)) for e in found if e.error_map is not None)
    picture: Any = None
    for row, (sample, caption) in enumerate(zip(found, captions, strict=True)):
        assert sample.x is not None and sample.reconstruction is not None and sample.error_map is not None
        low, high = float(sample.x.min()), float(sample.x.max())
        for axis, image in zip(axes[row], (sample.x, sample.reconstruction), strict=False):
            _show(axis, image, low, high)
        picture = axes[row][2].imshow(sample.error_map, cmap="inferno", vmin=0, vmax=most)
        axes[row][0].set_ylabel(caption, rotation=0, ha="right", va="center", fontsize=9, parse_math=False)
    for axis, title in zip(axes[0], ("input", "reconstruction", "squared error"), strict=True):
        axis.set_title(title, fontsize=10)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(picture, ax=axes[:, 2], shrink=0.8, pad=0.04)
    _save(figure, path)


def draw_items(items: MemoryItems, path: Path) -> None:
    """Each item as a picture, the most used first, with the share of the training reads that it took part in.

    An item is shown decoded alone, and beside it as the training sample nearest to it, as far as there are both.
    """
    shown = {"decoded alone": items.pictures, "its nearest training sample": items.sample_pictures}
    views = {name: pictures for name, pictures in shown.items() if pictures is not None}
    assert views, "who draws items has looked for pictures"
    order = np.argsort(-items.usage_counts, kind="stable")[:MAX_ITEMS]
    columns = min(10 // len(views), len(order))
    rows = -(-len(order) // columns)
    width, height = 0.95 * columns * len(views), 1.1 * rows + 0.5
    figure = Figure(figsize=(width, height))  # a constrained layout takes seconds for a hundred axes
    axes = figure.subplots(rows, columns * len(views), squeeze=False, subplot_kw={"xticks": (), "yticks": ()})
    figure.subplots_adjust(0.05 / width, 0.05 / height, 1 - 0.05 / width, 1 - 0.5 / height, 0.08, 0.25)
    total = max(1, int(items.usage_counts.sum()))
    ranges = {name: np.quantile(pictures[order], [0.005, 0.995]) for name, pictures in views.items()}
    for axis in axes.flat:
        axis.set_axis_off()
    for place, item in enumerate(order):
        use = items.usage_counts[item] / total
        for number, (name, pictures) in enumerate(views.items()):
            axis = axes.flat[len(views) * place + number]
            _show(axis, pictures[item], *map(float, ranges[name]))
            if number == 0:
                axis.set_title(f"{item}: {use:.1%}" if use else f"{item}: dead", fontsize=7, pad=2)
    counts = items.counts
    which = (
        f"the {len(order)} most used of {counts.items} items"
        if len(order) < counts.items
        else f"{counts.items} items"
    )
    title = f"{which}, {' and '.join(views)}, with its share of all reads; {counts.dead} are dead"
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def draw_cells(found: Sequence[Explanation], captions: Sequence[str], path: Path, columns: int = 8) -> None:
    """A PNG of `cells_figure`."""
    _save(cells_figure(found, captions, columns), path)


def cells_figure(found: Sequence[Explanation], captions: Sequence[str], columns: int = 8) -> Figure:
    """One panel a row of a table: the columns that carry most of its score, with seen and expected value."""
    height = 0.24 * columns + 0.75
    figure = Figure(figsize=(8.4, height * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 1, squeeze=False)
    for axis, sample, caption in zip(axes[:, 0], found, captions, strict=True):
        cells = sample.cells[:columns][::-1]
        total = max(sum(cell.error for cell in sample.cells), 1e-12)
        axis.barh(range(len(cells)), [cell.error / total for cell in cells], color="#c4502e")
        # a column may be called "cost [$]", which is no formula
        axis.set_yticks(range(len(cells)), [cell.column for cell in cells], parse_math=False)
        for place, cell in enumerate(cells):
            axis.annotate(
                f"{_short(cell.seen)}, expected {_short(cell.expected)}",
                (cell.error / total, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
                parse_math=False,
            )  # fmt: skip
        axis.set_xlim(0, 1.45 * max(cell.error / total for cell in cells) + 1e-9)
        axis.set_title(caption, fontsize=10, loc="left", parse_math=False)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    axes[-1, 0].set_xlabel("share of the sample's score", fontsize=9)
    return figure


def _show(axis: Any, image: np.ndarray, low: float, high: float) -> None:
    span = max(high - low, 1e-12)
    if image.shape[0] in (3, 4):
        axis.imshow(np.clip((image[:3].transpose(1, 2, 0) - low) / span, 0, 1))
    else:
        axis.imshow(image[0], cmap="gray", vmin=low, vmax=high)


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=130)
