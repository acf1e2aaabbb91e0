"""Old names of arguments and settings."""

import pytest

from memae.deprecated import renamed_arguments, renamed_attribute, renamed_settings
from memae.errors import ConfigError


@renamed_arguments(watcher="progress", monitor="progress")
def follow(x: int, *, progress: int | None = None) -> tuple[int, int | None]:
    """What it was given."""
    return x, progress


def test_the_new_name_of_an_argument_gives_no_warning() -> None:
    assert follow(1, progress=2) == (1, 2)
    assert follow(1) == (1, None)
    assert (follow.__name__, follow.__doc__) == ("follow", "What it was given.")


@pytest.mark.parametrize("old", ["watcher", "monitor"])
def test_an_old_name_of_an_argument_is_accepted_and_the_line_that_uses_it_is_warned(old: str) -> None:
    said = f"the argument {old} is now called progress; the old name is accepted until memae 0.2.0"
    with pytest.warns(FutureWarning, match=said) as warned:
        assert follow(1, **{old: 2}) == (1, 2)
    assert [one.filename for one in warned] == [__file__]


def test_an_argument_under_both_names_is_an_error() -> None:
    with pytest.raises(TypeError, match="monitor is the old name of progress; give progress only"):
        follow(1, monitor=2, progress=3)  # type: ignore[call-arg]  # the decorator knows the old name


NAMES = {"train.rate": "train.learning_rate", "score.heat": "maps.scale"}


def test_old_settings_are_found_under_their_new_names() -> None:
    given = {"train": {"rate": 0.1, "epochs": 3}, "score": {"heat": 2}, "network": "table"}
    with pytest.warns(FutureWarning, match=r"is now called") as warned:
        found = renamed_settings(given, NAMES)
    assert found == {
        "train": {"learning_rate": 0.1, "epochs": 3},
        "score": {},
        "maps": {"scale": 2},
        "network": "table",
    }
    assert given["train"] == {"rate": 0.1, "epochs": 3}
    assert [str(one.message).split(";")[0] for one in warned] == [
        "train.rate is now called train.learning_rate",
        "score.heat is now called maps.scale",
    ]
    assert {one.filename for one in warned} == {__file__}


def test_what_an_older_version_wrote_is_read_without_a_word() -> None:
    assert renamed_settings({"train": {"rate": 0.1}}, NAMES, warn=False) == {"train": {"learning_rate": 0.1}}
    assert renamed_settings({"train": {"learning_rate": 0.1}}, NAMES) == {"train": {"learning_rate": 0.1}}


def test_a_setting_under_both_names_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"train\.rate is the old name of train\.learning_rate"):
        renamed_settings({"train": {"rate": 0.1, "learning_rate": 0.2}}, NAMES)


def test_an_old_name_of_an_attribute_gives_the_attribute_and_a_warning() -> None:
    class Rule:
        lower = renamed_attribute("least")

        def __init__(self) -> None:
            self.least = 3

    with pytest.warns(FutureWarning, match=r"Rule\.lower is now called least; the old name") as warned:
        assert Rule().lower == 3
    assert [one.filename for one in warned] == [__file__]
