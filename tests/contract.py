"""What every detector and every method of the evidence must do: `check_detector`, `check_method`."""

import json
import math
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from experiments.methods.method import Method
from memae import Detector
from memae.errors import DataError

HELD_OUT = 30  # normal samples that are not given to fit


class Make(Protocol):
    """Gives a new detector, always of the same settings but for these."""

    def __call__(self, *, seed: int = 0, **train: Any) -> Detector: ...


def check_detector(
    make: Make, normal: np.ndarray, anomalous: np.ndarray, *, encoder_learns: bool = True, ranks: bool = True
) -> None:
    """Fails where a detector breaks the contract.

    Args:
        make: the detector, unfitted; called with `seed` and with settings of the section `train`.
        normal: (S, ...) samples, at least 100, of which the last 30 are kept from training.
        anomalous: (A, ...) samples of the same shape.
        encoder_learns: False for a detector that is known to give its encoder no gradient, so that it need not
            become better than it was untrained; it fails then if its encoder learns after all.
        ranks: False for a detector whose ranking training need not improve, as it rebuilds these anomalies too.
    """
    x, unseen = normal[:-HELD_OUT], normal[-HELD_OUT:]
    mixed = np.concatenate([unseen, anomalous])
    labels = np.arange(len(mixed)) >= HELD_OUT
    untrained, trained = make(epochs=0).fit(x), make().fit(x)
    scores = trained.score(mixed).values

    check_scores(scores, len(mixed))
    check_learning(untrained, trained, unseen)
    if encoder_learns and ranks:
        check_ranking(untrained, trained, mixed, labels)
    assert moved(untrained, trained, "encoder") == encoder_learns
    check_determinism(make, untrained, trained, x, mixed)
    check_alone_and_in_a_batch(trained, mixed)
    check_parts_agree(trained, mixed)
    check_save_and_load(trained, mixed)
    check_bad_input(make, trained, mixed)
    assert np.array_equal(trained.score(mixed).values, scores), "the checks above changed the detector"


