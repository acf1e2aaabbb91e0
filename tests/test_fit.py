from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import memae.detector
import memae.training.phases
from memae import Detector
from memae.autoencoder import Autoencoder
from memae.errors import ArtifactError, ConfigError, DataError, MemaeError
from memae.image.maps import patch_means
from memae.modality import modality_of
from memae.progress import EpochRecord, Event, Stage
from tests.listening import Listener
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


@pytest.mark.parametrize("initialisation", ["uniform", "data", "kmeans"])
@pytest.mark.parametrize("x", [ONES, ROWS], ids=["images", "rows"])
def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    x: np.ndarray | pd.DataFrame, initialisation: str
) -> None:
    memory = {"initialisation": initialisation, "warmup_epochs": 1, "trained": True}
    seeds: list[Any] = [0, np.int64(0), 1]
    first, same, other = (fit(x, seed=seed, memory=memory, train={"noise": 0.1}) for seed in seeds)
    assert equal(weights(first), weights(same))
    assert np.array_equal(first.score(x).values, same.score(x).values)
    assert np.array_equal(first.threshold.calibration, same.threshold.calibration)
    assert not np.array_equal(first.score(x).values, other.score(x).values)


def places_of(values: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which samples have these scores, up to the rounding of another batch."""
    places = [int(np.abs(scores - value).argmin()) for value in values]
    assert scores[places] == pytest.approx(values, rel=1e-5)
    assert len(set(places)) == len(values)
    return np.array(places)


def test_the_untrained_network_scores_too(tmp_path: Path) -> None:
    detector = fit(ROWS, train={"epochs": 0})
    assert detector.history.records == ()
    assert np.isfinite(detector.detect(ROWS).scores).all()
    detector.save(tmp_path / "model")
    assert np.array_equal(Detector.load(tmp_path / "model").score(ROWS).values, detector.score(ROWS).values)


def test_the_scale_of_maps_is_that_of_their_squares() -> None:
    x = np.random.default_rng(0).integers(0, 256, (8, 1, 32, 24), dtype=np.uint8)
    detector = fit(x, image={"pool": "mean", "patch_px": 4})
    artifact = detector._fitted
    maxima = artifact.reference.maxima
    everything = np.array([found.anomaly_map.max() for found in detector.explain(x)])
    assert len(maxima) == round(0.2 * len(x))
    assert all(np.isclose(everything, maximum, rtol=1e-4).any() for maximum in maxima)
    assert [found.anomaly_map.shape for found in detector.explain(x)] == [(8, 6)] * 8


def test_starting_the_memory_from_data_leaves_the_batch_statistics_alone() -> None:
    buffers = dict(fit(ONES, train={"epochs": 0}, memory={"initialisation": "data"}).model.named_buffers())
    assert buffers
    assert all(int(value) == 0 for name, value in buffers.items() if name.endswith("num_batches_tracked"))
    assert all(value.abs().max() == 0 for name, value in buffers.items() if name.endswith("running_mean"))


def test_the_use_of_items_is_that_of_the_training_samples(of_rows: Detector) -> None:
    uses = np.zeros(12, int)
    for one in of_rows.explain(ROWS):
        uses[[use.item for use in one.items]] += 1
    found = of_rows.items().usage_counts
    assert (found <= uses).all()
    assert 0.5 * uses.sum() < found.sum() < 0.9 * uses.sum()  # 80 % of the samples are trained on


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Images (S, 66, 70) of stripes, brighter and so harder to rebuild to the right."""
    generator = np.random.default_rng(seed)
    stripes = np.sin(np.arange(66)[:, None] / 3 + generator.uniform(0, 6, (count, 1, 1)))
    return (
        (128 + np.linspace(5, 100, 70) * stripes + generator.normal(0, 4, (count, 66, 70)))
        .clip(0, 255)
        .astype(np.uint8)
    )


@pytest.mark.parametrize("memory", [True, False])
def test_errors_of_large_images_are_multiples_of_what_is_usual_in_training(tmp_path: Path, memory: bool) -> None:
    x, brief = pictures(40), {"train": {"epochs": 2}, "memory": {"enabled": memory, "num_items": 8}}
    plain = Detector("image", settings={**brief, "image": {"relative": False}}, device="cpu").fit(x)
    detector = Detector("image", settings=brief, device="cpu").fit(x)
    assert equal(weights(detector), weights(plain))  # a matter of scoring alone
    maps, errors = (
        np.stack([patch_means(np.asarray(found.error_map), 4) for found in one.explain(x)])
        for one in (detector, plain)
    )
    assert maps.shape == (40, 17, 18)
    usual = errors.mean(axis=0)  # of all samples, of which 70 % were trained on
    assert maps == pytest.approx(errors / (usual + 0.1 * usual.mean()), rel=0.5)
    assert 0.85 < maps.mean() < 1
    factor = (errors / maps).reshape(len(x), -1)
    assert factor == pytest.approx(np.broadcast_to(factor[0], factor.shape), rel=1e-4)
    detector.save(tmp_path / "model")
    assert np.array_equal(Detector.load(tmp_path / "model").score(x).values, detector.score(x).values)


def test_a_section_of_another_kind_of_data_is_refused_with_a_word_on_it() -> None:
    with pytest.raises(ConfigError, match=r"section \[image\] is for images, and network 'wide' is for tables"):
        fit(ROWS, image={"relative": True})


def test_small_images_may_have_it(tmp_path: Path) -> None:
    detector = fit(ONES, image={"relative": True})
    detector.save(tmp_path / "model")
    scores = Detector.load(tmp_path / "model").score(ONES).values
    assert np.array_equal(scores, detector.score(ONES).values)
    assert 0.3 < np.median(scores) < 3


def test_every_sample_has_one_part(
    fitted: tuple[Detector, np.ndarray | pd.DataFrame, np.ndarray | pd.DataFrame],
) -> None:
    detector, normal, _ = fitted
    parts = detector.facts["samples"]
    assert sum(parts.values()) == len(normal)
    assert parts["held_out"] == round(detector.config.train.validation_share * len(normal))
    assert parts["calibration"] == round(0.2 * len(normal)) == len(detector.threshold.calibration)


def test_the_threshold_is_set_on_samples_that_no_training_saw(of_rows: Detector) -> None:
    unseen = places_of(of_rows.threshold.calibration, of_rows.score(ROWS).values)
    spoilt = ROWS.copy()
    spoilt.iloc[unseen] += 1000
    again = fit(spoilt)
    assert equal(weights(again), weights(of_rows))
    assert again.facts["last_epoch"]["loss"] == of_rows.facts["last_epoch"]["loss"]
    assert again.threshold.value > 100 * of_rows.threshold.value


def test_other_samples_are_seen_in_training(of_rows: Detector) -> None:
    unseen = places_of(of_rows.threshold.calibration, of_rows.score(ROWS).values)
    spoilt = ROWS.copy()
    spoilt.iloc[np.setdiff1d(np.arange(len(ROWS)), unseen)[0]] *= 1.5
    again = fit(spoilt)
    assert (
        not equal(weights(again), weights(of_rows))
        or again.facts["last_epoch"]["held_out_loss"] != of_rows.facts["last_epoch"]["held_out_loss"]
    )


def test_the_false_alarm_rate_on_new_normal_samples_is_about_the_wanted_one() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3000, 5))
    detector = fit(x[:1000], threshold={"false_alarm_rate": 0.1})
    flags = detector.detect(x[1000:]).is_anomaly
    assert detector.threshold.false_alarm_rate == 0.1
    assert 0.06 < flags.mean() < 0.15


