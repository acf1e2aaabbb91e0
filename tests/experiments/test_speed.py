import json
from pathlib import Path

from experiments.speed import BENCHMARKS, speed_tables


def test_every_committed_benchmark_has_its_table_with_the_figures_of_its_file() -> None:
    found = speed_tables()
    names = {path.stem for path in BENCHMARKS.glob("*.json")}
    assert {f"{name}-speed" for name in names} <= set(found)
    video = json.loads((BENCHMARKS / "video.json").read_text(encoding="utf-8"))
    for network in ("video", "video-paper"):
        assert (
            f"| {network} | {video[network]['openvino']:.1f} | {video[network]['torch']:.1f} |"
            in found["video-speed"]
        )
    for table in found.values():
        widths = {line.count("|") for line in table.splitlines()}
        assert len(widths) == 1, table


def test_a_benchmark_that_was_not_run_has_no_table(tmp_path: Path) -> None:
    assert speed_tables(tmp_path) == {}
