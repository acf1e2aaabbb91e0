"""The committed results of the benchmarks as Markdown tables, by the marker that they stand behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.markdown import markdown

__all__ = ["speed_tables"]

BENCHMARKS = Path(__file__).parents[1] / "benchmarks" / "results"
GROWTH = ("fit_s", "score_s", "fit_mb", "score_mb")
TRAININGS = {
    "kdd_autoencoder": "KDDCUP99, plain autoencoder of the paper",
    "kdd": "KDDCUP99, MemAE, preset `paper`",
    "mnist_autoencoder": "MNIST, plain autoencoder, our default",
    "mnist": "MNIST, MemAE, our default",
    "mnist-paper_autoencoder": "MNIST, plain autoencoder of the paper",
    "mnist-paper": "MNIST, MemAE, preset `paper`",
}


def speed_tables(root: Path = BENCHMARKS) -> dict[str, str]:
    """One table for each result that is there."""
    makers = {
        "video": ("video-speed", _video),
        "footage": ("footage-speed", _footage),
        "training": ("training-speed", _training),
        "tables": ("tables-speed", _tables),
        "long-table": ("long-table-speed", _long_table),
        "pictures": ("pictures-speed", _listed),
        "pictures-features": ("pictures-features-speed", _listed),
        "memory-read": ("memory-read-speed", _memory_read),
        "growth": ("growth-speed", _growth),
        "load": ("load-speed", _load),
        "serve": ("serve-speed", _serve),
        "soak": ("soak-speed", _soak),
        "startup": ("startup-speed", _startup),
        "exported": ("exported-speed", _exported),
    }
    found = {}
    for name, (marker, make) in makers.items():
        path = root / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            found[marker] = make(result)
            if name == "training" and result.get("times_pyod"):
                found["pyod-speed"] = _pyod(result)
            if name == "training" and "torch_mm_gflops" in result:
                found["matrix-rate"] = _matrix_rate(result)
    return found


def _video(found: Mapping[str, Any]) -> str:
    names = ("openvino", "torch", "network_by_openvino", "network_by_torch", "limit")
    networks = [(name, found[name]) for name in ("video", "video-paper")]
    rows = [(title, *(f"{network[name]:.1f}" for name in names)) for title, network in networks]
    return markdown(("frames/s", *(name.replace("_", " ") for name in names)), rows)


def _footage(found: Mapping[str, Any]) -> str:
    return _pairs(
        {
            "hours of footage, frames": f"{found['hours']:g}, {found['frames']:,}",
            "MB after a minute": f"{found['after_a_minute_mb']:,.0f}",
            "MB at most after that": f"{found['most_after_that_mb']:,.0f}",
            "MB in the last minute, the mean": f"{found['mean_of_the_last_minute_mb']:,.0f}",
            "minutes it took": f"{found['seconds'] / 60:.1f}",
            "hardware": found["hardware"],
        }
    )


def _growth(found: Mapping[str, Any]) -> str:
    heads = ("", "from", "to", "fit, s", "score, s", "fit, MB", "score, MB")
    rows = [
        (
            axis["unit"],
            f"{axis['sizes'][0]:,}",
            f"{axis['sizes'][-1]:,}",
            *(f"{axis[name][0]:,g} to {axis[name][-1]:,g}, slope {axis['slopes'][name]:.2f}" for name in GROWTH),
        )
        for axis in found["axes"].values()
    ]
    return markdown(heads, rows)


def _load(found: Mapping[str, Any]) -> str:
    heads = (
        "",
        "passes",
        "passes with other scores",
        "greatest difference",
        "MB after a quarter of the time",
        "MB at the end",
    )
    rows = [
        (
            f"{kind}, {way.replace('_', ' ')}",
            f"{of_way['passes']:,}",
            f"{of_way['different']:,}",
            f"{of_way['greatest_difference']:.1g}",
            f"{of_way['resident_mb_settled']:,.0f}",
            f"{of_way['resident_mb_end']:,.0f}",
        )
        for kind in ("rows", "images", "video")
        for way, of_way in found[kind].items()
        if isinstance(of_way, dict)
    ]
    return markdown(heads, rows)


EXPORTED = {"torch": "torch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
SERVED = {
    "images": "one JPEG of 256 x 256 px",
    "rows_as_tensors": "256 rows as binary tensors",
    "rows_as_json": "256 rows as JSON",
    "single_rows": "one row as JSON",
}


def _serve(found: Mapping[str, Any]) -> str:
    heads = (
        "a request",
        "served, samples/s",
        "model alone",
        "ratio",
        "ratio by processor time",
        "p50, ms",
        "p99, ms",
    )
    rows = []
    for kind, title in SERVED.items():
        one = found[kind]
        beside: tuple[str, ...] = ("–", "–", "–", "–")
        if "ratio" in one:
            rates = (f"{one[name]:,.0f}" for name in ("served_per_s", "model_alone_per_s"))
            beside = (*rates, f"{one['ratio']:.2f}", f"{one['ratio_by_processor_time']:.2f}")
        rows.append((title, *beside, f"{one['p50_ms']:,.0f}", f"{one['p99_ms']:,.0f}"))
    return markdown(heads, rows)


def _exported(found: Mapping[str, Any]) -> str:
    heads = ("model", "samples at once", *(f"{name}, samples/s" for name in EXPORTED.values()))
    heads += tuple(f"{name}, times torch" for name in EXPORTED.values() if name != "torch")
    heads += tuple(f"{name}: import and load, s" for name in EXPORTED.values())
    rows = []
    for kind in found["kinds"].values():
        start = [f"{kind['start'][way]['import_s']:.2f} + {kind['start'][way]['load_s']:.2f}" for way in EXPORTED]
        for one in kind["sizes"]:
            rates = [f"{one['per_s'][way]:,.0f}" for way in EXPORTED]
            times = [f"{one['times_torch'][way]:.2f}" for way in EXPORTED if way != "torch"]
            rows.append((kind["model"], f"{one['samples']:,}", *rates, *times, *start))
    return markdown(heads, rows)


def _soak(found: Mapping[str, Any]) -> str:
    heads = (
        "cameras",
        "seconds",
        "frames scored",
        "of those sent",
        "dropped",
        "lag, median",
        "lag, 99 %",
        "core s a frame",
        "MB after a quarter",
        "MB at the end",
    )
    runs = [(60 * found["minutes"], found), *((found["step_s"], one) for one in found["tried"])]
    rows = [
        (
            f"{one['cameras']}",
            f"{seconds:,.0f}",
            f"{one['frames']:,}",
            f"{one['scored_share']:.1%}",
            f"{one['dropped']:,}",
            f"{one['lag_p50_s']:.2f} s",
            f"{one['lag_p99_s']:.2f} s",
            f"{one['core_s_a_frame']:.4f}",
            f"{one['resident_mb_settled']:,.0f}",
            f"{one['resident_mb_end']:,.0f}",
        )
        for seconds, one in runs
        if one["frames"]
    ]
    return markdown(heads, rows)


def _training(found: Mapping[str, Any]) -> str:
    one, wall, times = found["one_thread"], found["wall"], found["times_plain"]
    rows = [
        (
            title,
            f"{one[f'{name}_ours']:,}",
            f"{one[f'{name}_plain']:,}",
            f"{times['one_thread'][name]:.2f}",
            f"{wall[f'{name}_ours']:,}",
            f"{wall[f'{name}_plain']:,}",
            f"{times['wall'][name]:.2f}",
            f"{found['share_of_limit'][name]:.0%}",
        )
        for name, title in TRAININGS.items()
    ]
    titles = (
        "training",
        "ours",
        "plain",
        "times",
        "ours, by the clock",
        "plain, by the clock",
        "times",
        "of the limit",
    )
    return markdown(titles, rows)


def _matrix_rate(found: Mapping[str, Any]) -> str:
    return _pairs(
        {
            "large float32 product on one thread, faster library": f"{found['matrix_rate_gflops']:.0f} GFLOP/s",
            "the same by torch.mm": f"{found['torch_mm_gflops']:.0f} GFLOP/s",
        }
    )


def _pyod(found: Mapping[str, Any]) -> str:
    wall = found["wall"]
    rows = []
    for size in (32, 1024):
        ours = wall[f"kdd_autoencoder_ours_{size}"]
        for way, title in (("pyod", "as it comes"), ("pyod-bare", "bare")):
            theirs = wall[f"kdd_autoencoder_{way}_{size}"]
            rows.append((f"batches of {size}, PyOD {title}", f"{ours:,}", f"{theirs:,}", f"{ours / theirs:.1f}"))
    return markdown(("KDDCUP99, plain autoencoder", "ours", "PyOD", "times"), rows)


def _memory_read(found: Mapping[str, Any]) -> str:
    forward, step = found["read_to_plain_forward"], found["read_to_plain_step"]
    rows = [
        (f"{int(size):,} items, {found['queries'][size]} queries", f"{forward[size]:.2f}", f"{step[size]:.2f}")
        for size in forward
    ]
    rows.append(
        (f"scoring {found['columns']} columns, to its two products", f"{found['score_to_products']:.2f}", "")
    )
    return markdown(("time of ours to that of the plain one", "forward", "with gradients"), rows)


def _tables(found: Mapping[str, Any]) -> str:
    low, high = found["spread"]["end_to_end"]
    return _pairs(
        {
            "rows/s, Parquet to Parquet": f"{found['end_to_end']:,} ({low:,} to {high:,})",
            "rows/s, reading and encoding alone": f"{found['read_and_encode']:,}",
            "peak memory, MB": f"{found['peak_mb']['short']:,}",
            f"the same, a file {found['times_longer']} times as long": f"{found['peak_mb']['long']:,}",
            "hardware": found["hardware"],
        }
    )


def _long_table(found: Mapping[str, Any]) -> str:
    score, fit = found["score"], found["fit_one_epoch"]
    return _pairs(
        {
            "rows, of 10 numbers": f"{found['rows']:,}",
            "size of the file, MB": f"{found['file_mb']:,}",
            "`memae score`": f"{score['seconds']:,} s, {score['rows_per_second']:,} rows/s, "
            f"peak {score['peak_mb']:,} MB",
            "`memae fit`, one epoch": f"{fit['seconds']:,} s, peak {fit['peak_mb']:,} MB",
            "hardware": found["hardware"],
        }
    )


def _startup(found: Mapping[str, Any]) -> str:
    return _pairs({name.replace("_", " "): f"{seconds:.3f} s" for name, seconds in found["real_s"].items()})


def _listed(found: Mapping[str, Any]) -> str:
    hidden = ("seed", "command", "commit", "spread")
    shown = {name.replace("_", " "): value for name, value in found.items() if name not in hidden}
    return _pairs(
        {
            name: ", ".join(f"{part} {number:,}" for part, number in value.items())
            if isinstance(value, Mapping)
            else str(value)
            for name, value in shown.items()
        }
    )


def _pairs(values: Mapping[str, str]) -> str:
    return markdown(("", ""), list(values.items())).replace("|  |  |", "| | |", 1)