@pytest.mark.parametrize("x", [ONES, ROWS], ids=["images", "rows"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_samples_are_refused(x: np.ndarray | pd.DataFrame, count: int) -> None:
    with pytest.raises(DataError, match=f"holds {count} samples?, too few to .*give at least 20"):
        fit(x[:count])


@pytest.mark.parametrize("x", [ONES, ROWS], ids=["images", "rows"])
def test_twenty_samples_are_enough(x: np.ndarray | pd.DataFrame) -> None:
    detector = fit(x[:20])
    assert detector.threshold.false_alarm_rate == pytest.approx(
        1 - 0.25 ** (1 / 4)
    )  # held with a confidence of .75
    assert np.isfinite(detector.score(x[:3]).values).all()


def never(*args: Any, **kwargs: Any) -> NoReturn:
    raise AssertionError("it trained")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (
            {"threshold": {"false_alarm_rate": 0.001}},
            r"threshold\.false_alarm_rate = 0\.001 takes at least 999 held-out normal samples, and there are 71, "
            r".*give more data, raise threshold\.calibration_share, or ask for a higher rate",
        ),
        (
            {"threshold": {"false_alarm_rate": 0.1, "calibration_share": 0}},
            r"threshold\.false_alarm_rate = 0\.1 needs held-out samples: raise threshold\.calibration_share",
        ),
        (
            {"train": {"validation_share": 0, "patience": 5}},
            r"train\.patience needs held-out samples: raise train\.validation_share, or set train\.patience=0",
        ),
        (
            {"memory": {"num_items": 5, "shrinkage": 5}},
            r"memory\.shrinkage = 5 .* below memory\.num_items = 5; lower the one or raise the other",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_any_training(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], what: str
) -> None:
    monkeypatch.setattr(memae.training.phases, "train", never)
    with pytest.raises(ConfigError, match=what):
        fit(ROWS, **settings)


def test_a_rate_that_can_be_promised_is_kept() -> None:
    assert fit(ROWS, threshold={"false_alarm_rate": 0.05}).threshold.false_alarm_rate == 0.05


class StopAt(Listener):
    """Interrupts like Ctrl-C: at the end of an epoch, or within it at a step."""

    def __init__(self, epoch: int, step: int | None = None) -> None:
        self.at, self.steps_left, self.epochs_done = epoch, step, 0

    def begin(self, epochs: int, samples: int, done: int) -> None:
        self.epochs_done = done

    def step(self, samples: int, loss: object) -> None:
        if self.steps_left is not None and self.epochs_done == self.at:
            if self.steps_left == 0:
                raise KeyboardInterrupt
            self.steps_left -= 1

    def epoch(self, record: EpochRecord) -> None:
        self.epochs_done = record.epoch
        if self.steps_left is None and record.epoch == self.at:
            raise KeyboardInterrupt

    def end(self) -> None:
        pass


@pytest.mark.parametrize("step", [None, 1], ids=["between epochs", "within an epoch"])
@pytest.mark.parametrize(
    "memory", [{}, {"warmup_epochs": 2, "initialisation": "kmeans", "revive_epochs": 4}], ids=["plain", "all"]
)
@pytest.mark.parametrize("x", [ONES, ROWS], ids=["images", "rows"])
def test_a_training_that_was_stopped_and_resumed_equals_one_that_was_not(
    x: np.ndarray | pd.DataFrame, memory: dict[str, Any], step: int | None, tmp_path: Path
) -> None:
    settings = {
        "train": {"epochs": 6, "batch_size": 32, "noise": 0.05},
        "memory": BRIEF["memory"] | memory,
    }
    whole = Detector(settings=settings).fit(x)
    stopped = Detector(settings=settings).fit(x, checkpoint=tmp_path / "state", progress=StopAt(3, step))
    assert stopped.history.interrupted
    assert stopped.facts["interrupted"]
    assert len(stopped.history.records) == 3
    assert np.isfinite(stopped.detect(x).scores).all()
    resumed = Detector(settings=settings).fit(x, checkpoint=tmp_path / "state", resume=True)
    assert not resumed.history.interrupted
    assert equal(weights(resumed), weights(whole))
    assert np.array_equal(resumed.score(x).values, whole.score(x).values)
    assert np.array_equal(resumed.threshold.calibration, whole.threshold.calibration)
    assert np.array_equal(resumed.items().usage_counts, whole.items().usage_counts)
    assert [r.loss for r in resumed.history.records] == [r.loss for r in whole.history.records]
    assert any((tmp_path / "state").iterdir())
    resumed.save(tmp_path / "model")
    assert not any((tmp_path / "state").iterdir())


@pytest.mark.parametrize("x", [ONES, ROWS], ids=["images", "rows"])
def test_a_memory_that_is_not_trained_holds_encodings_as_scoring_sees_them(x: np.ndarray | pd.DataFrame) -> None:
    detector = fit(x, memory={"trained": False, "initialisation": "data"})
    (chunk,) = detector.open(x).chunks(len(x))
    with torch.no_grad():
        codes = detector.model.encoder(detector.preprocess.encode(chunk)).flatten(1)
    nearest = torch.cdist(detector.model.memory.items, codes).min(dim=1).values
    assert nearest.max() < 0.01 * torch.pdist(codes).mean()


def test_a_stop_in_the_warm_up_is_resumed_too(tmp_path: Path) -> None:
    settings = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 3, "trained": True}}
    with pytest.raises(KeyboardInterrupt):
        Detector(settings=settings).fit(ROWS, checkpoint=tmp_path / "state", progress=StopAt(2))
    resumed = Detector(settings=settings).fit(ROWS, checkpoint=tmp_path / "state", resume=True)
    assert equal(weights(resumed), weights(Detector(settings=settings).fit(ROWS)))


