"""Anomalies among the samples to train on, and what `contamination` in the settings leaves out."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from memae import Detector
from memae.errors import ConfigError
from memae.progress import Event, Plan, Stage
from tests.moving_squares import squares
from tests.small_detectors import BRIEF, ONES, OTHERS, ROWS, equal, fit, weights
from tests.video_files import write_frames


def stated(training: float, threshold: float = 0.0, **more: Any) -> dict[str, Any]:
    return {**more, "train": {"epochs": 3, "contamination": training}, "threshold": {"contamination": threshold}}


def labelled(share: float) -> tuple[pd.DataFrame, set[str]]:
    """Benign rows with so many wild ones among them, and the keys of these."""
    rows = ROWS.reset_index(drop=True).copy()
    wild = np.random.default_rng(0).permutation(len(rows))[: round(share * len(rows))]
    rows.loc[wild] *= np.linspace(6, 9, rows.shape[1])
    return rows, {str(row) for row in wild}


def test_rows_that_are_wild_are_left_out_of_the_training_and_named() -> None:
    rows, wild = labelled(0.05)
    found = fit(rows, **stated(0.05)).facts["left_out"]["training"]
    assert found["samples"] == fit(rows).facts["samples"]["training"]
    assert found["count"] == int(0.05 * found["samples"]) == len(found["first"])
    assert len(set(found["first"]) & wild) >= 0.8 * found["count"]


def test_keys_of_a_frame_are_those_of_its_index() -> None:
    rows, wild = labelled(0.05)
    rows.index = pd.Index([f"host-{row}" for row in range(len(rows))])
    found = fit(rows, **stated(0.02)).facts["left_out"]["training"]["first"]
    assert set(found) <= {f"host-{row}" for row in wild}


def test_a_model_that_left_wild_rows_out_gives_others_like_them_higher_scores() -> None:
    rows, _ = labelled(0.06)
    test = ROWS.iloc[:40] * np.linspace(6, 9, ROWS.shape[1])
    plain, trimmed = (
        Detector(seed=0, settings={"train": {"contamination": share}}).fit(rows).score(test).values
        for share in (0.0, 0.06)
    )
    assert trimmed.min() > 10 * plain.min()  # plain has items of wild rows


def test_the_same_seed_leaves_the_same_images_out_and_no_share_changes_nothing() -> None:
    images = np.concatenate([ONES, OTHERS[:5]])
    first, same = (fit(images, **stated(0.04)) for _ in range(2))
    assert first.facts["left_out"] == same.facts["left_out"]
    assert equal(weights(first), weights(same))
    assert equal(weights(fit(images)), weights(fit(images, **stated(0.0))))
    assert "left_out" not in fit(images).facts
    assert first.facts["left_out"]["training"]["count"] == int(0.04 * first.facts["samples"]["training"]) > 0


@pytest.mark.parametrize("x", [ONES, ROWS], ids=["images", "rows"])
def test_the_highest_held_out_scores_set_no_threshold(x: np.ndarray | pd.DataFrame) -> None:
    plain, trimmed = fit(x), fit(x, **stated(0.0, 0.2))
    whole, kept = plain.threshold.calibration, trimmed.threshold.calibration
    left_out = int(0.2 * len(whole))
    assert left_out > 1
    assert kept.tolist() == whole[: len(whole) - left_out].tolist()
    assert trimmed.facts["left_out"] == {"calibration": {"count": left_out, "samples": len(whole)}}
    assert trimmed.threshold.value < plain.threshold.value
    if x is ONES:
        assert trimmed.map_threshold <= plain.map_threshold
        assert len(trimmed.artifact.reference.maxima) == len(kept)


def test_a_rate_that_the_scores_that_are_left_cannot_promise_is_refused_before_the_training() -> None:
    settings = {**BRIEF, "threshold": {"false_alarm_rate": 1 / (0.2 * len(ONES) + 1), "contamination": 0.3}}
    with pytest.raises(ConfigError, match=r"takes at least .* held-out"):
        Detector(settings=settings).fit(ONES)


def test_a_share_is_kept_with_the_model(tmp_path: Path) -> None:
    fit(ROWS, **stated(0.05, 0.1)).save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model")
    assert (loaded.config.train.contamination, loaded.config.threshold.contamination) == (0.05, 0.1)
    assert loaded.facts["left_out"]["training"]["first"]
    assert loaded.threshold.value == fit(ROWS, **stated(0.05, 0.1)).threshold.value


@pytest.mark.parametrize("share", [-0.1, 0.5, "much"])
def test_a_share_out_of_range_is_refused(share: Any) -> None:
    for section in ("train", "threshold"):
        with pytest.raises(ConfigError, match=f"{section}.contamination"):
            Detector(settings={section: {"contamination": share}})


def test_tiles_are_named_by_their_image(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(24):
        pixels = 128 + 40 * np.sin(np.arange(64) / 5 + generator.uniform(0, 6)) + generator.normal(0, 4, (64, 64))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number:02}.png")
    settings = {**stated(0.1), "image": {"tile_px": 32}, "memory": {"num_items": 8, "warmup_epochs": 1}}
    found = Detector("image", settings=settings).fit(tmp_path).facts["left_out"]["training"]
    assert found["count"] == int(0.1 * found["samples"]) > 3
    assert 0 < len(found["first"]) <= found["count"]  # an image of several suspect tiles is named once
    assert set(found["first"]) <= {path.name for path in tmp_path.glob("*.png")}


def test_clips_are_left_out_of_video_and_its_series_are_capped(tmp_path: Path) -> None:
    for number in range(6):
        pixels = squares(60, 32, 32, speed=1, side=6, seed=number)
        write_frames(tmp_path / str(number), pixels)
    settings = {
        "video": {
            "height": 32,
            "width": 32,
            "crop_px": 16,
            "training_stride": 4,
            "crops_per_clip": 2,
            "place_px": 8,
        },
        "memory": {"num_items": 8, "warmup_epochs": 1},
        "train": {"epochs": 2, "batch_size": 8, "contamination": 0.1},
        "threshold": {"contamination": 0.1, "false_alarm_rate": 0.2},
    }
    events: list[Event] = []
    detector = Detector("video", settings=settings).fit(tmp_path, frame_rate=10, progress=events.append)
    left_out = detector.facts["left_out"]
    assert left_out["training"]["count"] == int(0.1 * left_out["training"]["samples"])
    assert all(" at " in key for key in left_out["training"]["first"])
    highest = max(series.scores.max() for series in detector.artifact.reference.series)
    assert highest == detector.threshold.calibration[-1]
    assert (
        len(detector.threshold.calibration)
        == left_out["calibration"]["samples"] - left_out["calibration"]["count"]
    )
    planned = [stage.name for plan in events if isinstance(plan, Plan) for stage in plan.stages]
    shown = [event.name for event in events if isinstance(event, Stage)]
    halves = [name for name in planned if name.startswith("looking for anomalies, half 2 of 2")]
    assert halves and set(halves) <= set(shown)
