"""How far, how fast, how long still: of a stage, and of a job with a plan."""

from collections.abc import Iterator
from typing import Any

import pytest

from memae.progress import Advance, Count, Event, Plan, Planned, stage
from memae.progress.work import Work
from memae.video.frames import FrameKey
from tests.progress.following import Clock, health, record


class Watched(Work):
    """Work that is told as a callback is."""

    def __call__(self, event: Event) -> None:
        self.follow(event)

    @property
    def line(self) -> str:
        pace = self.paces[-1]
        return f"{pace.title}: {self.facts}; {pace.details}"


def test_a_stage_says_what_how_far_how_fast_and_how_long_still(clock: Clock) -> None:
    work = Watched()
    with stage(work, "encoding", "rows", 10_000) as done:
        clock.now += 2
        done(2_500)
        assert work.line == "encoding: 25%, 0:00:06 left, 1,250 rows/s; "


def test_a_total_that_is_not_known_leaves_count_speed_place_and_time(clock: Clock) -> None:
    work = Watched()
    with stage(work, "scoring", "frames") as done:
        clock.now += 2
        done(30, FrameKey("gate [1].mp4", 29, 2.9))
        assert work.line == "scoring: 30 frames, 0:00:02, 15 frames/s; gate [1].mp4 at 2.9 s"


def test_a_total_that_was_told_from_a_size_is_never_quite_reached(clock: Clock) -> None:
    work = Watched()
    with stage(work, "scoring", "rows", Count(100, exact=False)) as done:
        clock.now += 2
        done(50)
        assert work.facts == "~50%, 0:00:02 left, 25 rows/s"
        done(70)
        assert work.facts == "~99%, 0:00:02, 60 rows/s"


def test_less_than_one_a_second_is_shown_with_two_figures(clock: Clock) -> None:
    work = Watched()
    with stage(work, "scoring", "clips", 100) as done:
        clock.now += 7
        done(3)
        assert work.facts == "3%, 0:03:46 left, 0.43 clips/s"


def test_the_speed_is_that_of_the_last_ten_seconds(clock: Clock) -> None:
    work = Watched()
    with stage(work, "scoring", "rows", 10_000) as done:
        clock.now += 60  # a slow start
        done(100)
        assert work.facts == "1%, 1:39:00 left, 1.7 rows/s"
        for _ in range(20):
            clock.now += 1
            done(100)
        assert work.facts == "21%, 0:01:19 left, 100 rows/s"


def test_what_tells_nothing_on_the_way_shows_its_time(clock: Clock) -> None:
    work = Watched()
    with stage(work, "starting the memory", "items"):
        clock.now += 65
        assert work.line == "starting the memory: 0:01:05; "


def test_the_inner_of_two_stages_is_told_and_then_the_outer_one_again(clock: Clock) -> None:
    work = Watched()
    with stage(work, "outer", "things"):
        clock.now += 1
        with stage(work, "inner", "parts"):
            clock.now += 1
            assert work.line == "inner: 0:00:01; "
        assert work.line == "outer: 0:00:02; "
    assert work.paces == []


def test_a_training_tells_its_epoch_loss_and_memory(clock: Clock) -> None:
    work = Watched()
    with stage(work, "training", "samples", 500, epochs=5) as done:
        clock.now += 1
        done(50, None, lambda: 0.75)
        assert work.line == "training, epoch 1/5: 10%, 0:00:09 left, 50 samples/s; loss 0.75"
        clock.now += 1
        done(50, None, lambda: 0.7)
        work(record(1, memory=health(fallback_share=0.25)))
        told = "20%, 0:00:08 left, 50 samples/s; loss 0.5, held-out 0.625, items 41/50, 4.2 a query, 25% fallback"
        assert work.line == f"training, epoch 2/5: {told}"
        done(50, None, lambda: 0.4)
        assert "loss 0.4, held-out 0.625" in work.line


def test_a_resumed_training_starts_where_it_stopped_and_its_speed_is_that_of_now(clock: Clock) -> None:
    work = Watched()
    with stage(work, "training", "samples", 400, done=200, epochs=4) as done:
        clock.now += 10
        assert work.line == "training, epoch 3/4: 50%, 0:00:10, 0 samples/s; "
        done(100)
        assert work.line.startswith("training, epoch 3/4: 75%, 0:00:10 left, 10 samples/s")


def test_a_training_within_a_stage_bears_its_name(clock: Clock) -> None:
    work = Watched()
    with stage(work, "warming up", "epochs", 5), stage(work, "training", "samples", 500, epochs=5):
        assert work.paces[-1].title == "warming up, epoch 1/5"


