"""The picture of the soak: lag, drops and memory of a watch over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from memae.files.atomic import atomic_file

__all__ = ["draw_soak"]


def draw_soak(found: Mapping[str, Any], path: Path) -> None:
    """Draws what `soak_benchmark` gives as a PNG: the lag above, scored and dropped frames, and memory."""
    tenths = found["over_time"]
    minutes = [one["minute"] for one in tenths]
    length_s = 60 * found["minutes"] / len(tenths)
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    lag, frames, memory = figure.subplots(3, 1, sharex=True)
    for name, label, colour in (("lag_p50_s", "median", "#2e6fc4"), ("lag_p99_s", "99 %", "#c4502e")):
        lag.plot(minutes, [one[name] for one in tenths], color=colour, marker="o", ms=4, label=label)
    lag.set_ylabel("frame to score, s")
    lag.legend(fontsize=8, frameon=False)
    frames.plot(
        minutes, [one["frames"] / length_s for one in tenths], color="#2e6fc4", marker="o", ms=4, label="scored"
    )
    frames.axhline(found["cameras"] * found["rate"], color="#909090", lw=1, ls="--")
    frames.plot(
        minutes, [one["dropped"] / length_s for one in tenths], color="#c4502e", marker="o", ms=4, label="dropped"
    )
    frames.set_ylabel("frames/s")
    frames.legend(fontsize=8, frameon=False)
    memory.plot(minutes, [one["resident_mb"] for one in tenths], color="#2e6fc4", marker="o", ms=4)
    memory.set_ylabel("memory, MB")
    memory.set_xlabel("minutes")
    for panel in (lag, frames, memory):
        panel.set_ylim(0, 1.15 * panel.get_ylim()[1])
        panel.grid(alpha=0.2)
    FigureCanvasAgg(figure)
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": None})