def test_a_stop_before_the_first_epoch_passes_through() -> None:
    detector = Detector(settings=BRIEF)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(ROWS, progress=StopAt(0, step=0))
    with pytest.raises(MemaeError, match="not fitted"):
        detector.score(ROWS)


def test_only_the_very_same_run_is_resumed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    Detector(settings=BRIEF).fit(ROWS, checkpoint=state, progress=StopAt(2))
    for detector, x in (
        (Detector(settings=BRIEF, seed=1), ROWS),
        (Detector(settings=BRIEF), ROWS**2),
        (Detector(settings=BRIEF | {"train": {"epochs": 4}}), ROWS),
    ):
        with pytest.raises(ConfigError, match="the checkpoint is of a training with other data, settings or seed"):
            detector.fit(x, checkpoint=state, resume=True)
    assert len(Detector(settings=BRIEF).fit(ROWS, checkpoint=state, resume=True).history.records) == 3


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resume needs the checkpoint directory .*; pass checkpoint="):
        Detector(settings=BRIEF).fit(ROWS, resume=True)
    with pytest.raises(
        ConfigError, match="state: holds no training to resume; leave `resume=True` out to start one"
    ):
        Detector(settings=BRIEF).fit(ROWS, checkpoint=tmp_path / "state", resume=True)


