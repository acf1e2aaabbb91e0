"""What a verb says on stderr: lines for a person, JSON for a machine, or little."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from memae.progress import Progress

__all__ = ["LOG_JSON", "Console", "print_json", "say_error", "say_warning", "with_options"]

LOG_JSON = "--log-json"
_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")


def with_options(message: str) -> str:
    """A message of the library in the words of the command line.

    The library names arguments, and nothing else, in backticks: "`drop=['day']`" becomes "--drop day".
    """
    return _ARGUMENT.sub(_option, message)


def _option(argument: re.Match[str]) -> str:
    name, text = argument.groups()
    try:
        value = ast.literal_eval(text) if text else True
    except (ValueError, SyntaxError):  # no argument of the library: a path or a column may have backticks too
        return argument[0]
    values = [""] if value is True else value if isinstance(value, list) else [value]
    option = f"--{name.removesuffix('_s').replace('_', '-')}"
    return " ".join(f"{option} {one}".rstrip() for one in values)


class Console:
    """How a verb talks: progress, notes and its result.

    Args:
        quiet: no progress and no result; notes are still said.
        log_json: everything as JSON lines, whatever `quiet` says.
        rows_on_screen: rows go to the terminal, so that a bar would get among them.
    """

    def __init__(self, *, quiet: bool = False, log_json: bool = False, rows_on_screen: bool = False) -> None:
        from memae.progress import JsonLog

        self._quiet = quiet
        self._log = JsonLog() if log_json else None
        self.progress = _in_options(self._log or _progress(quiet, silent=quiet or rows_on_screen))
        _pass_warnings_on(self.progress)

    def note(self, line: str) -> None:
        """Something that is said even to who wants it quiet."""
        self._tell([line], "note", True, message=with_options(line))

    def task(self, name: str) -> None:
        """What is begun now, of several things."""
        self._tell([name], "task", name=name)

    def result(self, lines: Sequence[str], **facts: Any) -> None:
        """The result: lines for a person, facts for a machine."""
        self._tell(lines, "result", **facts)

    def _tell(self, lines: Sequence[str], event: str, always: bool = False, /, **facts: Any) -> None:
        if self._log:
            self._log.say(event, **facts)
        elif always or not self._quiet:
            for line in lines:
                _line(line)


def print_json(facts: Any) -> None:
    """Prints one line of JSON on stdout."""
    import json

    typer.echo(json.dumps(facts))


def say_error(message: str, *, event: str = "error", code: int = 1) -> None:
    """The last word of a command that did not do its work; JSON if the command line asks for that anywhere."""
    _say(
        f"error: {message}" if event == "error" else message, event, message=with_options(message), exit_code=code
    )


def say_warning(message: str) -> None:
    """A word on the command line itself, before the verb begins."""
    _say(f"warning: {message}", "warning", message=message)


def _say(line: str, event: str, **facts: Any) -> None:
    if LOG_JSON in sys.argv[1:]:
        from memae.progress import JsonLog

        JsonLog().say(event, **facts)
    else:
        _line(line)


def _line(line: str) -> None:
    from memae.errors import printable

    print(printable(with_options(line)), file=sys.stderr)


def _progress(quiet: bool, *, silent: bool) -> Progress:
    """A bar on a terminal, else a line of the log now and then."""
    import logging

    from memae.errors import printable
    from memae.progress import ProgressBar, ProgressLines

    class Format(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            before = "warning:" if record.levelno >= logging.WARNING else self.formatTime(record, "%H:%M:%S")
            return f"{before} {printable(record.getMessage())}"

    if sys.stderr.isatty():
        return ProgressBar(silent=silent)
    handler = logging.StreamHandler()
    handler.setFormatter(Format())
    logger = logging.getLogger("memae")
    logger.handlers = [handler]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    return ProgressLines()


def _in_options(progress: Progress) -> Progress:
    """The same callback; warnings come in the words of the command line."""
    from memae.progress import Warn

    return lambda event: progress(Warn(with_options(event.message)) if isinstance(event, Warn) else event)


def _pass_warnings_on(progress: Progress) -> None:
    import warnings

    from memae.progress import Warn

    warnings.showwarning = lambda message, *_, **__: progress(Warn(str(message)))
