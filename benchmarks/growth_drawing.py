"""The picture of the growth benchmark: time and memory against size on log axes, with the expected slope."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from memae.files.atomic import atomic_file

__all__ = ["draw_growth"]

COLOURS = {"fit": "#c4502e", "score": "#2e6fc4"}
GREY = "#909090"


def draw_growth(found: Mapping[str, Any], path: Path) -> None:
    """Draws what `growth_benchmark` gives as a PNG: seconds above, MB below, a column for each axis."""
    axes: Mapping[str, Any] = found["axes"]
    figure = Figure(figsize=(2.9 * len(axes), 5.6), layout="constrained")
    panels = figure.subplots(2, len(axes), squeeze=False)
    for column, (name, axis) in enumerate(axes.items()):
        for row, (unit, title) in enumerate({"s": "processor seconds", "mb": "peak memory, MB"}.items()):
            panel = panels[row][column]
            for verb, colour in COLOURS.items():
                _draw_measure(panel, axis, f"{verb}_{unit}", verb, colour, found["expected_slope"])
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.tick_params(labelsize=8)
            panel.grid(alpha=0.2)
            if column == 0:
                panel.set_ylabel(title, fontsize=9)
        panels[0][column].set_title(name, fontsize=10)
        panels[1][column].set_xlabel(axis["unit"], fontsize=8)
    panels[0][0].legend(fontsize=8, frameon=False)
    FigureCanvasAgg(figure)
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": None})


def _draw_measure(
    panel: Axes, axis: Mapping[str, Any], measure: str, verb: str, colour: str, expected: float
) -> None:
    sizes, values = axis["sizes"], [max(value, 1e-3) for value in axis[measure]]
    panel.plot(sizes, values, color=colour, marker="o", ms=4, lw=1.6, label=verb)
    ends = [sizes[-2], sizes[-1]]
    panel.plot(ends, [values[-2] * (size / ends[0]) ** expected for size in ends], color=GREY, lw=1, ls="--",
               label="expected slope" if verb == "score" else None)  # fmt: skip
    panel.annotate(
        f"{axis['slopes'][measure]:.2f}", (sizes[-1], values[-1]), xytext=(0, 6), textcoords="offset points",
        ha="right", fontsize=8, color=colour,
    )  # fmt: skip