def test_without_resume_an_old_checkpoint_is_not_continued(tmp_path: Path) -> None:
    Detector(settings=BRIEF, seed=1).fit(ROWS, checkpoint=tmp_path / "state", progress=StopAt(2))
    fresh = Detector(settings=BRIEF).fit(ROWS, checkpoint=tmp_path / "state")
    assert len(fresh.history.records) == 3
    assert equal(weights(fresh), weights(fit(ROWS)))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    Detector(settings=BRIEF).fit(ROWS, checkpoint=tmp_path / "state", progress=StopAt(2))
    (tmp_path / "state" / "main" / "state.safetensors").write_bytes(b"half")
    with pytest.raises(ArtifactError, match=r"main: this checkpoint cannot be read .*; remove it and train anew"):
        Detector(settings=BRIEF).fit(ROWS, checkpoint=tmp_path / "state", resume=True)


class Stubborn(nn.Identity):
    """Asks for a number in the middle, which no graph has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (2.0 if float(x.sum()) > 0 else 3.0)


def test_a_network_that_openvino_cannot_convert_is_refused_before_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = type(modality_of("small"))
    build = kind.build

    def stubborn(*args: Any) -> Autoencoder:
        model = build(*args)
        model.encoder = nn.Sequential(Stubborn(), model.encoder)
        return model

    monkeypatch.setattr(kind, "build", stubborn)
    events: list[Event] = []
    with pytest.raises(ConfigError, match=r"`engine='openvino'`: OpenVINO cannot convert this network"):
        Detector(settings=BRIEF, engine="openvino").fit(ONES, progress=events.append)
    assert not [event for event in events if isinstance(event, Stage) and event.epochs is not None]
    assert Detector(settings=BRIEF, engine="torch").fit(ONES).history.records


@pytest.mark.parametrize("x", [ONES, ROWS], ids=["images", "rows"])
def test_the_check_of_the_engine_changes_no_weight(x: np.ndarray | pd.DataFrame) -> None:
    checked, plain = (Detector(settings=BRIEF, engine=engine).fit(x) for engine in ("openvino", "torch"))
    assert equal(weights(checked), weights(plain))
    assert checked.threshold.value == pytest.approx(plain.threshold.value, rel=1e-4)
