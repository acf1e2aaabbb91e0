"""Committed results to the tables of README.md and docs; never trains."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from experiments.categories import PROBLEMS as CATEGORISED
from experiments.categories import categories_table
from experiments.contamination import contamination_table
from experiments.data import DATA, WHOLE
from experiments.magnetic_tiles import tiles_table
from experiments.markdown import markdown
from experiments.memstream_kdd import published_table
from experiments.promise_tables import promise_tables
from experiments.protocols.contaminated import PROBLEMS
from experiments.records import RESULTS
from experiments.speed import speed_tables
from experiments.still import still_table
from experiments.streaming import STREAMS, streaming_table
from experiments.summary import DataTree, Summary, Tree, summarise
from experiments.tables import Block, Column, Reported, Row, all_tables
from experiments.teaching import LESSONS, teaching_table
from experiments.tune import log_table
from experiments.variants import VARIANTS

__all__ = ["ROOT", "by_part", "comparison", "demo_table", "overview", "rendered"]

ROOT = Path(__file__).parents[1]
_MARKED = re.compile(r"(<!-- ([\w-]+):begin -->)\n.*?(<!-- \2:end -->)", re.DOTALL)
NONE = "–"  # a cell that is not there

Figure: TypeAlias = tuple[str, str, str, str, str]
"""Table, data set, protocol, metric, title"""

# The overview of README.md: figures of several tables beside each other
OVERVIEW: tuple[Figure, ...] = (
    ("table1", "mnist", "full", "auroc", "MNIST, AUROC"),
    ("table1", "cifar10", "full", "auroc", "CIFAR-10, AUROC"),
    ("table3", "kddcup99", "paper", "f1", "KDDCUP99, F1"),
    ("table3", "kddcup99", "distinct", "f1", "duplicates removed, F1"),
    ("table3", "kddcup99-attacks", "full", "f1", "attacks as the anomaly, F1"),
)
OVERVIEW_ROWS = (
    ("memae", "**MemAE** (our default)"),
    ("memae-paper", "MemAE, preset `paper`"),
    ("memae-released", "MemAE, preset `released`"),
    ("autoencoder", "plain AE, our default"),
    ("autoencoder-paper", "plain AE, preset `paper`"),
    ("untrained", "untrained network"),
    ("1-nn-l2", "1-NN look-up, L2"),
    ("1-nn-centred-cosine", "1-NN look-up, centred cosine"),
    ("1-nn-smooth-cosine", "1-NN look-up, cosine of smoothed images"),
    ("pca-30", "PCA, 30 components"),
    ("isolation-forest", "Isolation Forest"),
    ("exact-match", "exact match"),
)
VIDEO_ROWS = (
    ("memae", "**MemAE**, preset `video`"),
    ("memae-nonspar", "the same, not sparse"),
    ("autoencoder", "plain AE, preset `video`"),
    ("untrained", "untrained network, preset `video`"),
    ("no-network", "no network: our score of the frame differences themselves"),
    ("block-difference", "strongest 10 x 10 block of frame difference"),
    ("background-difference", "mean difference to the median background"),
    ("memae-paper", "MemAE, preset `video-paper`"),
    ("memae-nonspar-paper", "the same, not sparse"),
    ("autoencoder-paper", "plain AE, preset `video-paper`"),
)
VIDEO: tuple[Figure, ...] = (
    ("table2", "ped2", "served", "auroc", "as served"),
    ("table2", "ped2", "served", "auroc_macro", "as served, mean over videos"),
    ("table2", "ped2", "served min-max", "auroc", "min-max per video"),
    ("table2", "ped2", "paper", "auroc", "paper's protocol"),
    ("table2", "ped2", "paper raw", "auroc", "paper's, no min-max"),
)
STRIDES: tuple[Figure, ...] = (
    ("table2", "ped2", "served 1", "auroc", "stride 1 (each frame in the middle of its clip)"),
    ("table2", "ped2", "served", "auroc", "stride 8 (middle half of each clip)"),
    ("table2", "ped2", "served 16", "auroc", "stride 16 (clips end to end)"),
)


def comparison(block: Block, rows: Sequence[Row], data: DataTree) -> str:
    """A data set of a table: reported, ours by the same protocol, the difference; other protocols; seeds and cost.

    Every row of the table that has a method for the data set, or a reported number on it, is there.
    """
    first, *others = block.columns
    also = block.also_reported
    sources = (block.data, *also)
    claimed = any(row.reported.get((name, first.metric)) for row in rows for name in sources)
    titles = ["method"]
    if claimed:
        titles += ["reported", *(f"{title}, reported" for title in also.values())]
    titles += [
        first.title,
        *(["difference"] if claimed else []),
        *(_title(column, block, rows) for column in others),
    ]
    titles += ["seeds", "stored", "µs a sample", "training, one seed"]
    lines = []
    for row in rows:
        claims = [row.reported.get((name, first.metric)) for name in sources]
        if row.method not in DATA[block.data].methods and not any(claims):
            continue
        methods = data.get(block.data, {}).get(row.method or "", {})
        ours = methods.get(first.protocol, {}).get(first.metric)
        line = [row.title, *(map(_reported, claims) if claimed else [])]
        line += [_figure(ours), *([_difference(ours, claims[0])] if claimed else [])]
        for column in others:
            found = _figure(methods.get(column.protocol, {}).get(column.metric))
            claim = row.reported.get((block.data, column.metric)) if column.protocol == first.protocol else None
            line.append(f"{found} ({_reported(claim)})" if claim else found)
        shown = [methods.get(column.protocol, {}).get(column.metric) for column in block.columns]
        seeds = max((found.seeds for found in shown if found), default=0)
        cost = methods.get("cost", {})
        line += [
            str(seeds) if seeds else NONE,
            _of(cost.get("stored"), lambda value: f"{value:,.0f}"),
            _of(cost.get("score_us_per_sample"), lambda value: f"{value:,.0f}" if value >= 10 else f"{value:.1f}"),
            _of(cost.get("fit_seconds"), lambda value: _duration(value * len(DATA[block.data].parts))),
        ]
        lines.append(line)
    return markdown(titles, lines)


def by_part(block: Block, rows: Sequence[Row], data: DataTree) -> str:
    """The parts (classes) of a data set beside each other: means over the seeds that each part has."""
    column, parts = block.by_part, DATA[block.data].parts
    assert column is not None and parts != WHOLE
    lines = []
    for row in rows:
        found = [
            data.get(f"{block.data}-{part}", {})
            .get(row.method or "", {})
            .get(column.protocol, {})
            .get(column.metric)
            for part in parts
        ]
        if any(found):
            lines.append([row.title, *(_value(figure.mean) if figure else NONE for figure in found)])
    return markdown(["method", *parts], lines)


def overview(tree: Tree, columns: Sequence[Figure], rows: Sequence[tuple[str, str]], empty: bool = False) -> str:
    """Figures of several tables: mean ± half the 95 % interval, a dash where there is no cell.

    Rows without any cell are left out, or with `empty` kept, so that a reader sees what is missing.
    """
    lines = []
    for method, name in rows:
        found = [tree.get(t, {}).get(d, {}).get(method, {}).get(p, {}).get(m) for t, d, p, m, _ in columns]
        if empty or any(found):
            lines.append([name, *map(_figure, found)])
    return markdown(["method", *(title for *_, title in columns)], lines)


def demo_table(root: Path = RESULTS / "demo") -> str:
    """The demo's figures over seeds as a Markdown table."""
    runs: list[dict[str, Any]] = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(root.glob("seed-*.json"))
    ]
    if not runs:
        return "No committed runs."

    def line(name: str, value: Callable[[dict[str, Any]], float]) -> list[str]:
        return [name, *(_figure(Summary.of([value(run[kind]) for run in runs])) for kind in ("images", "table"))]

    wanted = runs[0]["images"]["false_alarm_rate"]["wanted"]
    return markdown(
        [f"mean of {len(runs)} seeds", "digits: 0 is normal", "breast cancer: benign is normal"],
        [
            line("**MemAE**, AUROC", lambda found: found["memae"]),
            line("plain autoencoder, AUROC", lambda found: found["autoencoder"]),
            line("untrained network, AUROC", lambda found: found["untrained"]),
            line(
                f"false-alarm rate (wanted: at most {wanted:g})",
                lambda found: found["false_alarm_rate"]["measured"],
            ),
        ],
    )


