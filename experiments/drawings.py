"""The figures of docs/figures.md, drawn from the files of `experiments.figures`; never trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from experiments.figures import FIGURES, pictures_of, results_of
from memae import MemoryItems
from memae.files.atomic import atomic_file
from memae.plots.figures import draw_items

__all__ = ["DRAWINGS", "IMAGES", "draw_figures"]

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DEGENERATE = 0.9  # share of queries for which nothing passes the shrinkage
RED, BLUE, GREY = "#c4502e", "#2e6fc4", "#707070"
STARTS = {"sparsity": "items from k-means", "sparsity-uniform": "items from a uniform draw"}
LOG_TICKS = (1, 3, 10, 30, 100)
LOOK_UPS = {"1-nn-cosine": "cosine look-up", "1-nn-smooth-cosine": "smoothed cosine look-up"}
ERROR_TICKS = (0, 0.1, 0.5, 1, 2, 3, 5, 10, 20)
PRESETS = {
    "mnist": ("our default", RED),
    "mnist-paper": ("preset paper", BLUE),
    "mnist-released": ("preset released", GREY),
}


def draw_figures(root: Path = FIGURES, folder: Path = IMAGES) -> Iterator[Path]:
    """Draws each figure whose results are there; gives the paths of the pictures."""
    for name, draw in DRAWINGS.items():
        path = folder / f"{name}.png"
        if draw(root, path):
            yield path


def draw_memory_size(root: Path, path: Path) -> bool:
    """AUROC against N, one dot a seed and a line through their means; AE and look-ups as lines across."""
    results = results_of("memory-size", root)
    sized: dict[int, list[float]] = {}
    plain, look_ups = [], {}
    for name, found in results.items():
        value = found["metrics"]["auroc"]
        if found["preset"] is None:
            look_ups[name] = value
        elif found["training"]["memory"] is None:
            plain.append(value)
        else:
            sized.setdefault(found["training"]["memory"]["items"], []).append(value)
    if not (sized and plain and look_ups):
        return False
    sizes = sorted(sized)
    means = [float(np.mean(sized[n])) for n in sizes]
    figure = Figure(figsize=(6.6, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot(sizes, means, color=RED, lw=2, zorder=3)
    for n in sizes:
        axis.scatter([n] * len(sized[n]), sized[n], color=RED, s=22, alpha=0.6, lw=0, zorder=4)
    for n, mean in zip(sizes, means, strict=True):
        axis.annotate(
            _short(mean), (n, max(sized[n])), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8.5
        )
    data = next(found["data"] for found in results.values() if found["preset"] is None)
    for name, value in look_ups.items():
        _across(axis, value, BLUE, f"{LOOK_UPS.get(name, name)} of {data['fit']:,} images", sizes)
    _across(axis, float(np.mean(plain)), GREY, "plain autoencoder", sizes)
    if len(plain) > 1:
        axis.axhspan(min(plain), max(plain), color=GREY, alpha=0.15, lw=0)
    axis.annotate("MemAE", (sizes[0], means[0]), xytext=(-8, 0), textcoords="offset points", ha="right",
                  va="center", fontsize=9, color=RED)  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlim(sizes[0] / 1.55, sizes[-1] * 1.2)
    axis.set_xticks(sizes, [str(n) for n in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    low, high = axis.get_ylim()
    axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axis.set_xlabel("items N")
    axis.set_ylabel("AUROC")
    seeds = max(map(len, sized.values()))
    figure.suptitle(f"{_caption(_first(results))}; {seeds} seed{'s' if seeds > 1 else ''}", fontsize=9)
    _finish(figure, [axis], path)
    return True


def draw_sparsity(root: Path, path: Path) -> bool:
    """AUROC by shrinkage and temperature for each start of the items; the degenerate region is hatched."""
    panels = {title: found for figure, title in STARTS.items() if (found := results_of(figure, root))}
    if not panels:
        return False
    scores = [result["metrics"]["auroc"] for found in panels.values() for result in found.values()]
    figure = Figure(figsize=(1 + 5.2 * len(panels), 4.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    picture: Any = None
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        picture = _heat_map(axis, list(found.values()), min(scores), max(scores))
        training = _first(found)["training"]
        warm = f"{training['warm']} warm and " if training["warm"] else ""
        axis.set_title(f"{title}: {warm}{training['epochs']} epochs", fontsize=9.5)
    figure.colorbar(picture, ax=axes, label="AUROC", pad=0.01)
    data = _first(next(iter(panels.values())))["data"]
    figure.suptitle(
        f"MNIST {data['normal']}, validation split, {data['fit']:,} images; AUROC, items in a read of items used. "
        f"Red: for at least {DEGENERATE:.0%} of the queries nothing survives the shrinkage",
        fontsize=9,
    )
    _finish(figure, [], path)
    return True


def _heat_map(axis: Any, results: Sequence[Mapping[str, Any]], low: float, high: float) -> Any:
    found = {_place(result): result for result in results}
    shrinkages, sharpness = (sorted({place[which] for place in found}) for which in (0, 1))
    grid = np.full((len(shrinkages), len(sharpness)), np.nan)
    for (shrinkage, sharp), result in found.items():
        x, y = sharpness.index(sharp), shrinkages.index(shrinkage)
        value, memory = result["metrics"]["auroc"], result["memory"]
        grid[y, x] = value
        ink = "black" if value > (low + high) / 2 else "white"
        axis.text(x, y + 0.14, _short(value), ha="center", va="center", fontsize=10, color=ink)
        axis.text(x, y - 0.22, _read(memory), ha="center", va="center", fontsize=7.5, color=ink)
        if memory["fallback_share"] >= DEGENERATE:
            axis.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, hatch="/", edgecolor=RED, lw=2))
    axis.set_xticks(range(len(sharpness)), [f"1/{sharp:g}" if sharp > 1 else "1" for sharp in sharpness])
    axis.set_yticks(range(len(shrinkages)), [f"{s:g}/N" if s else "0" for s in shrinkages])
    axis.set_xlabel("temperature")
    axis.set_ylabel("shrinkage")
    return axis.imshow(grid, cmap="viridis", aspect="auto", origin="lower", vmin=low, vmax=high)


def draw_training(root: Path, path: Path) -> bool:
    """Items used, items in a read and argmax fallback, epoch by epoch, of each preset."""
    results = results_of("training", root)
    if not results:
        return False
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    panels = (
        ("items_used", "items used"),
        ("items_per_query", "items in a read"),
        ("fallback_share", "queries with argmax fallback"),
    )
    for axis, (key, title) in zip(axes, panels, strict=True):
        for preset, (label, colour) in PRESETS.items():
            if preset not in results:
                continue
            found = results[preset]
            values = [epoch[key] for epoch in found["epochs"]]
            text = f"{label} (AUROC {_short(found['metrics']['auroc'])})"
            axis.plot(range(1, len(values) + 1), values, color=colour, lw=1.8, marker=".", ms=4, label=text)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
    axes[0].set_ylim(bottom=0)
    axes[1].set_yscale("log")
    axes[1].set_yticks(LOG_TICKS, [str(tick) for tick in LOG_TICKS])
    axes[1].yaxis.set_minor_locator(NullLocator())
    axes[1].set_ylim(0.8, 120)
    axes[2].set_ylim(-0.03, 1.03)
    axes[2].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9
    )
    data = _first(results)["data"]
    figure.suptitle(f"MNIST {data['normal']}, {data['fit']:,} images, epochs with the memory", fontsize=9)
    _finish(figure, axes, path)
    return True


def draw_digits(root: Path, path: Path) -> bool:
    """Digits of the trained and of another class: input, rebuilt by AE and MemAE, and where each errs."""
    results = results_of("digits", root)
    if not {"autoencoder", "memae"} <= set(results):
        return False
    kept = {name: pictures_of("digits", name, root) for name in ("autoencoder", "memae")}
    digits = results["memae"]["digits"]
    titles = {"autoencoder": "plain AE", "memae": "MemAE"}
    rows = [("input", kept["memae"]["x"], None)]
    for name, title in titles.items():
        rows.append((f"{title},\nrebuilt", kept[name]["reconstruction"], None))
        rows.append((f"{title},\nerror", kept[name]["error_map"], results[name]["scores"]))
    most = float(np.quantile(np.stack([kept[name]["error_map"] for name in titles]), 0.998))
    figure = Figure(figsize=(9.2, 6.1), layout="constrained")
    axes = figure.subplots(len(rows), len(digits), squeeze=False)
    map_picture: Any = None
    for line, (title, pictures, scores) in zip(axes, rows, strict=True):
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
        for place, (axis, picture) in enumerate(zip(line, pictures, strict=True)):
            axis.set_xticks([])
            axis.set_yticks([])
            if scores is None:
                seen = kept["memae"]["x"][place]
                axis.imshow(picture, cmap="gray", vmin=seen.min(), vmax=seen.max())
            else:
                map_picture = axis.imshow(picture, cmap="inferno", norm=PowerNorm(0.5, 0, most, clip=True))
                axis.set_xlabel(f"{scores[place]:.3f}", fontsize=8, labelpad=2)
    for axis, digit in zip(axes[0], digits, strict=True):
        normal = digit == results["memae"]["data"]["normal"]
        axis.set_title(f"{digit}, {'normal' if normal else 'anomaly'}", fontsize=9, color=BLUE if normal else RED)
    ticks = [tick for tick in ERROR_TICKS if tick <= most]
    bar = figure.colorbar(map_picture, ax=axes, shrink=0.5, pad=0.01, label="squared error")
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ranked = "; ".join(
        f"{title} {_short(results[name]['metrics']['auroc_nines'])}" for name, title in titles.items()
    )
    data = results["memae"]["data"]
    figure.suptitle(
        f"trained on {data['fit']:,} fives; under each error map its mean, the score; "
        f"AUROC of {data['nines']:,} nines: {ranked}",
        fontsize=9,
    )
    _finish(figure, [], path)
    return True


def draw_memory_items(root: Path, path: Path) -> bool:
    """Each item of the model of the fives decoded alone."""
    if "memae" not in results_of("digits", root):
        return False
    kept = pictures_of("digits", "memae", root)
    draw_items(MemoryItems(kept["uses"], [], kept["items"][:, None], None), path)
    return True


DRAWINGS: Mapping[str, Callable[[Path, Path], bool]] = {
    "memory-size": draw_memory_size,
    "sparsity": draw_sparsity,
    "training": draw_training,
    "digits": draw_digits,
    "memory-items": draw_memory_items,
}


def _place(result: Mapping[str, Any]) -> tuple[float, float]:
    memory = result["training"]["memory"]
    return memory["shrinkage"], round(1 / memory["temperature"], 6)


def _read(memory: Mapping[str, float]) -> str:
    """Items in a read, of those that any query read."""
    count = memory["items_per_query"]
    return (
        f"{count:.3g} of {memory['items_used']:g}" if count >= 99.5 else f"{count:.1f} of {memory['items_used']:g}"
    )


def _first(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The first with a memory."""
    return next(found for found in results.values() if found.get("training", {}).get("memory"))


def _caption(found: Mapping[str, Any]) -> str:
    data, training = found["data"], found["training"]
    return (
        f"MNIST {data['normal']}, validation split; {data['fit']:,} images, {training['epochs']} epochs "
        f"after {training['warm']} warm ones"
    )


def _across(axis: Any, value: float, colour: str, label: str, sizes: Sequence[int]) -> None:
    axis.axhline(value, color=colour, lw=1.5, ls="--")
    axis.annotate(f"{label} {_short(value)}", (sizes[-1] * 1.15, value), xytext=(0, -12), textcoords="offset points",
                  ha="right", fontsize=9, color=colour)  # fmt: skip


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _finish(figure: Figure, axes: Sequence[Any], path: Path) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8.5)
        axis.grid(alpha=0.25, lw=0.5)
    FigureCanvasAgg(figure)
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=130, metadata={"Software": None})
