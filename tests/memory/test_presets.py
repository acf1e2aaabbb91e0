"""The presets of memories from data to a saved model: trained, scored, loaded, run by OpenVINO and from the CLI."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from memae import Detector
from memae.cli import app
from memae.config import override
from memae.errors import ConfigError
from memae.export import export_model
from memae.memory.base import memory_presets
from memae.modality import build, preset_config
from memae.training.history import EpochRecord

PRESETS = tuple(memory_presets())
ROWS, BENIGN = load_breast_cancer(return_X_y=True)
PIXELS, DIGIT = load_digits(return_X_y=True)
IMAGES = np.kron((PIXELS * 15).reshape(-1, 8, 8).astype(np.uint8), np.ones((1, 4, 4), np.uint8))[:, 2:-2, 2:-2]
DATA = {
    "table": (ROWS[BENIGN == 1], ROWS[::3], BENIGN[::3] == 0),
    "image": (IMAGES[DIGIT == 1][:120], IMAGES[:120], DIGIT[:120] != 1),  # 28 x 28
}
BRIEF: dict[str, Any] = {"train": {"epochs": 12, "batch_size": 16, "learning_rate": 5e-3}}
FITS = [(preset, kind) for preset in PRESETS for kind in DATA if (preset, kind) != ("mpn", "table")]


@pytest.fixture(scope="module", params=FITS, ids=lambda fit: f"{fit[0]}, {fit[1]}")
def fitted(request: pytest.FixtureRequest) -> tuple[Detector, str, str]:
    preset, kind = request.param
    return Detector(preset, settings=BRIEF, device="cpu", engine="torch").fit(DATA[kind][0]), preset, kind


def test_it_finds_anomalies_is_saved_and_scores_as_before(
    fitted: tuple[Detector, str, str], tmp_path: Path
) -> None:
    detector, preset, kind = fitted
    _, some, anomalous = DATA[kind]
    scores = detector.score(some).values
    assert roc_auc_score(anomalous, scores) > 0.75
    assert detector.config.memory.kind == preset.partition("-")[0]
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", device="cpu", engine="torch")
    assert np.array_equal(loaded.score(some).values, scores)
    before, after = (each.model.state_dict() for each in (detector, loaded))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    explained = detector.explain(some[:3])
    assert [one.score for one in explained] == pytest.approx(scores[:3], rel=1e-4)
    assert all(sum(use.weight for use in one.items) == pytest.approx(1, abs=1e-5) for one in explained)
    assert detector.items() is not None


def test_its_terms_reach_the_training(fitted: tuple[Detector, str, str]) -> None:
    detector, _, kind = fitted
    terms = {
        "mnad": {"compactness", "separateness"},
        "mpn": {"compactness", "diversity"},
        "memto": {"entropy"},
        "memstream": set(),
    }[detector.config.memory.kind]
    assert {term.name for term in detector.model.memory.loss_terms(_a_read(detector, kind))} == terms
    if detector.history.records[-1].held_out_terms:
        assert detector.history.records[-1].held_out_terms.keys() == terms


def _a_read(detector: Detector, kind: str) -> Any:
    x = torch.zeros(3, *detector.preprocess.shape)
    return detector.model(x).read


@pytest.mark.skipif(find_spec("openvino") is None, reason="the extra `fast` is not installed")
@pytest.mark.parametrize("preset", ["mnad-released", "mpn", "memto", "memstream"])
def test_openvino_gives_the_same_scores(preset: str, tmp_path: Path) -> None:
    normal, some, _ = DATA["image"]
    detector = Detector(preset, settings={"train": {"epochs": 1}}, device="cpu", engine="torch").fit(normal)
    detector.save(tmp_path / "model")
    other = Detector.load(tmp_path / "model", device="cpu", engine="openvino")
    scores = detector.score(some[:40]).values
    assert other.score(some[:40]).values == pytest.approx(scores, rel=1e-4, abs=1e-5)


@pytest.mark.skipif(find_spec("openvino") is None, reason="the extra `export` is not installed")
@pytest.mark.parametrize("preset", ["mnad-paper", "memto", "memstream"])
def test_it_is_exported_with_the_scores_of_the_library(preset: str, tmp_path: Path) -> None:
    detector = Detector(preset, settings={"train": {"epochs": 1}}, device="cpu").fit(DATA["table"][0])
    exported = export_model(detector.artifact, tmp_path / "out", "openvino")  # an error where scores differ
    assert exported.parity.largest_difference < 1e-5


def test_a_penalty_that_weighs_more_changes_the_training() -> None:
    found = [
        Detector("mnad-paper", settings={**BRIEF, "memory": {"compactness_weight": weight}}, device="cpu")
        .fit(DATA["table"][0])
        .score(ROWS[:20])
        .values
        for weight in (0.01, 100.0)
    ]
    assert not np.allclose(found[0], found[1], rtol=1e-3)


@pytest.mark.parametrize("preset", ["mnad-paper", "memto"])
def test_a_training_goes_on_bit_for_bit_with_the_items_that_it_had(preset: str, tmp_path: Path) -> None:
    def stops(event: Any) -> None:
        if isinstance(event, EpochRecord) and event.epoch == 2:
            raise KeyboardInterrupt

    own = {"decay": 0.5} if preset == "mnad-paper" else {"warmup_epochs": 0}
    settings: dict[str, Any] = {"train": {"epochs": 4}, "memory": own}
    rows, place = DATA["table"][0], tmp_path / "state"
    whole, halved = (Detector(preset, settings=settings, device="cpu") for _ in range(2))
    whole.fit(rows)
    halved.fit(rows, checkpoint=place, progress=stops)
    assert halved.history.interrupted
    halved.fit(rows, checkpoint=place, resume=True)
    before, after = (each.model.state_dict() for each in (whole, halved))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("preset", ["mnad-paper", "memto"])
def test_items_may_come_after_the_training_too(preset: str) -> None:
    settings = {**BRIEF, "memory": {"trained": False, "initialisation": "kmeans", "warmup_epochs": 0}}
    detector = Detector(preset, settings=settings, device="cpu").fit(DATA["table"][0])
    assert roc_auc_score(DATA["table"][2], detector.score(DATA["table"][1]).values) > 0.75


@pytest.mark.parametrize("preset", ["video-mnad-released", "video-mpn", "video-memto"])
def test_networks_of_video_take_them(preset: str) -> None:
    model, clips = build(preset_config(preset, "video"), (1, 16, 64, 64)), torch.zeros(2, 1, 16, 64, 64)
    made = model(clips)
    assert made.x.shape == model.without_memory()(clips).x.shape == clips.shape
    assert made.read.values.shape[2] == model.memory.out_dim


def test_beta_is_a_quantile_of_the_held_out_scores() -> None:
    for quantile in (0.5, 0.9):
        settings = {**BRIEF, "memory": {"beta_quantile": quantile, "num_items": 50}}
        detector = Detector("memstream", settings=settings, device="cpu").fit(DATA["table"][0])
        memory: Any = detector.model.memory
        normal = detector.threshold.calibration
        assert float(memory.beta) == pytest.approx(np.quantile(normal, quantile), rel=1e-6)
        assert memory.num_items == 50


def test_a_row_is_no_map_of_positions() -> None:
    with pytest.raises(ConfigError, match=r"memory\.kind = 'mpn' makes its items from the positions of a sample"):
        Detector("mpn", settings=BRIEF).fit(DATA["table"][0])


def test_another_family_has_its_own_defaults_and_not_the_numbers_of_the_preset() -> None:
    detector: Any = Detector(settings={"memory": {"kind": "mnad"}, **BRIEF}, device="cpu").fit(DATA["table"][0])
    memory = detector.config.memory
    assert (memory.num_items, memory.trained, memory.initialisation) == (10, True, "uniform")
    assert detector.model.memory.kept_share is not None  # the rule ran


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "memstream", "trained": True}, r"memory\.trained = True"),
        ({"kind": "memstream", "score": "reconstruction"}, r"memory\.score = 'reconstruction'"),
        ({"kind": "mpn", "initialisation": "kmeans"}, r"memory\.initialisation = 'kmeans'"),
        ({"kind": "mnad", "num_items": 1}, r"memory\.num_items = 1"),
    ],
)
def test_settings_that_a_family_cannot_have_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Detector(settings={"memory": settings})


def test_frozen_features_take_no_memory_that_hands_on_the_query() -> None:
    config = preset_config("features-mnad-paper", "image")
    with pytest.raises(
        ConfigError, match=r"'features' .* leave memory\.enabled, memory\.kind and memory\.query out"
    ):
        build(config.model_copy(update={"train": config.train.model_copy(update={"epochs": 0})}), (1, 96, 96))


@pytest.mark.parametrize(
    ("preset", "settings", "shape", "message"),
    [
        ("video-memstream", {}, (1, 16, 64, 64), r"memory\.score = 'distance' is for images and tables"),
        ("image", {"image": {"tile_px": 32}, "memory": {"score": "distance"}}, (1, 32, 32), r"for whole images"),
        ("table", {"memory": {"score": "distance", "enabled": False}}, (5,), r"needs a memory"),
    ],
)
def test_distances_are_refused_where_there_are_none(
    preset: str, settings: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    kind = {"video": "video", "image": "image", "table": "table"}[preset.partition("-")[0]]
    with pytest.raises(ConfigError, match=message):
        build(override(preset_config(preset, kind), settings, "here"), shape)


def test_the_distance_of_memae_can_be_the_score_too() -> None:
    rows, some, anomalous = DATA["table"]
    detector = Detector(settings={**BRIEF, "memory": {"score": "distance"}}, device="cpu").fit(rows)
    scores = detector.score(some).values
    assert roc_auc_score(anomalous, scores) > 0.8
    encoded = detector.preprocess.encode(next(iter(detector.open(some).chunks(len(some)))))
    assert scores == pytest.approx(detector.model(encoded).read.distance.mean(dim=1).detach().numpy(), rel=1e-4)


@pytest.mark.parametrize("words", [["--preset", "mnad-released"], ["--set", "memory.kind=memto"]])
def test_the_command_line_takes_them(words: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", DATA["table"][0])
    model, run = tmp_path / "m.model", CliRunner()
    arguments = ["fit", str(tmp_path / "rows.npy"), "-o", str(model), "--set", "train.epochs=1", *words]
    fitted = run.invoke(app, arguments)
    assert fitted.exit_code == 0, fitted.output
    shown = run.invoke(app, ["inspect", str(model), "--json"])
    assert json.loads(shown.output)["config"]["memory"]["kind"] == words[1].rpartition("=")[2].partition("-")[0]