def rendered() -> dict[Path, str]:
    """The pages that hold tables, with what stands between their markers made anew."""
    blocks = _blocks(summarise())
    pages = {}
    for path in (
        ROOT / "README.md",
        *(
            ROOT / "docs" / name
            for name in (
                "images.md",
                "tables.md",
                "video.md",
                "speed.md",
                "promises.md",
                "contamination.md",
                "teach.md",
                "memories.md",
                "categories.md",
            )
        ),
        *sorted((ROOT / "docs" / "trials").glob("*.md")),
    ):
        if not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        pages[path] = _MARKED.sub(lambda found: _filled(found, blocks), text)
    return pages


def _filled(found: re.Match[str], blocks: Mapping[str, str]) -> str:
    begin, name, end = found.groups()
    return f"{begin}\n{blocks[name]}\n{end}" if name in blocks else found[0]


def _blocks(tree: Tree) -> dict[str, str]:
    """What stands between the markers, by their name."""
    blocks = {"demo": demo_table(), **speed_tables(), **promise_tables()}
    blocks["evidence"] = overview(tree, OVERVIEW, OVERVIEW_ROWS)
    blocks["video"] = overview(tree, VIDEO, VIDEO_ROWS, empty=True)
    blocks["video-stride"] = overview(tree, STRIDES, VIDEO_ROWS[:3])
    blocks |= {f"tune-{data}": log_table(data) for data in VARIANTS}
    blocks |= {f"contamination-{data}": contamination_table(data) for data in PROBLEMS}
    blocks |= {f"teaching-{data}": teaching_table(data) for data in LESSONS}
    blocks |= {f"categories-{data}": categories_table(data) for data in CATEGORISED}
    blocks |= {f"streaming-{data}": streaming_table(data) for data in STREAMS}
    blocks["streaming-kddcup99"] = published_table()
    blocks["still"] = still_table()
    blocks["magnetic-tile"] = tiles_table()
    for name, table in all_tables().items():
        for block in table.blocks:
            blocks[f"{name}-{block.data}"] = comparison(block, table.rows, tree[name])
            if block.by_part:
                blocks[f"{name}-{block.data}-parts"] = by_part(block, table.rows, tree[name])
    return blocks


def _title(column: Column, block: Block, rows: Sequence[Row]) -> str:
    claimed = any((block.data, column.metric) in row.reported for row in rows)
    return f"{column.title} (reported)" if claimed and column.protocol == block.compared.protocol else column.title


def _value(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.4f}"


def _figure(found: Summary | None) -> str:
    if found is None:
        return NONE
    value = _value(found.mean)
    return value if math.isnan(found.low) else f"{value} ± {_value(found.high - found.mean)}"


def _reported(found: Reported | None) -> str:
    if found is None:
        return NONE
    value = _value(found.value)
    return value.removesuffix("0") + ("?" if found.status == "unconfirmed" else "")


def _difference(ours: Summary | None, reported: Reported | None) -> str:
    if ours is None or reported is None:
        return NONE
    apart = ours.mean - reported.value
    return ("+" if apart >= 0 else "-") + _value(abs(apart))


def _of(found: Summary | None, shown: Callable[[float], str]) -> str:
    return NONE if found is None else shown(found.mean)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
