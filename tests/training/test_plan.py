"""The plan of a fit: stages that come, in their order, with seconds that are of the right size."""

import time
from typing import Any

import numpy as np
import pytest

from memae import Detector
from memae.progress import EpochRecord, Event, Plan, Stage
from memae.progress.work import Work

ROWS = np.random.default_rng(0).normal(size=(300, 6))
IMAGES = np.random.default_rng(1).random((120, 12, 12))
BRIEF = {"train": {"epochs": 3}}
WARM = {"memory": {"warmup_epochs": 2, "num_items": 12}}


class Followed:
    """The plan, and how long the stages then took; the parts of a training stand in for it."""

    def __init__(self) -> None:
        self.plans: list[Any] = []
        self.names: list[Any] = []
        self.began: dict[Any, Any] = {}
        self.work = Work()
        self.lefts: list[Any] = []

    def __call__(self, event: Event) -> None:
        pace = self.work.follow(event)
        match event:
            case Plan():
                self.plans.append(event)
            case Stage():
                self.names.append(pace.name)
            case EpochRecord():
                self.lefts.append((time.perf_counter(), self.work.job_left_s))


@pytest.mark.parametrize(
    ("preset", "x", "settings", "stages"),
    [
        ("table", ROWS, BRIEF, ["training", "counting the use of items", "setting the threshold"]),
        (
            "table-paper",
            ROWS,
            BRIEF | WARM,
            ["warming up", "training", "counting the use of items", "setting the threshold"],
        ),
        ("table", ROWS, BRIEF | {"memory": {"enabled": False}}, ["training", "setting the threshold"]),
        (
            "image",
            IMAGES,
            BRIEF | WARM,
            [
                "warming up",
                "starting the memory (kmeans)",
                "training",
                "counting the use of items",
                "setting the threshold",
            ],
        ),
        (
            "table-paper",
            ROWS,
            WARM | {"train": {"epochs": 0}},
            ["counting the use of items", "setting the threshold"],
        ),
    ],
)
def test_every_stage_of_the_plan_comes_in_its_order(
    preset: str, x: np.ndarray, settings: dict[str, Any], stages: list[str]
) -> None:
    followed = Followed()
    Detector(preset, settings=settings, device="cpu").fit(x, progress=followed)
    first, plan = followed.plans
    assert first == Plan()
    planned = [stage.name for stage in plan.stages]
    assert [name for name in dict.fromkeys(followed.names) if name in planned] == planned
    assert set(stages) == set(planned)
    assert all(stage.seconds > 0 for stage in plan.stages)


def test_in_the_warm_up_the_time_left_is_about_that_of_the_whole_fit() -> None:
    followed = Followed()
    settings = {"train": {"epochs": 12}, "memory": {"warmup_epochs": 3, "initialisation": "data"}}
    rows = np.random.default_rng(2).normal(size=(6000, 30))
    Detector("table-paper", settings=settings, device="cpu").fit(rows, progress=followed)
    ended = time.perf_counter()
    at, left_s = followed.lefts[2]  # the warm-up is over, a fifth of all
    assert 0.25 * (ended - at) < left_s < 4 * (ended - at)


def test_without_a_callback_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memae.fit.fit_plan", lambda *_: pytest.fail("it took its time"))
    Detector("table", settings=BRIEF).fit(ROWS)


def test_the_plan_changes_nothing_of_the_model() -> None:
    with_plan, without = (
        Detector("table-paper", settings=BRIEF | WARM).fit(ROWS, progress=progress)
        for progress in (Followed(), None)
    )
    assert np.array_equal(with_plan.score(ROWS).values, without.score(ROWS).values)
