import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_breast_cancer

import memae.engine.scoring
import memae.fit
import memae.image.predict
from memae import Detector
from memae.errors import ConfigError, DataError, MemaeError
from tests.small_detectors import BRIEF, MALIGNANT, ONES, OTHERS, ROWS, equal, fit, weights


@pytest.fixture(scope="module")
def of_images() -> Detector:
    return fit(ONES)


@pytest.fixture(scope="module")
def of_rows() -> Detector:
    return fit(ROWS)


@pytest.fixture(scope="module", params=["images", "rows"])
def fitted(
    request: pytest.FixtureRequest, of_images: Detector, of_rows: Detector
) -> tuple[Detector, np.ndarray | pd.DataFrame, np.ndarray | pd.DataFrame]:
    return (of_images, ONES, OTHERS) if request.param == "images" else (of_rows, ROWS, MALIGNANT)


def test_without_a_preset_the_data_chooses(of_images: Detector, of_rows: Detector) -> None:
    assert of_images.config.network == "small"
    assert of_rows.config.network == "wide"


@pytest.mark.parametrize(
    ("preset", "network", "similarity"),
    [("mnist", "small", "cosine"), ("paper", "image", "cosine"), ("cifar10-released", "cifar10", "dot")],
)
def test_a_preset_is_taken_by_name(preset: str, network: str, similarity: str) -> None:
    config: Any = fit(ONES[:40], preset, train={"epochs": 1}).config
    assert (config.network, config.memory.similarity) == (network, similarity)


@pytest.mark.parametrize(
    ("preset", "what"),
    [
        ("mnst", "preset 'mnst' is unknown; did you mean 'mnist'.*networks: .*mnist, cifar10"),
        ("nothing like it", "preset 'nothing like it' is unknown.*networks: .*mnist, cifar10"),
    ],
)
def test_an_unknown_preset_fails_at_once_with_the_known_ones(preset: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Detector(preset)


@pytest.mark.parametrize("preset", [None, "mnist", "kddcup", "table-paper", "released"])
@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"train": {"epoch": 3}}, r"settings: train\.epoch: unknown key; did you mean train\.epochs\?"),
        ({"trian": {"epochs": 3}}, r"settings: trian: unknown key; did you mean train\?"),
        ({"train": {"epochs": -1}}, r"settings: train\.epochs = -1: should be greater than or equal to 0"),
        (
            {"memory": {"similarity": "sine"}},
            r"settings: memory\.similarity = 'sine': should be 'cosine', 'dot' or 'euclidean'",
        ),
        ({"threshold": {"false_alarm_rate": 1.5}}, r"settings: threshold\.false_alarm_rate = 1\.5: .*less than 1"),
    ],
)
def test_a_bad_setting_fails_at_once_whatever_the_preset(
    preset: str | None, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        Detector(preset, settings=settings)


def test_settings_come_from_a_toml_file_and_are_named_by_it(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[train]\nepochs = 2\n[memory]\nnum_items = 7\n")
    detector = Detector(settings=tmp_path / "run.toml").fit(ROWS)
    assert (detector.config.train.epochs, detector.config.memory.num_items) == (2, 7)
    (tmp_path / "run.toml").write_text("[train]\nepoch = 2\n")
    with pytest.raises(ConfigError, match=r"run\.toml: train\.epoch: unknown key; did you mean train\.epochs"):
        Detector(settings=str(tmp_path / "run.toml"))


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None])
def test_a_seed_that_is_none_fails_at_once(seed: Any) -> None:
    with pytest.raises(ConfigError, match=r"seed = .*: give a whole number, 0 or more"):
        Detector(seed=seed)


def test_an_unknown_device_fails_at_once() -> None:
    with pytest.raises(ConfigError, match="device = 'gpu': give 'auto' or 'cpu'"):
        Detector(device="gpu")  # type: ignore[arg-type]  # which is what the test is about


