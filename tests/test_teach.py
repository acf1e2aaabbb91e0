from pathlib import Path

import numpy as np
import pytest

from memae import Detector
from memae.errors import ConfigError, DataError
from memae.teach import Limits
from tests.small_detectors import DIGITS, ONES, PIXELS, ROWS, fit

SHIFTED = ROWS.iloc[:20] + 6 * ROWS.std()
SEVENS = PIXELS[DIGITS == 7].reshape(-1, 8, 8).astype(np.uint8)
FREE = Limits(lost=1, shift=1e9)


@pytest.fixture(scope="module")
def rows() -> Detector:
    return fit(ROWS, "table")


def copied(detector: Detector, folder: Path) -> Detector:
    detector.save(folder / "copy")
    return Detector.load(folder / "copy", device="cpu")


def test_taught_rows_are_normal_from_then_on_and_anomalies_are_still_found(rows: Detector, tmp_path: Path) -> None:
    detector = copied(rows, tmp_path)
    before, far = detector.detect(SHIFTED), ROWS.iloc[:20] - 20 * ROWS.std()
    assert before.is_anomaly.all() and detector.detect(far).is_anomaly.all()
    teaching = detector.teach(SHIFTED.iloc[:10])
    assert teaching.taught.before == 10 and teaching.taught.after == 0
    assert detector.detect(SHIFTED.iloc[:10]).is_anomaly.sum() == 0
    assert detector.detect(SHIFTED.iloc[10:]).is_anomaly.sum() < 10
    assert detector.detect(far).is_anomaly.all()
    assert detector.memory.counts.items == rows.memory.counts.items + teaching.items
    assert next(name for name, *_ in teaching.table) == "false alarms among the taught samples"


def test_a_model_that_was_taught_is_saved_and_can_be_undone_step_by_step(rows: Detector, tmp_path: Path) -> None:
    detector, mixed = copied(rows, tmp_path), [ROWS.iloc[:30], SHIFTED]
    states = [[detector.score(x).values for x in mixed]]
    for some in (SHIFTED.iloc[:3], SHIFTED.iloc[3:9] * 1.5):
        detector.teach(some, limits=FREE)
        states.append([detector.score(x).values for x in mixed])
    detector.save(tmp_path / "taught")
    loaded = Detector.load(tmp_path / "taught", device="cpu")
    assert len(loaded.facts["teachings"]) == 2
    for wanted in states[::-1]:
        assert all(np.array_equal(loaded.score(x).values, one) for x, one in zip(mixed, wanted, strict=True))
        if wanted is not states[0]:
            loaded.undo_teaching()
            loaded.save(tmp_path / "taught")
            loaded = Detector.load(tmp_path / "taught", device="cpu")
    assert loaded.threshold.value == rows.threshold.value
    assert np.array_equal(loaded.threshold.calibration, rows.threshold.calibration)
    assert loaded.artifact.held_out.samples.equal(rows.artifact.held_out.samples)
    assert all(one["undone"] for one in loaded.facts["teachings"])
    with pytest.raises(ConfigError, match="nothing to undo"):
        loaded.undo_teaching()


def test_a_picture_that_the_decoder_cannot_rebuild_is_normal_by_a_wider_item(tmp_path: Path) -> None:
    detector = fit(ONES, "mnist", memory={"temperature": 0.02, "shrinkage": 1.0, "num_items": 12})
    detector.move_threshold(at=float(np.median(detector.score(SEVENS).values)))  # three epochs find few anomalies
    flagged = SEVENS[detector.detect(SEVENS).is_anomaly][:3]
    teaching = detector.teach(flagged, limits=FREE)
    assert teaching.widened > 0 and teaching.taught.after == 0
    detector.save(tmp_path / "taught")
    loaded = Detector.load(tmp_path / "taught", device="cpu", engine="torch")
    assert np.array_equal(loaded.score(SEVENS).values, detector.score(SEVENS).values)
    assert loaded.explain(flagged[:1])[0].items[0].item >= 12


def test_what_would_blind_the_model_is_refused_and_changes_nothing(rows: Detector, tmp_path: Path) -> None:
    detector = copied(rows, tmp_path)
    before = detector.score(SHIFTED).values
    with pytest.raises(DataError, match="of 5 given anomalies it would find 0"):
        detector.teach(SHIFTED.iloc[:5], anomalies=SHIFTED.iloc[:5])
    with pytest.raises(DataError, match="would blind the model"):
        detector.teach(SHIFTED.iloc[:5], limits=Limits(shift=-1))
    assert np.array_equal(detector.score(SHIFTED).values, before) and "teachings" not in detector.facts


def test_models_that_cannot_be_taught_say_why(rows: Detector, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plain autoencoder has no items"):
        fit(ROWS, memory={"enabled": False}).teach(SHIFTED)
    private = fit(ROWS, "table", memory={"keep_samples": False})
    with pytest.raises(ConfigError, match="holds no held-out normal samples"):
        private.teach(SHIFTED)
    teaching = private.teach(SHIFTED, old=ROWS.iloc[::2], limits=FREE)
    assert teaching.taught.after == 0 and private.artifact.held_out is None
    private.undo_teaching()
    assert private.artifact.held_out is None


def test_a_threshold_that_was_set_by_hand_stays_where_it_is(rows: Detector, tmp_path: Path) -> None:
    detector = copied(rows, tmp_path)
    at = 1.5 * detector.threshold.value
    detector.move_threshold(at=at)
    teaching = detector.teach(SHIFTED.iloc[:5])
    assert detector.threshold.value == at == teaching.threshold_after and detector.threshold.at == at


def test_every_engine_scores_a_taught_model_alike(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    detector = fit(ONES, "mnist", memory={"temperature": 0.02, "shrinkage": 1.0, "num_items": 12})
    detector.move_threshold(at=float(np.median(detector.score(SEVENS).values)))
    assert detector.teach(SEVENS[:6], limits=FREE).widened
    detector.save(tmp_path / "taught")
    torch, openvino = (
        Detector.load(tmp_path / "taught", device="cpu", engine=name) for name in ("torch", "openvino")
    )
    assert openvino.score(SEVENS).values == pytest.approx(torch.score(SEVENS).values, rel=1e-4, abs=1e-7)


def test_a_memory_that_scores_by_distance_is_taught_too() -> None:
    rng = np.random.default_rng(0)
    detector = Detector("memstream", settings={"train": {"epochs": 2}}, device="cpu").fit(
        rng.normal(size=(600, 4))
    )
    new = rng.normal(20, 0.1, (12, 4))
    assert detector.detect(new).is_anomaly.all()
    teaching = detector.teach(new, limits=FREE)
    assert teaching.items and not teaching.widened and not detector.detect(new).is_anomaly.any()
    detector.undo_teaching()
    assert detector.detect(new).is_anomaly.all()
