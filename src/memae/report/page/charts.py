"""Charts as SVG: a histogram of scores, and lines with bands. Colours come from the style sheet, by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from memae.report.page.markup import Markup, tag

__all__ = ["Axis", "Line", "Mark", "histogram", "lines"]

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 30, 46
BINS = 60
SPREAD = 50  # scores of a wider ratio are drawn on a logarithmic axis


@dataclass(frozen=True)
class Axis:
    """One axis: numbers to px."""

    label: str
    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def of(cls, label: str, *values: np.ndarray | float, logarithmic: bool | None = None) -> Axis:
        """An axis that holds all finite values; None decides by their spread whether it is logarithmic."""
        joined = np.concatenate([np.ravel(part) for part in values])
        known = joined[np.isfinite(joined)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        wide = low > 0 and high / low > SPREAD if logarithmic is None else logarithmic and low > 0
        if low == high:
            low, high = (low / 2, high * 2) if wide else (low - 0.5, high + 0.5)
        return cls(label, low, high, wide)

    def share(self, values: np.ndarray) -> np.ndarray:
        """Where values lie, from 0 at the low end to 1 at the high one."""
        if self.logarithmic:
            low, high = math.log(self.low), math.log(self.high)
            shares: np.ndarray = (np.log(np.maximum(values, self.low)) - low) / (high - low)
            return shares
        return (np.asarray(values, dtype=float) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Some round numbers on it."""
        if self.logarithmic:
            low, high = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            step = max(1, (high - low) // 6)
            powers = [10.0**power for power in range(low, high + 1, step)]
            return powers if len(powers) > 1 else [self.low, self.high]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Line:
    """A line of a chart, with an interval at each point where there is one."""

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    colour: str = field(default="main")
    """A class of the style sheet: main, second, or alarm."""


@dataclass(frozen=True)
class Mark:
    """A value of one axis that is marked across the chart."""

    label: str
    value: float
    across: bool = False
    """It is a value of the vertical axis."""


def histogram(
    title: str, about: str, parts: Sequence[tuple[str, str, np.ndarray]], marks: Sequence[Mark]
) -> Markup:
    """How many scores lie where, on a logarithmic axis of counts, so that a single one shows.

    Args:
        title: of the chart.
        about: what it shows, for who cannot see it.
        parts: label, colour and scores of each part; the bars of parts stand before each other.
        marks: scores.
    """
    x = Axis.of("score", *(scores for *_, scores in parts), *(mark.value for mark in marks))
    edges = np.geomspace(x.low, x.high, BINS + 1) if x.logarithmic else np.linspace(x.low, x.high, BINS + 1)
    counts = [np.histogram(np.clip(scores, x.low, x.high), edges)[0] for *_, scores in parts]
    y = Axis("samples", 0.5, max(2.0, float(max(map(np.max, counts)))), logarithmic=True)
    left, up = _places(x, y)
    bars = []
    for (label, colour, _), of_part in zip(parts, counts, strict=True):
        for place in np.flatnonzero(of_part):
            start, end, top = left(edges[place]), left(edges[place + 1]), up(of_part[place])
            told = f"{label}: {of_part[place]:,} from {edges[place]:.4g} to {edges[place + 1]:.4g}"
            bars.append(
                tag(
                    "rect", tag("title", told), class_=f"bar {colour}", x=f"{start:.1f}", y=f"{top:.1f}",
                    width=f"{max(1.0, end - start - 0.5):.1f}", height=f"{HEIGHT - BOTTOM - top:.1f}",
                )
            )  # fmt: skip
    legend = [(label, colour) for label, colour, _ in parts]
    return _chart(title, about, x, y, [*bars, *(_mark(mark, left, up) for mark in marks)], legend)


def lines(title: str, about: str, x: Axis, y: Axis, drawn: Sequence[Line], marks: Sequence[Mark] = ()) -> Markup:
    """Lines over an axis; a point that is not finite interrupts its line."""
    left, up = _places(x, y)
    shapes = [shape for line in drawn for shape in _line(line, left, up)]
    legend = [(line.label, line.colour) for line in drawn if line.label]
    return _chart(title, about, x, y, [*shapes, *(_mark(mark, left, up) for mark in marks)], legend)


Place = Callable[[float], float]


def _places(x: Axis, y: Axis) -> tuple[Place, Place]:
    across, upright = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def left(value: float) -> float:
        return LEFT + across * float(x.share(np.array(value)))

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - upright * float(y.share(np.array(value)))

    return left, up


def _line(line: Line, left: Place, up: Place) -> list[Markup]:
    shapes = []
    if line.low is not None and line.high is not None and np.isfinite(line.low).all():
        there = [f"{left(x):.1f},{up(y):.1f}" for x, y in zip(line.x, line.high, strict=True)]
        back = [f"{left(x):.1f},{up(y):.1f}" for x, y in zip(line.x[::-1], line.low[::-1], strict=True)]
        shapes.append(tag("polygon", class_=f"band {line.colour}", points=" ".join([*there, *back])))
    path, pen = [], "M"
    for x, y in zip(line.x, line.y, strict=True):
        if not np.isfinite(y):
            pen = "M"
            continue
        path.append(f"{pen}{left(x):.1f} {up(y):.1f}")
        pen = "L"
    return [*shapes, tag("path", class_=f"line {line.colour}", d="".join(path))]


def _mark(mark: Mark, left: Place, up: Place) -> Markup:
    if mark.across:
        y = f"{up(mark.value):.1f}"
        ends = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": y, "y2": y}
        place = {"x": WIDTH - RIGHT - 4, "y": f"{up(mark.value) - 5:.1f}", "text_anchor": "end"}
    else:
        x = left(mark.value)
        ends = {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": TOP - 4, "y2": HEIGHT - BOTTOM}
        before = x > WIDTH / 2
        place = {
            "x": f"{x - 5 if before else x + 5:.1f}",
            "y": TOP + 8,
            "text_anchor": "end" if before else "start",
        }
    return tag("g", tag("line", **ends), tag("text", mark.label, **place), class_="mark")


def _chart(
    title: str, about: str, x: Axis, y: Axis, shapes: Sequence[Markup], legend: Sequence[tuple[str, str]]
) -> Markup:
    left, up = _places(x, y)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    grid = [
        *(
            tag("text", _number(v), x=f"{left(v):.1f}", y=HEIGHT - BOTTOM + 18, text_anchor="middle")
            for v in x.ticks()
        ),
        *(tag("text", _number(v), x=LEFT - 8, y=f"{up(v) + 4:.1f}", text_anchor="end") for v in y.ticks()),
        *(
            tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{up(v):.1f}", y2=f"{up(v):.1f}")
            for v in y.ticks()
        ),
        tag("text", x.label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"),
        tag("text", y.label, x=-middle, y=14, text_anchor="middle", transform="rotate(-90)"),
    ]
    keys, at = [], LEFT
    for label, colour in legend:
        keys.append(tag("rect", class_=f"key {colour}", x=at, y=6, width=12, height=12))
        keys.append(tag("text", label, x=at + 17, y=16))
        at += 34 + round(6.7 * len(label))
    drawn = tag(
        "svg", tag("title", title), tag("desc", about), tag("g", grid, class_="axes"), shapes, keys,
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title}. {about}",
    )  # fmt: skip
    zoom = tag("button", drawn, type="button", class_="zoom", aria_label=f"Enlarge the chart: {title}. {about}")
    return tag("figure", tag("figcaption", title), zoom, tag("p", about, class_="about"), class_="chart")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and 1 <= abs(value) < 1e5 else f"{value:.3g}"