def test_a_network_for_the_other_kind_of_data_is_refused() -> None:
    for detector, x in (
        (Detector("kddcup"), ONES),
        (Detector("mnist"), ROWS),
        (Detector(settings={"network": "kddcup"}), ONES),
        (Detector(settings={"network": "image"}), ROWS),
    ):
        with pytest.raises(ConfigError, match=r"preset '\w+' is for .*, and the data is .*; leave the preset out"):
            detector.fit(x)
    with pytest.raises(ConfigError, match="preset 'kddcup' is for tables"):
        Detector("mnist", settings={"network": "kddcup"})


def test_global_random_state_is_neither_used_nor_touched(of_images: Detector, tmp_path: Path) -> None:
    settings = BRIEF | {"memory": {"initialisation": "kmeans", "warmup_epochs": 1, "num_items": 12}}
    scores = []
    for start in (1, 2):
        torch.manual_seed(start)
        np.random.seed(start)
        random.seed(start)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        detector = Detector(settings=settings).fit(ONES)
        detector.save(tmp_path / f"{start}")
        Detector.load(tmp_path / f"{start}").explain(ONES[:2])
        scores.append(detector.detect(ONES).scores)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])
        assert random.getstate() == before[2]
    assert np.array_equal(scores[0], scores[1])


def test_before_fit_every_use_says_what_to_do() -> None:
    detector = Detector()
    for use in (
        lambda: detector.score(ROWS),
        lambda: detector.detect(ROWS),
        lambda: next(detector.stream(ROWS)),
        lambda: detector.explain(ROWS),
        detector.items,
        lambda: detector.save("nowhere"),
        lambda: detector.threshold,
        lambda: detector.model,
        lambda: detector.config,
        lambda: detector.facts,
    ):
        with pytest.raises(MemaeError, match=r"this detector is not fitted; call fit\(x\), or Detector\.load"):
            use()


def test_a_fit_that_fails_keeps_the_model_before_it() -> None:
    detector = fit(ROWS)
    before = detector.score(ROWS).values
    with pytest.raises(DataError, match="column 'mean area' is empty in all"):
        detector.fit(ROWS.assign(**{"mean area": None}).astype(float))
    assert np.array_equal(detector.score(ROWS).values, before)


def test_anomalies_score_higher(of_rows: Detector) -> None:
    assert np.median(of_rows.score(MALIGNANT).values) > 2 * np.median(of_rows.score(ROWS).values)


def test_scoring_changes_nothing(
    fitted: tuple[Detector, np.ndarray | pd.DataFrame, np.ndarray | pd.DataFrame],
) -> None:
    detector, normal, anomalous = fitted
    before = weights(detector)
    first = detector.score(normal).values
    detector.detect(anomalous)
    detector.explain(anomalous[:3])
    detector.items()
    assert np.array_equal(detector.score(normal).values, first)
    assert equal(weights(detector), before)
    assert not detector.model.training


