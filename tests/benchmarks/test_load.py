"""Scoring without pause, for some seconds; `make load` does it for a quarter of an hour and more."""

import pytest

from benchmarks.load import load_benchmark

MOST_MB = 100  # that buffers of threads may still take after so short a time


@pytest.mark.real
@pytest.mark.parametrize("kind", ["rows", "images", "video"])
def test_threads_and_processes_give_equal_scores_in_flat_memory(kind: str) -> None:
    found = load_benchmark(7.0, (kind,))[kind]
    for way in ("by_threads", "by_processes"):
        assert found[way]["passes"] >= 4
        assert found[way]["different"] == 0
        assert found[way]["resident_mb_end"] - found[way]["resident_mb_settled"] < MOST_MB
