from pathlib import Path

import numpy as np
import pytest

from experiments.pseudo_anomalies import pseudo_anomalies


@pytest.mark.real
def test_synthetic_anomalies_are_the_same_each_time_and_leave_the_rest_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first, second = (pseudo_anomalies(tmp_path / name, each=1) for name in ("one", "two"))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)
    assert all(0.1 < marks.mean() < 0.7 for marks in first.values())