def test_score_detect_stream_and_explain_agree(
    fitted: tuple[Detector, np.ndarray | pd.DataFrame, np.ndarray | pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector, normal, _ = fitted
    scores, verdicts = detector.score(normal), detector.detect(normal)
    assert len(scores) == len(verdicts) == len(normal)
    assert list(scores.keys) == list(verdicts.keys)
    assert np.array_equal(scores.values, verdicts.scores)
    assert np.array_equal(verdicts.is_anomaly, verdicts.scores > verdicts.threshold)
    assert np.array_equal(verdicts.p_values, detector.threshold.p_values(verdicts.scores))
    rows = list(verdicts)
    assert [row.score for row in rows] == verdicts.scores.tolist()
    assert [row.is_anomaly for row in rows] == verdicts.is_anomaly.tolist()
    assert isinstance(rows[0].is_anomaly, bool)
    explained = detector.explain(normal)
    assert [one.score for one in explained] == verdicts.scores.tolist()
    assert [one.p_value for one in explained] == verdicts.p_values.tolist()
    monkeypatch.setattr(memae.engine.scoring, "CHUNK_SAMPLES", 50)
    parts = list(detector.stream(normal))
    assert [len(part) for part in parts] == [50] * (len(normal) // 50) + [len(normal) % 50]
    assert np.concatenate([part.scores for part in parts]) == pytest.approx(verdicts.scores, rel=1e-5)
    assert [key for part in parts for key in part.keys] == list(verdicts.keys)
    assert [one.key for one in detector.explain(normal)] == list(verdicts.keys)


def test_only_the_samples_of_the_given_keys_are_explained(
    of_rows: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memae.engine.scoring, "CHUNK_SAMPLES", 50)
    verdicts = of_rows.detect(MALIGNANT)
    anomalies = [verdict.key for verdict in verdicts if verdict.is_anomaly]
    assert 0 < len(anomalies) < len(MALIGNANT)
    every = {one.key: one for one in of_rows.explain(MALIGNANT)}
    found = of_rows.explain(MALIGNANT, keys=anomalies[::-1])
    assert [one.key for one in found] == anomalies
    for one in found:
        assert one.cells[0].seen == every[one.key].cells[0].seen
        assert one.score == pytest.approx(every[one.key].score, rel=1e-5)
    assert of_rows.explain(MALIGNANT, keys=[]) == []
    with pytest.raises(DataError, match="no sample has the key 'nobody'; take keys that score or detect gave"):
        of_rows.explain(MALIGNANT, keys=[anomalies[0], "nobody"])


def test_a_stream_gives_what_it_has_before_it_meets_a_bad_row(
    of_rows: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = ROWS.to_csv(index=False)
    body = "".join(ROWS.to_csv(index=False, header=False) for _ in range(80))
    (tmp_path / "t.csv").write_text(head + body + "spoilt," * 7 + "spoilt\n")
    assert (tmp_path / "t.csv").stat().st_size > 1 << 20  # Arrow reads blocks of 1 MiB
    monkeypatch.setattr(memae.engine.scoring, "CHUNK_SAMPLES", 1000)
    stream, rows = of_rows.stream(tmp_path / "t.csv"), 0
    with pytest.raises(
        DataError, match=rf"line {81 * len(ROWS) + 2} holds 'spoilt' in the number column 'mean rad"
    ):
        for part in stream:
            rows += len(part)
    assert rows > 10_000


def test_arrays_frames_and_files_score_the_same(of_rows: Detector, tmp_path: Path) -> None:
    ROWS.to_csv(tmp_path / "t.csv", index=False)
    ROWS.to_parquet(tmp_path / "t.parquet")
    expected = of_rows.score(ROWS).values
    for x in (pl.from_pandas(ROWS), tmp_path / "t.csv", str(tmp_path / "t.parquet")):
        scores = of_rows.score(x)
        assert scores.values == pytest.approx(expected, rel=1e-6)
        assert list(scores.keys) == list(range(len(ROWS)))


def test_index_labels_come_back(of_rows: Detector) -> None:
    named = ROWS[:5].set_axis(["a", "b", "c", "d", "e"])
    assert list(of_rows.score(named).keys) == list("abcde")
    assert [verdict.key for verdict in of_rows.detect(named)] == list("abcde")
    assert [one.key for one in of_rows.explain(named)] == list("abcde")
    assert list(fit(ROWS.set_axis([f"patient {i}" for i in ROWS.index])).score(named).keys) == list("abcde")


@pytest.mark.parametrize("drop", [["id", "note"], ("id", "note")])
def test_dropped_columns_may_hold_anything_then_and_later(
    tmp_path: Path, drop: list[str] | tuple[str, str]
) -> None:
    noted = ROWS.assign(id=[f"patient {i}" for i in range(len(ROWS))], note="text")
    detector = Detector(settings=BRIEF).fit(noted, drop=drop)
    expected = detector.score(ROWS).values
    assert np.array_equal(expected, fit(ROWS).score(ROWS).values)
    assert np.array_equal(detector.score(noted.assign(id=range(len(ROWS)), note=None)).values, expected)
    noted.to_csv(tmp_path / "t.csv", index=False)
    detector.save(tmp_path / "model")
    assert Detector.load(tmp_path / "model").score(tmp_path / "t.csv").values == pytest.approx(expected, rel=1e-6)


def test_one_column_may_be_dropped_by_its_bare_name() -> None:
    noted = ROWS.assign(note="text")
    assert np.array_equal(
        Detector(settings=BRIEF).fit(noted, drop="note").score(ROWS).values, fit(ROWS).score(ROWS).values
    )


def test_a_column_that_cannot_be_dropped_is_refused() -> None:
    with pytest.raises(DataError, match="the DataFrame: no column 'note'; it has 'mean radius'"):
        Detector(settings=BRIEF).fit(ROWS, drop=["note"])
    with pytest.raises(DataError, match="the array: images have no column 'note' to leave out"):
        Detector(settings=BRIEF).fit(ONES, drop=["note"])


def test_values_out_of_all_proportion_have_finite_and_high_scores(of_rows: Detector) -> None:
    scores = of_rows.score(pd.concat([ROWS, ROWS[:2].assign(**{"mean area": [1e300, -1e30]})])).values
    assert np.isfinite(scores).all()
    assert scores[-2:].min() > scores[:-2].max()


@pytest.mark.parametrize("memory", [{}, {"warmup_epochs": 1, "initialisation": "kmeans"}, {"revive_epochs": 2}])
def test_the_plain_autoencoder_does_all_that_the_detector_does(memory: dict[str, Any], tmp_path: Path) -> None:
    for x in (ONES, ROWS):
        detector = fit(x, memory=memory | {"enabled": False})
        assert detector.model.memory is None
        assert detector.items() is None
        verdicts = detector.detect(x[:5])
        assert [one.items for one in detector.explain(x[:5])] == [()] * 5
        detector.save(tmp_path / "model")
        assert np.array_equal(Detector.load(tmp_path / "model", device="cpu").score(x[:5]).values, verdicts.scores)
        assert detector.facts["last_epoch"]["memory"] is None


def test_without_calibration_there_are_scores_and_no_verdicts() -> None:
    detector = fit(ROWS, threshold={"calibration_share": 0})
    assert np.isfinite(detector.score(ROWS).values).all()
    with pytest.raises(MemaeError, match=r"no threshold, .*calibration_share = 0; use score, or train it with"):
        detector.detect(ROWS)


def test_explain_takes_the_keys_of_a_few(of_rows: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memae.engine.scoring, "CHUNK_SAMPLES", 7)
    x = pd.DataFrame(load_breast_cancer().data, index=[f"patient {i}" for i in range(569)])[:40]
    detector = fit(x)
    every = {explanation.key: explanation for explanation in detector.explain(x)}
    few = detector.explain(x, keys=["patient 30", "patient 2"])
    assert [explanation.key for explanation in few] == ["patient 2", "patient 30"]
    for explanation in few:
        assert explanation.score == pytest.approx(every[explanation.key].score, rel=1e-5)
        assert explanation.cells[0].column == every[explanation.key].cells[0].column
    assert detector.explain(x, keys=[]) == []


def test_explain_names_a_key_that_no_sample_has() -> None:
    x = load_breast_cancer().data[:40]
    with pytest.raises(DataError, match=r"no sample has the key 99; take keys that score or detect gave"):
        fit(x).explain(x, keys=[3, 99])


def test_images_are_scored_alike_however_many_are_encoded_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 12), dtype=np.uint8)
    for place, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{place}.png")
    (tmp_path / "4.png").write_bytes(b"no picture")
    detector = Detector("image", settings=BRIEF, device="cpu").fit(pixels)
    together = detector.detect(tmp_path, skip_bad=True)

    def read() -> list[list[int]]:
        return [[use.item for use in found.items] for found in detector.explain(tmp_path, skip_bad=True)]

    items = read()
    for module, name in ((memae.image.predict, "ENCODED_BYTES"), (memae.engine.scoring, "BATCH_BYTES")):
        monkeypatch.setattr(module, name, 2 * 4 * 12 * 12)
    parts = [len(part.keys) for part in detector.stream(tmp_path, explained="all", skip_bad=True)]
    apart = detector.detect(tmp_path, skip_bad=True)
    assert parts == [2, 2, 2, 2, 1]
    assert apart.keys == together.keys == [f"{place}.png" for place in range(9)]
    assert [skipped.key for skipped in apart.skipped] == ["4.png"]
    assert np.flatnonzero(np.isnan(apart.scores)).tolist() == [4]
    assert apart.scores == pytest.approx(together.scores, rel=1e-5, nan_ok=True)
    assert read() == items
