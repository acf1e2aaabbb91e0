"""Committed results to the tables of README.md and docs; never trains."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from experiments.choose import VARIANTS, log_table
from experiments.runner import RESULTS
from experiments.summary import Summary, Tree, summarise

__all__ = ["ROOT", "demo_table", "rendered", "speed_table", "table"]

ROOT = Path(__file__).parents[1]

ROWS = (
    ("memae", "**MemAE** (our default)"),
    ("memae-paper", "MemAE, preset `paper`"),
    ("memae-released", "MemAE, preset `released`"),
    ("autoencoder", "plain AE, our default"),
    ("autoencoder-paper", "plain AE, preset `paper`"),
    ("untrained", "untrained network"),
    ("1-nn-l2", "1-NN look-up, L2"),
    ("1-nn-cosine", "1-NN look-up, cosine"),
    ("1-nn-centred-cosine", "1-NN look-up, centred cosine"),
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
VIDEO_COLUMNS = (
    ("ped2", "served", "auroc", "as served"),
    ("ped2", "served", "auroc_macro", "as served, mean over videos"),
    ("ped2", "served min-max", "auroc", "min-max per video"),
    ("ped2", "paper", "auroc", "paper's protocol"),
    ("ped2", "paper raw", "auroc", "paper's, no min-max"),
)
STRIDE_COLUMNS = (
    ("ped2", "served 1", "auroc", "stride 1 (each frame in the middle of its clip)"),
    ("ped2", "served", "auroc", "stride 8 (middle half of each clip)"),
    ("ped2", "served 16", "auroc", "stride 16 (clips end to end)"),
)

COLUMNS = (
    ("mnist-8", "full", "auroc", "MNIST 8 normal, AUROC"),
    ("mnist-2", "full", "auroc", "MNIST 2 normal, AUROC"),
    ("kddcup99", "paper", "f1", "KDDCUP99, F1"),
    ("kddcup99", "paper", "auroc", "KDDCUP99, AUROC"),
)


def table(
    tree: Tree,
    columns: tuple[tuple[str, str, str, str], ...] = COLUMNS,
    rows: tuple[tuple[str, str], ...] = ROWS,
    empty: bool = False,
) -> str:
    """A Markdown table: mean and, in brackets, half the 95 % interval; a dash where there is no cell.

    Rows without any cell are left out, or with `empty` kept, so that a reader sees what is missing.
    """
    lines = ["| method | " + " | ".join(title for *_, title in columns) + " |", "|---|" + "---|" * len(columns)]
    for method, name in rows:
        figures = [tree.get(d, {}).get(method, {}).get(p, {}).get(m) for d, p, m, _ in columns]
        if empty or any(figures):
            lines.append(f"| {name} | " + " | ".join(map(_figure, figures)) + " |")
    return "\n".join(lines)


def _figure(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    value = f"{summary.mean:.4f}".lstrip("0")
    if math.isnan(summary.low):
        return value
    return f"{value} ± " + f"{summary.high - summary.mean:.4f}".lstrip("0")


def demo_table(root: Path = RESULTS / "demo") -> str:
    """The demo's figures over seeds as a Markdown table."""
    runs: list[dict[str, Any]] = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(root.glob("seed-*.json"))
    ]
    if not runs:
        return "No committed runs."
    lines = [
        f"| mean of {len(runs)} seeds | digits: 0 is normal | breast cancer: benign is normal |",
        "|---|---|---|",
    ]
    for field, name in (
        ("memae", "**MemAE**, AUROC"),
        ("autoencoder", "plain autoencoder, AUROC"),
        ("untrained", "untrained network, AUROC"),
    ):
        figures = [Summary.of([run[kind][field] for run in runs]) for kind in ("images", "table")]
        lines.append(f"| {name} | " + " | ".join(map(_figure, figures)) + " |")
    alarms = [
        Summary.of([run[kind]["false_alarm_rate"]["measured"] for run in runs]) for kind in ("images", "table")
    ]
    wanted = runs[0]["images"]["false_alarm_rate"]["wanted"]
    lines.append(f"| false-alarm rate (wanted: at most {wanted:g}) | " + " | ".join(map(_figure, alarms)) + " |")
    return "\n".join(lines)


def speed_table(path: Path = ROOT / "benchmarks" / "results" / "video.json") -> str:
    """The committed speed of video scoring as a Markdown table."""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = {
        "frames/s, from the file to the last score": f"{found['frames_per_second']:.1f}",
        "the same in eager float32": f"{found['eager_float32']:.1f}",
        "limit by the matrix rate": f"{found['limit']:.1f} ({found['matrix_rate_tflops']:.2f} TFLOP/s)",
        "share of the limit": f"{found['share_of_limit']:.0%}",
        "frame AUROC, difference to float32": f"{found['auroc_difference']:.4f}",
        "scores, correlation with float32": f"{found['score_correlation']:.6f}",
        "hardware": found["hardware"],
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def rendered() -> dict[Path, str]:
    """The pages that hold tables, with what stands between their markers made anew."""
    tree = summarise()
    mixed = tuple((data, "paper", metric, title) for data, _, metric, title in COLUMNS if data.startswith("mnist"))
    blocks = {"demo": demo_table(), "evidence": table(tree), "evidence-mixed": table(tree, mixed)}
    blocks |= {
        "video": table(tree, VIDEO_COLUMNS, VIDEO_ROWS, empty=True),
        "video-stride": table(tree, STRIDE_COLUMNS, VIDEO_ROWS[:3]),
    }
    blocks["video-speed"] = speed_table()
    blocks |= {f"choose-{data}": log_table(data) for data in VARIANTS}
    pages = {}
    for path in (ROOT / "README.md", *(ROOT / "docs" / name for name in ("evidence.md", "log.md", "video.md"))):
        if not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        for name, block in blocks.items():
            marked = re.compile(f"(<!-- {name}:begin -->\\n).*?(\\n?<!-- {name}:end -->)", re.DOTALL)
            text = marked.sub(lambda found, block=block: found[1] + block + "\n" + found[2].lstrip("\n"), text)
        pages[path] = text
    return pages
