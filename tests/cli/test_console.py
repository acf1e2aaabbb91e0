"""What the command line makes of the library's messages."""

import pytest

from memae.cli.console import with_options


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("leave it out with `drop=['mean area']`", "leave it out with --drop mean area"),
        ("`skip_bad=True`, or say `categorical=['a', 'b']`", "--skip-bad, or say --categorical a --categorical b"),
        ("say `label_column='folder'`", "say --label-column folder"),
        ("give `events` another name", "give --events another name"),
        ("run  pip install 'memae[video]'; `writers.source` and 'drop' stay", None),
        ('`drop=["it\'s"]`', "--drop it's"),
        ("`a=b`.npy: no such file or folder", None),
    ],
)
def test_arguments_in_backticks_are_shown_as_options(said: str, shown: str | None) -> None:
    assert with_options(said) == (shown or said)
