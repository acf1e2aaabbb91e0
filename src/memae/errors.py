"""The errors that memae raises on purpose: each message names the input, what is wrong with it, and the cure.

A message names an argument of the library, and nothing else, in backticks, such as `skip_bad=True`; the command line
shows its option there.
"""

from __future__ import annotations

import re

__all__ = [
    "ArtifactError",
    "ConfigError",
    "DataError",
    "MemaeError",
    "MissingExtraError",
    "OutOfMemoryError",
    "WriteError",
    "first_line",
    "printable",
    "shortened",
    "without_password",
]

# what moves the cursor, sets a title or turns the direction of the text, instead of being shown; but tab and line feed
_UNSEEN = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))} | {
    code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_PASSWORD = re.compile(r"(?<=:/)(?<!\bhf:/)(/?)\S*@")  # in hf://owner/name@revision there is none


class MemaeError(Exception):
    """Something that the caller can mend; the command line prints its message without a traceback.

    The message shows no name and password that stand in an address.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_password(one) if isinstance(one, str) else one for one in args))


class DataError(MemaeError):
    """A source, file, array, table or label that cannot be used as it is."""


class ConfigError(MemaeError):
    """A setting, preset or command-line value that is unknown, out of range or cannot be honoured."""


class ArtifactError(MemaeError):
    """A model directory that is missing, damaged, unsafe or of another format."""


class WriteError(MemaeError):
    """A file or directory that could not be written, of which nothing is left."""


class OutOfMemoryError(MemaeError):
    """There is no room even for the least that has to be in memory at once."""


class MissingExtraError(MemaeError):
    """A feature needs a package that is not installed; the message holds the install command."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}': run  pip install 'memae[{extra}]'")


def shortened(text: str, most: int = 60) -> str:
    """A text of a user's file for a message: at most so many characters of it."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def printable(text: str) -> str:
    """A text for a terminal: control characters of names of files and columns are shown as "\\x1b" and do nothing."""
    return text.translate(_UNSEEN)


def without_password(text: str) -> str:
    """A text in which the name and the password of an address are hidden, as in rtsp://***@camera/1."""
    return _PASSWORD.sub(r"\1***@", text)
