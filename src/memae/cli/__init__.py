"""The command line: verbs only. Each parses, makes one library call and writes; heavy imports wait inside.

Data goes to the file or to stdout, messages go to stderr. The exit code is 0 only when the work was done: 1 for
something the user can mend, 2 for a wrong command line, 130 when interrupted.
"""

from __future__ import annotations

import signal
import sys
from inspect import cleandoc
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from memae.cli.console import LOG_JSON, say_error, say_warning
from memae.cli.demo import demo
from memae.cli.evaluate import evaluate
from memae.cli.export import export
from memae.cli.fit import fit
from memae.cli.inspect import inspect as inspect_verb
from memae.cli.record import record
from memae.cli.report import report
from memae.cli.score import score
from memae.cli.serve import serve
from memae.cli.teach import teach
from memae.cli.threshold import threshold
from memae.cli.watch import watch

__all__ = ["app", "main"]

OUT_OF_MEMORY = (
    "out of memory; close other programs, give fewer or smaller samples, or take a machine with more memory"
)
RENAMED_OPTIONS = {"--enter": "--on-threshold", "--leave": "--off-threshold"}
WIDTH = 100  # of help, characters, where the terminal has them


class _Verb(TyperCommand):
    """A verb: its help has a heading for each panel, as Typer has with rich alone, and old options are accepted."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes options under their old names, too, with a warning."""
        return super().parse_args(ctx, [_new_name(word) for word in args])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, the options, and the options of each panel."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                panels.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for name, records in panels.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def _new_name(word: str) -> str:
    old, equals, value = word.partition("=")
    if (new := RENAMED_OPTIONS.get(old)) is None:
        return word
    say_warning(f"{old} is now called {new}; the old name is accepted until memae 0.2.0")
    return f"{new}{equals}{value}"


class _Verbs(TyperGroup):
    def get_help_option(self, ctx: Any) -> Any:
        """--help, False where it is not given; for a None Typer loads pydantic, only to let it pass."""
        if option := super().get_help_option(ctx):
            option.default = False
        return option

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb; Ctrl-C is caught here, as Typer makes of it an exit without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say_error("interrupted", event="interrupted", code=130)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="memae",
    cls=_Verbs,
    help="Find anomalies in images, tables and video. Training needs normal samples only.\n\n"
    "The method is MemAE, the memory-augmented autoencoder (Gong et al., ICCV 2019). Start with:  memae demo",
    context_settings={"max_content_width": WIDTH},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes longer to load than all else that help needs
)


def _reflowed(text: str) -> str:
    """A docstring as the terminal should wrap it: a paragraph is one line, an indented example stays as it is."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(f"\b\n{p}" if p.startswith(" ") else " ".join(p.split()) for p in paragraphs)


for verb in (fit, score, report, evaluate, threshold, teach, inspect_verb, export, serve, watch, record, demo):
    text = _reflowed(verb.__doc__ or "")
    first = text.partition("\n")[0]
    app.command(cls=_Verb, help=text, short_help=first, context_settings={"max_content_width": WIDTH})(verb)


def _version(wanted: bool) -> None:
    if wanted:
        from memae import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """Runs the command line; an error that the user can mend is one message, without a traceback."""
    from memae.errors import MemaeError

    signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        _run()
    except BrokenPipeError:
        # the reader of stdout went away, as `| head` does; python must not try to flush into it at exit
        sys.stdout = None
    except (MemaeError, OSError, MemoryError, RuntimeError) as error:
        if (message := _cure(error)) is None:
            raise
        say_error(message)
    else:
        return
    sys.exit(1)


def _cure(error: Exception) -> str | None:
    """What a person can do about an error; None for one of this program's own making."""
    from memae.errors import MemaeError, without_password

    if isinstance(error, MemaeError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{without_password(str(error.filename))}: " if error.filename else ""
        return f"{where}{error.strerror or error}; check the path, its permissions and the free space"
    from memae.engine.batch_limit import ran_out  # with torch, which takes its time

    return OUT_OF_MEMORY if ran_out(error) else None  # where nothing could be halved: the samples alone do not fit


def _as_ctrl_c(*_: object) -> None:
    """What ends a job on a cluster or in a container loses no more than a person's Ctrl-C does."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell sets it for a job behind itself
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _run() -> None:
    if LOG_JSON not in sys.argv[1:]:
        app(prog_name="memae")
        return
    try:
        code = app(prog_name="memae", standalone_mode=False)
    except Exception as error:  # Typer's own, for a wrong command line, have no public name
        if not hasattr(error, "format_message"):
            raise
        say_error(error.format_message(), code=2)
        code = 2
    sys.exit(code or 0)
