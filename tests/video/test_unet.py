"""The U-Net of MNAD and MPN: sizes against the papers, what it sees, what it learns, and models from data to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from memae import Detector
from memae.cli import app
from memae.config import override
from memae.errors import ConfigError
from memae.modality import build, preset_config
from memae.video.predict import scored_frames
from memae.video.streams import StreamScorer
from memae.video.unet import UNet
from tests.moving_squares import Reel, frames_of, squares
from tests.small_footage import write_footage

PAPER = (64, 128, 256, 512)
TINY: dict[str, Any] = {
    "video": {"height": 32, "width": 32, "channels": [8, 16], "training_stride": 2},
    "train": {"epochs": 3, "learning_rate": 2e-3},
}
PRESETS = ("mnad-small", "mpn-small")


def weights_of(*parts: nn.Module) -> int:
    layers = [layer for part in parts for layer in part.modules()]
    return sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d))


@pytest.mark.parametrize(
    ("plan", "widening", "millions", "code"),
    [
        (UNet(PAPER, seen=12, made=3, skips=True, norm=True, late=False), 2, 15.6, (512, 1, 32, 32)),
        (UNet(PAPER, seen=3, made=3, skips=False, norm=True, late=False), 2, 17.2, (512, 1, 32, 32)),
        (UNet(PAPER, seen=12, made=3, skips=True, norm=False, late=True), 1, 13.3, (128, 1, 256, 256)),
    ],
    ids=["MNAD predicts", "MNAD reconstructs", "MPN"],
)
def test_it_is_as_large_as_published(plan: UNet, widening: int, millions: float, code: tuple[int, ...]) -> None:
    assert round(weights_of(plan.encoder(), plan.decoder(widening)) / 1e6, 1) == millions
    assert plan.encoded(256, 256) == code


@pytest.mark.parametrize("preset", ["mnad-paper", "mnad-released", "mpn", *PRESETS, "unet"])
def test_it_predicts_the_last_frame_from_those_before(preset: str) -> None:
    torch.manual_seed(0)
    config = override(preset_config(preset, "video"), {"video": {"channels": [4, 8, 16]}}, "test")
    model, clips = build(config, (1, 5, 16, 24)).eval(), torch.rand(2, 1, 5, 16, 24)
    other = clips.clone()
    other[:, :, -1] += 0.5
    with torch.no_grad():
        made = model(clips)
        assert torch.equal(model(other).x, made.x)
        assert torch.equal(made.against(clips), clips[:, :, 4:])
        other[:, :, 0] += 0.5
        assert not torch.equal(model(other).x, made.x)
    assert made.x.shape == (2, 1, 1, 16, 24)
    assert made.x.abs().max() <= 1
    assert made.positions == ((1, 16, 24) if preset.startswith("mpn") else (1, 4, 6))


@pytest.mark.parametrize("preset", PRESETS)
def test_gradient_reaches_every_weight(preset: str) -> None:
    config = override(preset_config(preset, "video"), {"video": {"channels": [4, 8]}}, "test")
    model, clips = build(config, (1, 5, 16, 16)), torch.rand(3, 1, 5, 16, 16)
    made = model(clips)
    loss = (made.against(clips) - made.x).square().mean()
    for term in model.memory.loss_terms(made.read):
        loss = loss + term.weight * term.value
    loss.backward()
    gradients = [one.grad for one in model.parameters()]
    assert all(one is not None and bool(one.any()) for one in gradients)


def test_without_a_prediction_it_has_no_skips_and_rebuilds_the_clip() -> None:
    settings = {"video": {"task": "reconstruct", "clip_length": 1, "channels": [4, 8, 16]}}
    model = build(override(preset_config("mnad-paper", "video"), settings, "test"), (1, 1, 16, 16))
    clips = torch.rand(2, 1, 1, 16, 16)
    assert isinstance(model.encoder(clips), torch.Tensor)
    assert model(clips).x.shape == model(clips).against(clips).shape == clips.shape
    alone = model.decoder(model.items_alone((1, 1, 16, 16)))
    assert alone.shape == (10, 1, 1, 16, 16)


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("video", {"task": "predict"}, r"video\.task = 'predict'.* take network 'unet'"),
        ("mpn", {"task": "reconstruct"}, r"video\.task = 'reconstruct'"),
        ("unet", {"input": "differences"}, r"video\.input = 'differences'"),
        ("unet", {"channels": [8]}, r"video\.channels = \[8\]"),
        ("unet", {"crop_px": 12}, r"video\.crop_px = 12: .* multiples of 8"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(preset: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(override(preset_config(preset, "video"), {"video": settings}, "test"), (1, 5, 32, 32))


def test_a_preset_of_video_is_told_where_the_data_is_of_another_kind() -> None:
    with pytest.raises(ConfigError, match=r"'mnad-small' is for videos"):
        preset_config("mnad-small", "image")


@pytest.fixture(scope="module", params=PRESETS)
def fitted(request: pytest.FixtureRequest) -> Detector:
    reel: Any = Reel({str(seed): squares(50, seed=seed) for seed in range(4)})
    return Detector(request.param, settings=TINY, device="cpu", engine="torch").fit(reel)


def with_intruder() -> np.ndarray:
    pixels = squares(40, seed=9)
    for number in range(20, 30):
        pixels[number, 4:12, 4 + number % 8 : 16 + number % 8] = 255 if number % 2 else 0
    return pixels


def test_it_learns_and_finds_what_it_did_not_see(fitted: Detector) -> None:
    losses = fitted.facts["losses"]["training"]
    assert losses[-1] < 0.7 * losses[0]
    scores = np.array([one.score for one in scored_frames(fitted.artifact, Reel({"v": with_intruder()}))])
    assert len(scores) == 40
    assert np.isfinite(scores).all()
    assert len(set(scores[:5])) == 1  # the first frames have the score of the first prediction
    assert scores[20:30].min() > np.quantile(scores[:20], 0.9)


def test_it_is_saved_and_scores_to_the_bit(fitted: Detector, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", device="cpu", engine="torch")
    assert loaded.artifact.reference.scale == fitted.artifact.reference.scale
    before, after = (
        [one.score for one in scored_frames(each.artifact, Reel({"v": with_intruder()}))]
        for each in (fitted, loaded)
    )
    assert before == after
    assert fitted.items() is not None


def test_a_stream_of_single_frames_has_the_same_scores(fitted: Detector) -> None:
    whole = [one.score for one in scored_frames(fitted.artifact, Reel({"v": with_intruder()}))]
    scorer, frames, found = StreamScorer(fitted.artifact), frames_of(with_intruder()), list[float]()
    for number in range(len(frames)):
        part = type(frames)(frames.pixels[number : number + 1], frames.keys[number : number + 1], "v")
        found += [one.score for one in scorer.push([part])]
    found += [one.score for one in scorer.end("v")]
    assert found == pytest.approx(whole, rel=1e-4, abs=1e-5)


def test_the_command_line_fits_scores_and_inspects_it(tmp_path: Path) -> None:
    footage, run = write_footage(tmp_path), CliRunner()
    model, words = tmp_path / "m.model", ["video.height=32", "video.width=32", "video.channels=[8,16]"]
    words += ["train.epochs=1", "video.training_stride=8"]
    sets = [part for word in words for part in ("--set", word)]
    done = run.invoke(app, ["fit", str(footage / "normal"), "-o", str(model), "--preset", "mnad-small", *sets])
    assert done.exit_code == 0, done.output
    shown = json.loads(run.invoke(app, ["inspect", str(model), "--json"]).output)
    assert (shown["config"]["network"], shown["config"]["video"]["task"]) == ("unet", "predict")
    rows = tmp_path / "rows.csv"
    done = run.invoke(app, ["score", str(model), str(footage / "clip.mp4"), "--out", str(rows)])
    assert done.exit_code == 0, done.output
    assert len(rows.read_text().splitlines()) == 101
    (footage / "tests").mkdir()
    for name in ("clip.mp4", "calm.mp4"):
        (footage / name).rename(footage / "tests" / name)
    labels = ["evaluate", str(model), str(footage / "tests"), "--labels", str(footage / "masks")]
    done = run.invoke(app, labels)
    assert done.exit_code == 0, done.output
