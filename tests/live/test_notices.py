"""What is told of the rate of a camera."""

from memae.live.notices import SentRate


def told(known: float, *times_s: float) -> list[str]:
    rate = SentRate(known)
    return [note for time_s in times_s if (note := rate.note(time_s))]


def every(step_s: float, seconds: float, since_s: float = 0.0) -> list[float]:
    return [since_s + number * step_s for number in range(round(seconds / step_s) + 1)]


def test_more_frames_are_told_once() -> None:
    (note,) = told(10, *every(0.04, 60))
    assert note == "25 frames/s arrive, and the model was trained at 10: so many of them are scored"


def test_fewer_frames_are_told_with_what_to_do() -> None:
    (note,) = told(10, *every(0.2, 60))
    assert note.startswith("5 frames/s arrive, and the model was trained at 10: motion looks faster to it")


def test_the_same_rate_is_not_told_and_a_change_is() -> None:
    assert told(10, *every(0.1, 60)) == []
    assert told(10, *every(0.11, 60)) == []
    first, second = told(10, *every(0.05, 20), *every(0.1, 20, 20.05))
    assert (first[:13], second) == ("20 frames/s a", "10 frames/s arrive, and the model was trained at 10")


def test_a_hole_is_no_slow_camera() -> None:
    assert told(10, *every(0.1, 4), *every(0.1, 4, 14), *every(0.1, 12, 24)) == []
