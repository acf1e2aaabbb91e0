import pytest

from memae.errors import ConfigError, DataError, MissingExtraError, printable, without_password
from memae.modality import open_source


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain.png, größe, 日本, 😀", "plain.png, größe, 日本, 😀"),
        ("a\x1b[31mred\x1b[0m", r"a\x1b[31mred\x1b[0m"),
        ("title\x1b]0;owned\x07", r"title\x1b]0;owned\x07"),
        ("over\rwritten", r"over\x0dwritten"),
        ("\x9b31m", r"\x9b31m"),
        ("gnp\u202e.exe", r"gnp\u202e.exe"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_control_characters_are_shown_and_do_nothing(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.7/1: is", "rtsp://***@10.0.0.7/1: is"),
        ("rtsp://admin:se@cr/et@camera/1", "rtsp://***@camera/1"),
        ("rtsp:/admin:secret@camera/1", "rtsp:/***@camera/1"),  # as pathlib writes it
        ("https://example.org/a.zip", "https://example.org/a.zip"),
        ("mail me@example.org", "mail me@example.org"),
        ("/home/me@work/a.png", "/home/me@work/a.png"),
    ],
)
def test_the_password_of_an_address_is_hidden(text: str, shown: str) -> None:
    assert without_password(text) == shown
    assert str(DataError(text)) == shown


def test_other_errors_keep_their_words() -> None:
    assert str(ConfigError()) == ""
    assert "pip install 'memae[video]'" in str(MissingExtraError("video", "video"))


@pytest.mark.parametrize(
    "address",
    ["rtsp://admin:secret@camera/1", ["http://admin:secret@camera/1.mp4", "b.mp4"]],
    ids=["one", "several"],
)
def test_an_address_with_a_password_is_refused_without_it(address: str | list[str]) -> None:
    with pytest.raises(DataError) as refused:
        open_source(address)
    assert "secret" not in str(refused.value)
    assert "***@camera" in str(refused.value)
