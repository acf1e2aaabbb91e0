"""A watch of cameras for moments; `make soak` does it for half an hour."""

import pytest

from benchmarks.soak import soak_benchmark


@pytest.mark.real
def test_it_runs_and_all_frames_are_scored() -> None:
    small = {
        "train": {"epochs": 1},
        "memory": {"warmup_epochs": 0},
        "video": {"height": 32, "width": 48, "crop_px": 16, "place_px": 8, "training_stride": 16},
    }
    found = soak_benchmark(0.2, 2, (1,), 10.0, "torch", small)
    assert found["frames"] > 50
    assert found["dropped"] == 0
    assert 0 < found["lag_p50_s"] <= found["lag_p99_s"] < 10
    assert found["tried"][0]["cameras"] == 1
    assert sum(one["frames"] for one in found["over_time"]) == found["frames"]
