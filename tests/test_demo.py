import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow.lib import Table
from scipy.spatial.distance import cdist

from memae import Detector, datasets, demo
from memae.demo import DATA_SETS, run_demo
from memae.errors import DataError
from memae.metrics import auroc
from memae.progress import EpochRecord, Stage
from tests.listening import Listener
from tests.small_data import write_kddcup99, write_mnist


class Counter(Listener):
    """Counts what a callback is told."""

    def __init__(self) -> None:
        self.epochs = self.steps = self.ends = 0
        self.stages: list[str] = []

    def begin_stage(self, stage: Stage) -> None:
        self.stages.append(stage.name)

    def begin(self, epochs: int, samples: int, done: int) -> None:
        pass

    def step(self, samples: int, loss: object) -> None:
        self.steps += 1

    def epoch(self, record: EpochRecord) -> None:
        self.epochs += 1

    def end(self) -> None:
        self.ends += 1


@pytest.fixture
def small_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "data")
    write_kddcup99(tmp_path / "data")
    monkeypatch.setenv("MEMAE_DATA", str(tmp_path / "data"))


def rows_of(samples: np.ndarray | Table) -> set[Any]:
    """Samples as a set of comparable rows."""
    if isinstance(samples, np.ndarray):
        return {row.tobytes() for row in samples.reshape(len(samples), -1)}
    return {tuple(row.values()) for row in samples.to_pylist()}


@pytest.mark.parametrize(
    ("data", "kind", "sizes"),
    [
        ("bundled", "images", (119, 59, 1797 - 178)),
        ("bundled", "table", (238, 119, 212)),
        ("mnist", "images", (100, 10, 90)),
        ("kddcup99", "table", (None, None, None)),
    ],
)
def test_nothing_that_is_measured_was_fitted(
    small_root: None, data: str, kind: str, sizes: tuple[int | None, int | None, int | None]
) -> None:
    task = demo._TASKS[data][kind](0)
    parts = task.fit, task.normal, task.anomalous
    for part, size in zip(parts, sizes, strict=True):
        assert size in (None, len(part))
    fit, normal, anomalous = map(rows_of, parts)
    assert not fit & normal
    assert not fit & anomalous
    assert not normal & anomalous


def test_attacks_are_the_normal_data_of_kddcup99(small_root: None) -> None:
    task = demo._TASKS["kddcup99"]["table"](0)
    assert (
        len(task.fit) + len(task.normal) + len(task.anomalous) < 600
    )  # normal rows of the first half are left out
    assert len(task.normal) + len(task.anomalous) == 150
    for part, attack in ((task.fit, True), (task.normal, True), (task.anomalous, False)):
        assert all((value >= 50) == attack for value in part["src_bytes"].to_pylist())


def test_the_seed_chooses_the_split() -> None:
    def first(seed: int) -> Any:
        return demo._TASKS["bundled"]["images"](seed).fit[0]

    assert np.array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))


def test_it_measures_three_models_and_draws(small_root: None, tmp_path: Path) -> None:
    said: list[str] = []
    listener = Counter()
    # the bundled data is run by tests/cli/test_demo.py
    results = run_demo("kddcup99", tmp_path / "out" / "pictures", announce=said.append, progress=listener)
    assert [*results] == ["table"]
    result = results["table"]
    for figure in (result.memae, result.autoencoder, result.untrained):
        assert 0 <= figure <= 1
    assert result.memae > 0.9  # the stand-in is easy
    assert result.false_alarm_rate.wanted == demo.WANTED_RATE
    assert 0 <= result.false_alarm_rate.measured <= 0.5
    names = {"table-memae.png", "table-autoencoder.png"}
    assert {path.name for path in (tmp_path / "out" / "pictures").iterdir()} == names
    for name in names:
        with Image.open(tmp_path / "out" / "pictures" / name) as picture:
            assert min(picture.size) > 200
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert [line.rpartition(": ")[2] for line in said] == ["MemAE", "plain autoencoder", "untrained network"]
    assert listener.ends >= 3  # and the warm-ups
    assert listener.epochs > 0
    assert [listener.stages.count(name) for name in ("reading", "scoring", "drawing")] == [3, 6, 1]


def test_the_untrained_network_has_seen_no_step_of_a_warm_up_either() -> None:
    images, labels = datasets.digits()
    listener = Counter()
    detector = Detector(settings={"train": {"epochs": 0}}).fit(images[labels == 0], progress=listener)
    assert detector.config.memory.warmup_epochs > 0
    assert listener.steps == listener.epochs == 0


@pytest.mark.parametrize("data", ["mnist", "kddcup99"])
def test_a_data_set_that_is_not_there_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("MEMAE_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match=rf"data/{data}/.*: not found; fetch the data set .* set MEMAE_DATA"):
        run_demo(data, tmp_path / "out", announce=print)
    assert not (tmp_path / "out").exists()


def test_the_data_sets_of_the_demo_are_these() -> None:
    assert DATA_SETS == ("bundled", "mnist", "kddcup99")


def test_the_share_of_false_alarms_that_is_wanted_can_be_promised_by_every_bundled_task() -> None:
    for make in demo._TASKS["bundled"].values():
        assert round(0.2 * len(make(0).fit)) >= math.ceil(1 / demo.WANTED_RATE) - 1


def test_the_note_on_the_table_is_true_distance_from_the_centre_ranks_it_and_nearest_rows_rank_it_less_well() -> (
    None
):
    def matrix(table: Table) -> np.ndarray:
        return np.column_stack([column.to_numpy() for column in table.columns])

    def ranked(score: Callable[..., Any], normal: np.ndarray | Table, malignant: np.ndarray | Table) -> float:
        labels = np.repeat([False, True], [len(normal), len(malignant)])
        return auroc(labels, np.r_[score(normal), score(malignant)])

    task = demo._TASKS["bundled"]["table"](0)
    benign = matrix(task.fit)
    mean, deviation = benign.mean(axis=0), benign.std(axis=0)
    benign, *parts = ((matrix(part) - mean) / deviation for part in (task.fit, task.normal, task.anomalous))
    untrained = Detector(settings={"train": {"epochs": 0}}).fit(task.fit)
    from_network = ranked(lambda table: untrained.score(table).values, task.normal, task.anomalous)
    from_centre = ranked(lambda rows: np.square(rows).sum(axis=1), *parts)
    from_nearest = ranked(lambda rows: cdist(rows, benign).min(axis=1), *parts)
    assert from_network == pytest.approx(from_centre, abs=0.005)
    assert 0.94 < from_nearest < from_centre - 0.01


def test_bundled_data_is_what_its_description_says() -> None:
    images, labels = datasets.digits()
    assert (images.shape, images.min(), images.max()) == ((1797, 8, 8), 0, 16)
    assert images.dtype == np.float32
    assert set(labels) == set(range(10))
    rows, malignant = datasets.breast_cancer()
    assert (rows.num_rows, rows.num_columns, malignant.sum()) == (569, 30, 212)