def check_scores(scores: np.ndarray, count: int) -> None:
    """One finite number a sample, not negative, and diverse."""
    assert scores.shape == (count,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert scores.min() >= 0
    assert len(np.unique(scores)) > 0.9 * count
    assert scores.std() > 0.01 * scores.mean()


def check_learning(untrained: Detector, trained: Detector, unseen: np.ndarray) -> None:
    """Training moves the decoder and the memory, and new normal samples are rebuilt better for it."""
    assert moved(untrained, trained, "decoder")
    assert trained.model.memory is None or moved(untrained, trained, "memory")
    if trained.config.memory.score == "distance":
        return  # each in the units of its own encoder
    assert trained.score(unseen).values.mean() < 0.95 * untrained.score(unseen).values.mean()


def moved(untrained: Detector, trained: Detector, part: str) -> bool:
    """Training changed all parameters and items of "encoder", "memory" or "decoder"; an error if it was only some."""
    before, after = (learnt(each.model.get_submodule(part)) for each in (untrained, trained))
    assert before.keys() == after.keys()
    changed = {name: bool((value - before[name]).abs().max() > 1e-5) for name, value in after.items()}
    assert len(set(changed.values())) == 1, f"{part}: training changed only some parameters: {changed}"
    return all(changed.values())


def learnt(part: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a training changes: parameters by gradient, and items by a rule."""
    items = {name: buffer for name, buffer in part.named_buffers() if name == "items"}
    return dict(part.named_parameters()) | items


def check_ranking(untrained: Detector, trained: Detector, mixed: np.ndarray, labels: np.ndarray) -> None:
    """High scores are anomalies, and it is training that makes them so."""
    good = roc_auc_score(labels, trained.score(mixed).values)
    chance = roc_auc_score(labels, untrained.score(mixed).values)
    assert good > max(0.6, chance + 0.05), f"AUROC {good:.3f} trained and {chance:.3f} untrained"


def check_determinism(
    make: Make, untrained: Detector, trained: Detector, x: np.ndarray, mixed: np.ndarray
) -> None:
    """The same seed and data give the same scores, another seed gives others."""
    assert np.array_equal(make().fit(x).score(mixed).values, trained.score(mixed).values)
    other = make(seed=1, epochs=0).fit(x)
    assert not np.allclose(other.score(mixed).values, untrained.score(mixed).values, rtol=1e-4)


def check_alone_and_in_a_batch(trained: Detector, mixed: np.ndarray) -> None:
    """A sample's score depends on that sample only."""
    together = trained.score(mixed).values
    some = range(0, len(mixed), max(1, len(mixed) // 25))
    alone = [float(trained.score(mixed[place : place + 1]).values[0]) for place in some]
    assert alone == pytest.approx(together[list(some)], rel=1e-4)
    assert trained.score(mixed[::-1]).values == pytest.approx(together[::-1], rel=1e-4)


def check_parts_agree(trained: Detector, mixed: np.ndarray) -> None:
    """Scores, verdicts and explanations are of one mind, sample by sample."""
    scores, verdicts, explained = trained.score(mixed), trained.detect(mixed), trained.explain(mixed[:5])
    assert list(scores.keys) == list(verdicts.keys) == list(range(len(mixed)))
    assert np.array_equal(scores.values, verdicts.scores)
    assert np.array_equal(verdicts.is_anomaly, verdicts.p_values <= trained.threshold.false_alarm_rate)
    assert np.array_equal(verdicts.is_anomaly, verdicts.scores > verdicts.threshold)
    assert [one.score for one in explained] == pytest.approx(scores.values[:5], rel=1e-4)
    items = trained.items()
    assert (items is None) == (trained.model.memory is None)
    for one in explained:
        assert sum(use.weight for use in one.items) == pytest.approx(0 if items is None else 1, abs=1e-5)


def check_save_and_load(trained: Detector, mixed: np.ndarray) -> None:
    """What was saved and loaded gives exactly the same verdicts."""
    with tempfile.TemporaryDirectory() as folder:
        trained.save(Path(folder) / "model")
        loaded = Detector.load(Path(folder) / "model", device=trained.device)
    assert list(loaded.detect(mixed)) == list(trained.detect(mixed))


def check_bad_input(make: Make, trained: Detector, mixed: np.ndarray) -> None:
    """Each bad input is refused by an error that names it and the cure; tables take missing values."""
    spoilt = mixed.astype(np.float64)
    spoilt.reshape(len(spoilt), -1)[2, 0] = np.inf if mixed.ndim == 2 else np.nan
    flat = mixed.reshape(len(mixed), -1)
    other_kind = mixed[:, 0] if mixed.ndim == 2 else flat
    bad: list[tuple[Any, str]] = [
        (spoilt, r"the array: .* (at row 2|image 2)?.*; mend or remove it"),
        (mixed[..., :-1], r"the array: (no column|images of shape) .*; (add it|resize)"),
        (
            np.concatenate([mixed, mixed], axis=-1),
            r"the array: (has .* columns, and|images of shape) .*; (give the columns|resize)",
        ),
        (other_kind, r"the array: (of shape .*; pass|the model was trained on images and this is a table)"),
        (mixed[:0], r"the array: holds no samples"),
        (np.full(mixed.shape, "text"), r"the array: holds <U4, not numbers; pass numbers"),
        ("nowhere/at/all.csv", r"nowhere/at/all\.csv: no such file or folder; check the path"),
    ]
    for x, what in bad:
        for use in (trained.score, trained.detect, trained.explain):
            with pytest.raises(DataError, match=what):
                use(x)
    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: make().fit(mixed[:1]), r"the array: holds 1 sample, too few .*; give at least 20"),
        (lambda: make().fit(mixed[:0]), r"the array: holds no samples"),
    ]
    if mixed.ndim > 2:
        refused.append((lambda: make().fit(spoilt), r"the array: .*; mend or remove it"))
    for fit, what in refused:
        with pytest.raises(DataError, match=what):
            fit()


def check_method(
    method: Method, normal: np.ndarray, anomalous: np.ndarray, *, ranks: bool = True, seed: int = 0
) -> None:
    """Fails where a method of the evidence breaks its contract.

    Args:
        method: what `experiments.methods` calls one.
        normal: (S, ...) images (S, C, H, W) uint8 or rows (S, D) float32, of which the last 30 are kept from it.
        anomalous: (A, ...) samples of the same shape and type.
        ranks: False for a method that cannot rank these by design, such as an untrained one.
        seed: of the fit.
    """
    fit, unseen = normal[:-HELD_OUT].copy(), normal[-HELD_OUT:]
    mixed = np.concatenate([unseen, anomalous])
    given, asked, state = fit.copy(), mixed.copy(), _global_state()
    fitted = method(fit, seed)
    scores = fitted.score(mixed)
    assert _global_state() == state, "a random state or the thread count is another than before"
    assert np.array_equal(fit, given) and np.array_equal(mixed, asked), "the samples were changed"

    assert scores.shape == (len(mixed),)
    assert scores.dtype.kind == "f"
    assert np.isfinite(scores).all()
    check_companions(fitted.score, mixed, scores)
    assert np.array_equal(method(fit, seed).score(mixed), scores), "another fit of this seed scores otherwise"
    json.dumps([fitted.stored, fitted.settings, fitted.facts], allow_nan=False)
    if ranks:
        good = roc_auc_score(np.arange(len(mixed)) >= HELD_OUT, scores)
        chance = math.sqrt((len(mixed) + 1) / (12 * HELD_OUT * len(anomalous)))  # its deviation (Mann and Whitney)
        assert good > 0.5 + 3 * chance, f"AUROC {good:.3f}"


def check_companions(score: Callable[[np.ndarray], np.ndarray], mixed: np.ndarray, together: np.ndarray) -> None:
    """The score of a sample depends neither on the others of its array nor on their order."""
    close: dict[str, Any] = {"rel": 1e-4, "abs": 1e-6 * float(np.abs(together).max())}
    some = range(0, len(mixed), max(1, len(mixed) // 10))
    alone = [float(score(mixed[place : place + 1])[0]) for place in some]
    assert alone == pytest.approx(together[list(some)], **close)
    assert score(mixed[::-1]) == pytest.approx(together[::-1], **close)
    assert score(np.concatenate([mixed, mixed[:7]])) == pytest.approx(np.append(together, together[:7]), **close)


def _global_state() -> tuple[Any, ...]:
    """Everything global that a fit could change, comparable by ==."""
    state: Any = np.random.get_state()
    kind, keys, *rest = state
    return random.getstate(), kind, keys.tobytes(), *rest, torch.get_rng_state().tolist(), torch.get_num_threads()
