import pytest

from memae.stages import Count, Stage, Watcher, stage


class Told(Watcher):
    def __init__(self):
        self.told = []

    def begin_stage(self, stage):
        self.told.append(stage)

    def advance(self, count, place=None):
        self.told.append((count, place))

    def end_stage(self):
        self.told.append("end")


def test_a_block_is_a_stage_and_its_parts_are_told():
    watcher = Told()
    with stage(watcher, "encoding", "rows", 10) as done:
        done(4)
        done(6, "row 9")
    assert watcher.told == [Stage("encoding", "rows", Count(10)), (4, None), (6, "row 9"), "end"]


@pytest.mark.parametrize("total", [None, Count(7, exact=False)])
def test_a_total_may_be_unknown_or_about(total):
    watcher = Told()
    with stage(watcher, "scoring", "frames", total):
        pass
    assert watcher.told == [Stage("scoring", "frames", total), "end"]


def test_a_stage_ends_when_its_block_fails():
    watcher = Told()
    with pytest.raises(KeyboardInterrupt), stage(watcher, "scoring", "frames"):
        raise KeyboardInterrupt
    assert watcher.told[-1] == "end"


def test_without_a_watcher_nothing_is_told_and_nothing_is_asked_of_the_place(capfd):
    class Never:
        def __str__(self):
            raise AssertionError("nobody shows it")

    with stage(None, "scoring", "frames", 3) as done:
        done(3, Never())
    assert capfd.readouterr() == ("", "")
