"""Drift: silent on normal samples, also where neighbours depend on each other, and loud where they have changed."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from memae import Detector
from memae.drift import LEAST_BLOCKS, Blocks, Drift, DriftWatch, item_use, looked_at

ITEMS = 20


def reads(rng: np.random.Generator, count: int, weights: np.ndarray | None = None) -> np.ndarray:
    """(count, ITEMS) shares of samples that read one item each, by weights (ITEMS,)."""
    return np.eye(ITEMS)[rng.choice(ITEMS, count, p=weights)]


def watch(rng: np.random.Generator, normal: np.ndarray, *, in_order: bool = False) -> DriftWatch:
    use = item_use(len(normal), reads(rng, len(looked_at(len(normal), ITEMS))))
    return DriftWatch(normal, float(np.quantile(normal, 0.99)), normal if in_order else None, use)


def found(
    following: DriftWatch, scores: np.ndarray, rng: np.random.Generator, weights: np.ndarray | None = None
) -> Drift:
    following.look(scores, lambda rows: reads(rng, len(rows), weights))
    assert following.found is not None
    return following.found


def warned(drift: Drift) -> bool:
    assert json.loads(json.dumps(drift.facts)) == drift.facts
    assert (drift.note is not None) == (drift.scores_moved or drift.items_moved)
    return drift.note is not None


def walk(rng: np.random.Generator, count: int, correlation: float) -> np.ndarray:
    """Numbers (count,), normally distributed, of which neighbours are correlated."""
    steps, x = rng.normal(size=count) * np.sqrt(1 - correlation**2), np.empty(count)
    x[0] = rng.normal()
    for place in range(1, count):
        x[place] = correlation * x[place - 1] + steps[place]
    return x


# Blocks


@pytest.mark.parametrize("count", [16, 50, 1000, 4097])
def test_blocks_are_means_of_neighbours_however_they_come(count: int) -> None:
    rng = np.random.default_rng(0)
    values, cuts = rng.normal(size=(count, 3)), np.sort(rng.integers(0, count, 7))
    whole, parts = Blocks(3), Blocks(3)
    whole.add(count, np.arange(count), values)
    for part in np.split(values, cuts):
        parts.add(len(part), np.arange(len(part)), part)
    assert whole.length == parts.length
    assert LEAST_BLOCKS <= len(whole.means) < 2 * LEAST_BLOCKS
    full = len(whole.means) * whole.length
    wanted = values[:full].reshape(-1, whole.length, 3).mean(axis=1)
    np.testing.assert_allclose(whole.means, wanted)
    np.testing.assert_allclose(parts.means, wanted)


def test_a_stream_takes_constant_memory_and_asks_few_what_they_read() -> None:
    rng = np.random.default_rng(0)
    following, asked = watch(rng, rng.normal(size=500)), 0
    for _ in range(50):
        places = following.places(10_000)
        asked += len(places)
        following.add(rng.normal(size=10_000), places, reads(rng, len(places)))
    assert asked < 9000
    assert len(following._new.means) < 2 * LEAST_BLOCKS
    assert following.found is not None
    assert following.found.samples == 500_000
    assert not warned(following.found)


# What it says


@pytest.mark.parametrize("count", [50, 300])
def test_normal_samples_are_hardly_ever_warned_of(count: int) -> None:
    rng, warnings = np.random.default_rng(1), 0
    for _ in range(500):
        warnings += warned(found(watch(rng, rng.normal(size=200)), rng.normal(size=count), rng))
    assert warnings <= 1


def test_neighbours_that_depend_on_each_other_are_not_taken_for_evidence() -> None:
    rng, warnings, careless = np.random.default_rng(2), 0, 0
    for _ in range(300):
        normal, new = walk(rng, 600, 0.95), walk(rng, 600, 0.95)
        warnings += found(watch(rng, normal, in_order=True), new, rng).scores_moved
        careless += abs((new < np.median(normal)).mean() - 0.5) > 3 * np.sqrt(0.25 / 600 + 0.25 / 600)
    assert careless > 60  # one in five passes would be called drift by who counts each sample
    assert warnings <= 1


@pytest.mark.parametrize("count", [60, 150])
def test_one_short_video_of_a_level_of_its_own_is_not_taken_for_drift(count: int) -> None:
    rng, warnings = np.random.default_rng(3), 0
    for _ in range(200):
        levels = rng.normal(size=14)
        normal = np.concatenate([level + rng.normal(size=150) for level in levels[:-1]])
        warnings += found(watch(rng, normal, in_order=True), levels[-1] + rng.normal(size=count), rng).scores_moved
    assert warnings <= 2
    assert found(watch(rng, rng.normal(size=2000), in_order=True), 3 + rng.normal(size=count), rng).scores_moved


@pytest.mark.parametrize(("moved_by", "speaks"), [(0.0, False), (0.2, False), (2.0, True), (-2.0, True)])
def test_scores_that_all_move_are_drift(moved_by: float, speaks: bool) -> None:
    rng = np.random.default_rng(4)
    drift = found(watch(rng, rng.normal(size=300)), rng.normal(size=200) + moved_by, rng)
    assert (drift.scores_moved, drift.items_moved) == (speaks, False)
    assert speaks == bool(drift.note and "score below the median of held-out normal scores" in drift.note)


@pytest.mark.parametrize(("share", "speaks"), [(0.1, False), (0.4, False), (0.9, True)])
def test_anomalies_are_no_drift_until_they_are_most_of_what_is_scored(share: float, speaks: bool) -> None:
    rng = np.random.default_rng(5)
    scores = np.where(rng.random(1000) < share, 10.0, rng.normal(size=1000))
    drift = found(watch(rng, rng.normal(size=300)), scores, rng)
    assert drift.scores_moved == speaks
    assert drift.above_threshold == pytest.approx(share, abs=0.05)


def test_another_mix_is_seen_by_the_items_though_the_scores_stay() -> None:
    rng = np.random.default_rng(6)
    half = np.repeat([2.0, 0.0], ITEMS // 2) / ITEMS
    drift = found(watch(rng, rng.normal(size=500)), rng.normal(size=500), rng, half)
    assert not drift.scores_moved
    assert drift.items_moved
    assert drift.item_distance == pytest.approx(0.5, abs=0.1)
    assert "read other memory items" in str(drift.note)


def test_what_is_flagged_or_left_out_does_not_count_for_the_items() -> None:
    rng = np.random.default_rng(7)
    following = watch(rng, rng.normal(size=500))
    scores = rng.normal(size=600).clip(max=2)
    scores[::3], scores[1::3] = 10.0, np.nan
    shares = reads(rng, 600)
    shares[scores != scores.clip(max=2)] = np.eye(ITEMS)[0]  # of those flagged or left out
    following.look(scores, lambda rows: shares[rows])
    assert following.found is not None
    assert following.found.samples == 400
    assert not following.found.items_moved


def test_fewer_than_50_samples_say_nothing() -> None:
    rng = np.random.default_rng(8)
    following = watch(rng, rng.normal(size=300))
    following.look(np.full(49, 9.0), lambda rows: reads(rng, len(rows)))
    assert following.found is None
    following.look(np.full(1, 9.0), lambda rows: reads(rng, len(rows)))
    assert following.found is not None


# Of a detector


@pytest.fixture(scope="module")
def table() -> Callable[[int], np.ndarray]:
    mixing = np.random.default_rng(0).normal(size=(3, 6))
    return lambda seed: np.random.default_rng(seed).normal(size=(600, 3)) @ mixing


@pytest.fixture(scope="module")
def detector(table: Callable[[int], np.ndarray]) -> Detector:
    settings: dict[str, Any] = {"train": {"epochs": 2}, "memory": {"num_items": 30}}
    return Detector(settings=settings, device="cpu").fit(table(1))


def test_a_table_in_other_units_is_drift_and_a_fresh_one_is_none(
    detector: Detector, table: Callable[[int], np.ndarray]
) -> None:
    fresh, rescaled = (detector.detect(table(2) * scale).drift for scale in (1, 100))
    assert fresh is not None
    assert not warned(fresh)
    assert rescaled is not None
    assert rescaled.scores_moved


def test_drift_is_the_same_however_a_model_scores(
    detector: Detector, table: Callable[[int], np.ndarray], tmp_path: Path
) -> None:
    x = table(2)
    wanted = detector.detect(x).drift
    assert wanted is not None
    assert wanted.item_distance is not None
    detector.save(tmp_path / "m")
    for other in (
        Detector.load(tmp_path / "m", device="cpu").detect(x).drift,
        detector.detect(x, explained="all").drift,
        list(detector.stream(x))[-1].drift,
    ):
        assert other is not None
        assert dataclasses.asdict(other) == pytest.approx(dataclasses.asdict(wanted), rel=1e-5)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_digits_in_other_light_are_drift(engine: Any) -> None:
    images, labels = load_digits(return_X_y=True)
    few = images[labels < 3].reshape(-1, 8, 8).astype(np.uint8)
    settings: dict[str, Any] = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 0}}
    settings["threshold"] = {"calibration_share": 0.3, "false_alarm_rate": 0.05}
    detector = Detector(settings=settings, device="cpu", engine=engine).fit(few[:400])
    fresh, inverted = (detector.detect(x).drift for x in (few[400:], 16 - few[400:]))
    assert fresh is not None
    assert not warned(fresh)
    assert inverted is not None
    assert inverted.scores_moved


def test_a_model_without_memory_or_item_use_looks_at_scores_alone(
    detector: Detector, table: Callable[[int], np.ndarray]
) -> None:
    artifact = dataclasses.replace(detector.artifact, item_use=None)  # as of a model of before 0.2.0
    following = artifact.drift_watch()
    assert following is not None
    assert len(following.places(1000)) == 0
    plain = Detector(settings={"train": {"epochs": 1}, "memory": {"enabled": False}}, device="cpu").fit(table(1))
    drift = plain.detect(table(2)).drift
    assert drift is not None
    assert drift.item_distance is None


def test_fewer_samples_are_asked_where_there_are_many_items() -> None:
    assert len(looked_at(1024, ITEMS)) == 1024
    for items in (20_000, 1_000_000):
        asked = len(looked_at(6_000, items))
        assert 4 <= asked < 400
        assert asked * items * 4 < 120 << 20