class TestJob:
    """A fit: 2 epochs of warm-up, the start of the memory, 8 epochs, the use of the items, the threshold."""

    PLAN = Plan(
        (
            Planned("warming up", 10, training=True),
            Planned("training", 60, training=True),
            Planned("counting", 4),
            Planned("setting the threshold", 1),
        )
    )

    def warm_up(self, work: Watched, clock: Clock, seconds: int) -> Iterator[Any]:
        with stage(work, "warming up", "epochs", 2), stage(work, "training", "samples", 2000, epochs=2) as done:
            for _ in range(2):
                clock.now += seconds / 2
                done(1000)
                yield

    def test_the_time_left_is_that_of_the_whole_job_and_not_of_the_stage(self, clock: Clock) -> None:
        work = Watched()
        work(self.PLAN)
        warm_up = self.warm_up(work, clock, 20)
        next(warm_up)  # twice as slow as was thought, so the training will be as well
        assert work.paces[-1].left_s == pytest.approx(10)
        assert work.job_left_s == pytest.approx(10 + 2 * 60 + 4 + 1)
        assert work.facts == "50%, 0:02:15 left, 100 samples/s"

    def test_until_the_plan_is_known_the_time_left_is_said_to_be_of_the_step(self, clock: Clock) -> None:
        work = Watched()
        work(Plan())
        with stage(work, "reading", "rows", 100) as done:
            clock.now += 5
            done(50)
            assert work.facts == "50%, 0:00:05 left of this step, 10 rows/s"
            assert work.job_left_s is None

    def test_before_anything_is_measured_the_plan_is_believed(self, clock: Clock) -> None:
        work = Watched()
        work(self.PLAN)
        with stage(work, "warming up", "epochs", 2), stage(work, "training", "samples", 2000, epochs=2):
            assert work.facts == "0:01:15 left"

    def test_a_stage_that_the_plan_does_not_know_has_what_comes_after_it(self, clock: Clock) -> None:
        work = Watched()
        work(self.PLAN)
        list(self.warm_up(work, clock, 20))
        with stage(work, "seeding the memory", "items"):
            clock.now += 3
            assert work.job_left_s == pytest.approx(2 * 60 + 4 + 1)

    def test_a_stage_that_tells_nothing_on_the_way_has_what_is_left_of_its_estimate(self, clock: Any) -> None:
        work = Watched()
        work(Plan((Planned("starting", 5), Planned("training", 60, training=True))))
        with stage(work, "starting", "items"), stage(work, "clustering", "items", 50):
            clock.now += 3
            assert work.job_left_s == pytest.approx(2 + 60)
            clock.now += 3
            assert work.job_left_s == pytest.approx(60)

    def test_the_rate_is_that_of_the_stage_that_runs(self, clock: Clock) -> None:
        work = Watched()
        work(self.PLAN)
        list(self.warm_up(work, clock, 20))
        with stage(work, "training", "samples", 8000, epochs=8) as done:
            assert work.job_left_s == pytest.approx(2 * 60 + 4 + 1)
            clock.now += 30
            done(1000)
            assert work.job_left_s == pytest.approx(7 * 30 + 4 + 1)

    def test_scoring_corrects_scoring_and_not_training(self, clock: Clock) -> None:
        work = Watched()
        work(self.PLAN)
        with stage(work, "counting", "samples", 100) as done:
            clock.now += 6
            done(50)
            assert work.job_left_s == pytest.approx(6 + 3 * 1)

    def test_a_resumed_job_passes_over_what_was_done_before(self, clock: Clock) -> None:
        work = Watched()
        work(self.PLAN)
        with stage(work, "training", "samples", 8000, done=4000, epochs=8) as done:
            clock.now += 10
            done(1000)
            assert work.job_left_s == pytest.approx(30 + 4 + 1)

    def test_a_training_that_stops_early_leaves_only_what_comes_after_it(self, clock: Clock) -> None:
        work = Watched()
        work(self.PLAN)
        with stage(work, "training", "samples", 8000, epochs=8) as done:
            clock.now += 3
            done(1000)
        with stage(work, "looking", "samples", 100):
            assert work.job_left_s == pytest.approx(4 + 1)

    def test_after_the_last_stage_there_is_no_job(self, clock: Clock) -> None:
        work = Watched()
        work(self.PLAN)
        with stage(work, "setting the threshold", "samples", 100) as done:
            clock.now += 1
            done(50)
            assert work.job_left_s == pytest.approx(1)
        with stage(work, "scoring", "rows", 100) as done:
            clock.now += 1
            done(50)
            assert work.job_left_s is None
            assert work.facts == "50%, 0:00:01 left, 50 rows/s"


def test_what_comes_before_any_stage_is_no_error(clock: Clock) -> None:
    work = Work()
    assert work.follow(Advance(1)) is None
    assert work.follow(record(1)) is None
    assert work.job_left_s is None
