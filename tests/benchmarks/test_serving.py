"""The benchmark of the server, for moments."""

import pytest

from benchmarks.serving import serve_benchmark


@pytest.mark.slow
def test_it_runs_and_an_overload_is_refused_in_flat_memory() -> None:
    found = serve_benchmark(seconds=1.0, rounds=1)
    for kind in ("images", "rows_as_tensors", "rows_as_json"):
        assert found[kind]["statuses"].keys() == {"200"}
        assert found[kind]["ratio"] > 0
    overload = found["ten_times_the_load"]
    assert overload["statuses"].keys() <= {"200", "503"}
    assert overload["statuses"]["503"] > 0
    assert overload["refusals_say_when_to_retry"]
    assert overload["ten_times_peak_mb"] < 1.5 * overload["usual_peak_mb"]
