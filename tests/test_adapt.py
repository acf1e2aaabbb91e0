"""A stream is scored first and learnt after: the same in blocks as one by one, never from what is flagged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from memae import Detector
from memae.cli import app
from memae.errors import ConfigError, MemaeError

BRIEF: dict[str, Any] = {"memory": {"num_items": 100}, "train": {"epochs": 10}}
WIDTH, LENGTH = 6, 1000


def rows(count: int, seed: int) -> np.ndarray:
    """(count, 6) rows of two independent causes."""
    generator = np.random.default_rng(seed)
    causes = generator.normal(size=(count, 2))
    return causes @ np.arange(12).reshape(2, 6) / 6 + 0.3 * generator.normal(size=(count, WIDTH))


def drifting(seed: int = 1) -> np.ndarray:
    """(1000, 6) rows whose first column rises slowly, by seven deviations in all."""
    found = rows(LENGTH, seed)
    found[:, 0] += np.linspace(0, 7, LENGTH)
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapt") / "stream.model"
    Detector("memstream", settings=BRIEF, device="cpu").fit(rows(600, 0)).save(path)
    return path


def load(path: Path) -> Detector:
    return Detector.load(path, device="cpu", engine="torch")


def test_blocks_score_and_insert_what_one_by_one_does(saved: Path) -> None:
    together, apart, stream = load(saved), load(saved), drifting()[:400]
    found = together.adapt(stream)
    single = [apart.adapt(row[None]) for row in stream]
    assert found.verdicts.scores == pytest.approx([one.verdicts.scores[0] for one in single], rel=1e-6, abs=1e-6)
    assert found.moves.inserted == sum(one.moves.inserted for one in single) > 100
    assert np.array_equal(found.moves.ages, single[-1].moves.ages)
    assert torch.allclose(together.model.memory.items, apart.model.memory.items, atol=1e-6)


def test_a_memory_that_follows_a_drift_keeps_the_rate_of_alarms(saved: Path) -> None:
    frozen, stream = load(saved), drifting()
    late = slice(LENGTH // 2, None)
    alarms = frozen.detect(stream).is_anomaly[late].mean()
    followed = load(saved).adapt(stream).verdicts.is_anomaly[late].mean()
    assert alarms > 0.9
    assert followed < 0.2


def test_scores_come_before_learning(saved: Path) -> None:
    frozen, adapting = load(saved), load(saved)
    stream = rows(50, 5)
    first = adapting.adapt(stream[:1]).verdicts.scores
    assert first == pytest.approx(frozen.score(stream[:1]).values, rel=1e-5)
    again = np.repeat(stream[1:2], 2, axis=0)  # the second time it has been learnt
    twice = adapting.adapt(again).verdicts.scores
    assert twice[0] > 0.1
    assert twice[1] == pytest.approx(0, abs=1e-5)


def test_nothing_that_is_flagged_is_learnt_though_beta_allows_it(saved: Path) -> None:
    detector = load(saved)
    memory: Any = detector.model.memory
    memory.beta.fill_(1e9)
    stream = np.concatenate([rows(20, 6), rows(20, 7) + 500])
    found = detector.adapt(stream)
    assert found.verdicts.is_anomaly[20:].all()
    assert found.moves.inserted == (~found.verdicts.is_anomaly).sum()
    again = detector.detect(stream[20:])
    assert again.is_anomaly.all()


def test_bad_rows_are_neither_scored_nor_learnt(saved: Path, tmp_path: Path) -> None:
    stream = drifting()[:50]
    text = [",".join(map(str, row)) for row in stream]
    text[10] = "1,2,x,4,5,6"
    header = ",".join(f"column_{place}" for place in range(WIDTH))
    (tmp_path / "stream.csv").write_text("\n".join([header, *text]) + "\n")
    np.savetxt(tmp_path / "normal.csv", rows(600, 0), delimiter=",", header=header, comments="")
    fitted = Detector("memstream", settings=BRIEF, device="cpu").fit(tmp_path / "normal.csv")
    fitted.save(tmp_path / "csv.model")
    with_bad, without = fitted, load(tmp_path / "csv.model")
    found = with_bad.adapt(tmp_path / "stream.csv", skip_bad=True)
    (tmp_path / "good.csv").write_text("\n".join([header, *text[:10], *text[11:]]) + "\n")
    good = without.adapt(tmp_path / "good.csv")
    assert np.isnan(found.verdicts.scores[10])
    assert np.delete(found.verdicts.scores, 10) == pytest.approx(good.verdicts.scores, rel=1e-5)
    assert found.moves.inserted == good.moves.inserted


def test_what_was_learnt_is_saved_and_goes_on(saved: Path, tmp_path: Path) -> None:
    whole, first, stream = load(saved), load(saved), drifting()
    wanted = whole.adapt(stream).verdicts.scores
    part = first.adapt(stream[:500])
    first.save(tmp_path / "half.model")
    second = load(tmp_path / "half.model")
    rest = second.adapt(stream[500:])
    found = np.concatenate([part.verdicts.scores, rest.verdicts.scores])
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert np.array_equal(rest.moves.ages, whole.model.memory.ages.numpy())
    changed = (second.model.memory.items != load(saved).model.memory.items).any(dim=1).numpy()
    assert (second.artifact.uses[changed] == 0).all()


def test_images_are_followed_too() -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(90, 110, (200, 8, 8)).astype(np.uint8)
    detector = Detector("memstream", settings={"memory": {"num_items": 40}, "train": {"epochs": 2}}, device="cpu")
    detector.fit(images[:150])
    frozen = detector.score(images[150:]).values
    found = detector.adapt(images[150:])
    assert found.verdicts.scores[0] == pytest.approx(frozen[0], rel=1e-5)
    assert 0 < found.moves.inserted <= 50


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        (None, {}, r"memory\.kind = 'memae' does not learn from a stream"),
        ("memto", {}, r"memory\.kind = 'memto' does not learn from a stream"),
        (None, {"memory": {"enabled": False}}, "a plain autoencoder does not learn from a stream"),
    ],
)
def test_a_memory_that_does_not_learn_from_a_stream_is_refused(
    preset: str | None, settings: dict[str, Any], message: str
) -> None:
    detector = Detector(preset, settings={"train": {"epochs": 1}, **settings}, device="cpu").fit(rows(100, 0))
    with pytest.raises(ConfigError, match=message):
        detector.adapt(rows(5, 1))


def test_without_a_threshold_nothing_can_be_trusted() -> None:
    settings = {**BRIEF, "threshold": {"calibration_share": 0.0}}
    detector = Detector("memstream", settings=settings, device="cpu").fit(rows(200, 0))
    with pytest.raises(MemaeError, match="calibration_share"):
        detector.adapt(rows(5, 1))


def test_the_command_line_scores_learns_and_writes_the_model(saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "stream.npy", drifting())
    run, model = CliRunner(), tmp_path / "learnt.model"
    words = ["score", str(saved), str(tmp_path / "stream.npy"), "-o", str(tmp_path / "rows.csv")]
    done = run.invoke(app, [*words, "--adapt", str(model)])
    assert done.exit_code == 0, done.output
    assert "insertions into 100 items, which are" in done.output
    wanted = load(saved).adapt(drifting())
    learnt: Any = load(model).model.memory
    assert learnt.inserted == wanted.moves.inserted
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == LENGTH + 1
    assert load(saved).model.memory.inserted == 0
    explained = run.invoke(app, [*words, "--adapt", str(model), "--explain", str(tmp_path / "why.jsonl")])
    assert isinstance(explained.exception, ConfigError)
    assert "`adapt` gives no explanations" in str(explained.exception)
