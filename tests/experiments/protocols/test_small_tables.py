from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import tune
from experiments.data import DATA
from experiments.methods import TABLE_METHODS
from experiments.protocols import small_tables
from experiments.protocols.small_tables import CHOSEN_ON, CONFIRM, TABLES, split
from memae.errors import DataError, MemaeError


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten files of 90 rows on a line in three columns and, at the places 5 to 14, ten beside it."""
    (tmp_path / "tables").mkdir()
    random = np.random.default_rng(0)
    for name in TABLES.values():
        x = random.normal(size=(100, 1)) * [1.0, 2.0, -30.0] + random.normal(size=(100, 3)) * [0.01, 0.02, 0.3]
        y = np.zeros(100)
        y[5:15] = 1
        x[5:15] = random.normal(size=(10, 3)) * [1.0, 2.0, 30.0] + [0.0, 4.0, 60.0]
        np.savez(tmp_path / "tables" / f"{name}.npz", X=x, y=y)
    monkeypatch.setenv("MEMAE_DATA", str(tmp_path))
    return tmp_path


def test_ten_tables_of_which_three_confirm() -> None:
    assert len(TABLES) == 10
    assert not {*CHOSEN_ON} & {*CONFIRM}
    assert DATA["tables"].parts == tuple(TABLES)


def test_half_of_the_normal_rows_is_fitted_and_all_others_are_tested(tables: Path) -> None:
    rows, anomalous = small_tables.load(TABLES["wine"])
    found, other = split("wine", 0), split("wine", 1)
    assert (len(found.fit), len(found.test), found.labels.sum()) == (45, 55, 10)
    together = np.concatenate([found.fit, found.test])
    assert np.array_equal(np.unique(together, axis=0), np.unique(rows, axis=0))
    assert np.array_equal(np.unique(found.test[found.labels], axis=0), np.unique(rows[anomalous], axis=0))
    assert not np.array_equal(found.fit, other.fit)
    assert np.array_equal(found.fit, split("wine", 0).fit)


def test_rows_that_tune_are_of_the_chosen_sets_and_another_split_leaves_the_rest_alone(tables: Any) -> None:
    assert tune.TABLES == CHOSEN_ON
    first, again = (tune._table_split(CHOSEN_ON[0], seed) for seed in (0, 1))
    assert (len(first.fit), len(first.test), first.labels.sum()) == (45, 22 + 5, 5)
    assert not np.array_equal(first.fit, again.fit)
    seen = [np.unique(np.concatenate([part.fit, part.test]), axis=0) for part in (first, again)]
    assert np.array_equal(seen[0], seen[1])


def test_a_missing_file_is_named(tables: Path) -> None:
    (tables / "tables" / "45_wine.npz").unlink()
    with pytest.raises(DataError, match=r"45_wine.npz: no such file; set MEMAE_DATA"):
        split("wine", 0)


@pytest.mark.parametrize("method", ["memae", "1-nn-standard", "5-nn-standard"])
def test_rows_beside_the_line_are_found(tables: Path, method: str) -> None:
    found = DATA["tables"].compute(method, "glass", 0)
    assert found.metrics["full"]["auroc"] > 0.95
    assert found.stored == (36 if method == "memae" else 45)  # a fifth of the rows sets the threshold


@pytest.mark.parametrize("method", ["pyod-knn", "pyod-knn-raw", "pyod-iforest"])
def test_the_detectors_of_pyod_score_higher_for_an_anomaly(tables: Path, method: str) -> None:
    pytest.importorskip("pyod", exc_type=ImportError)
    assert DATA["tables"].compute(method, "glass", 0).metrics["full"]["auroc"] > 0.7


def test_without_pyod_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MemaeError, match=r"PyOD is not installed; run  pip install 'memae\[bench\]'"):
        TABLE_METHODS["pyod-knn"](np.zeros((3, 2), dtype=np.float32), 0)
