import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.data import DATA, WHOLE, ArrayData
from experiments.methods import METHODS, Fitted
from experiments.protocols import images, kddcup
from memae.metrics import auroc

MNIST: Any = DATA["mnist"]


def test_the_registry_has_the_data_sets_of_the_paper() -> None:
    assert {*DATA} == {"mnist", "cifar10", "kddcup99", "kddcup99-attacks", "ped2", "tables"}
    assert DATA["mnist"].parts == DATA["cifar10"].parts == tuple("0123456789")
    assert DATA["kddcup99"].parts == DATA["kddcup99-attacks"].parts == DATA["ped2"].parts == WHOLE


@pytest.mark.parametrize(
    ("name", "part", "split", "judge"),
    [
        ("mnist", "8", lambda: images.mnist(8, 1), images.judge),
        ("cifar10", "8", lambda: images.cifar10(8, 1), images.judge),
        ("kddcup99", "all", lambda: kddcup.paper(1), kddcup.judge),
        ("kddcup99-attacks", "all", lambda: kddcup.attacks(1), kddcup.judge_attacks),
    ],
)
def test_a_data_set_judges_its_own_split_by_its_own_rule(
    small_data: Path, name: str, part: str, split: Callable[..., Any], judge: Callable[..., Any]
) -> None:
    found = DATA[name].compute("pca-3", part, 1)
    expected = split()
    fitted = METHODS["pca-3"](expected.fit, 1)
    scores = fitted.score(expected.test)
    assert found.metrics == judge(expected, scores, lambda: fitted.score(expected.fit))
    assert next(iter(found.metrics.values()))["auroc"] > 0.9
    assert dict(found.samples) == {
        "fit": len(expected.fit),
        "test": len(expected.test),
        "anomalies": int(expected.labels.sum()),
    }
    assert found.stored == 3
    assert dict(found.settings) == {"components": 3}
    assert {*found.seconds} == {"fit", "score"}


def scoring(score: Callable[..., Any]) -> Any:
    method = lambda fit, seed: Fitted(score)  # noqa: E731  one short rule of several
    return dataclasses.replace(MNIST, methods={"mine": method})


@pytest.mark.parametrize(
    ("score", "complaint"),
    [
        (lambda x: np.where(np.arange(len(x)) < 3, np.nan, 0.0), "3 of 100 scores are not finite"),
        (lambda x: np.full(len(x), np.inf), "100 of 100 scores are not finite"),
        (lambda x: np.zeros((len(x), 1)), r"scores of shape \(100, 1\) for 100 samples"),
        (lambda x: np.zeros(len(x) - 1), r"scores of shape \(99,\) for 100 samples"),
    ],
)
def test_scores_that_no_ranking_can_hold_are_refused(
    small_data: Path, score: Callable[..., Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        scoring(score).compute("mine", "8", 0)


def test_training_rows_are_checked_as_well(small_data: Path) -> None:
    def score(x: np.ndarray) -> np.ndarray:
        return np.full(len(x), np.nan) if len(x) != 150 else np.zeros(150)

    data = ArrayData(
        lambda part, seed: kddcup.paper(seed), kddcup.judge, methods={"m": lambda f, s: Fitted(score)}
    )
    with pytest.raises(ValueError, match="not finite"):
        data.compute("m", "all", 0)


def test_a_method_sees_the_normal_samples_and_the_seed(small_data: Path) -> None:
    seen = []

    def method(fit: np.ndarray, seed: int) -> Fitted:
        seen.append((fit, seed))
        return Fitted(lambda x: x.reshape(len(x), -1).mean(axis=1))

    data = dataclasses.replace(MNIST, methods={"mine": method})
    data.compute("mine", "4", 7)
    (fit, seed), split = seen[0], images.mnist(4, 7)
    assert np.array_equal(fit, split.fit)
    assert seed == 7


def test_the_untrained_network_is_untrained(small_data: Path) -> None:
    found = DATA["mnist"].compute("untrained", "8", 0)
    assert (found.facts["kept_epoch"], found.facts["last_epoch"]) == (0, None)
    assert found.settings["network"] == "small"
    assert found.settings["threshold"]["calibration_share"] == 0
    assert found.metrics["full"] != found.metrics["paper"]


def test_the_same_seed_gives_the_same_figures(small_data: Path) -> None:
    first, again = (DATA["kddcup99"].compute("memae-paper", "all", 2) for _ in range(2))
    assert first.metrics == again.metrics


@pytest.mark.parametrize("method", ["1-nn-l2", "exact-match", "isolation-forest", "pca-30"])
def test_look_ups_find_the_easy_anomalies_of_kddcup(small_data: Path, method: str) -> None:
    split = kddcup.paper(0)
    scores = METHODS[method](split.fit, 0).score(split.test)
    if method == "exact-match":
        assert (scores == 1).all()  # the stand-in has no row twice
        assert (METHODS[method](split.fit, 0).score(split.fit[:3]) == 0).all()
    else:
        # three columns of 120 tell, and a forest looks at few of them
        assert auroc(split.labels, scores) > (0.55 if method == "isolation-forest" else 0.9)


@pytest.mark.parametrize("method", ["1-nn-l2", "1-nn-cosine", "1-nn-centred-cosine"])
def test_look_ups_find_the_easy_anomalies_of_images(small_data: Path, method: str) -> None:
    assert DATA["cifar10"].compute(method, "3", 0).metrics["full"]["auroc"] > 0.99


def test_a_fit_that_another_method_paid_for_says_what_it_takes(small_data: Path) -> None:
    fitted = Fitted(lambda x: x.reshape(len(x), -1).mean(axis=1), fit_seconds=1234.5)
    data = dataclasses.replace(MNIST, methods={"mine": lambda fit, seed: fitted})
    assert data.compute("mine", "8", 0).seconds["fit"] == 1234.5
