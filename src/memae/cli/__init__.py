"""The command line: verbs only. Each parses, makes one library call and writes; heavy imports wait inside.

Data goes to the file or to stdout, messages go to stderr. The exit code is 0 only when the work was done: 1 for
something the user can mend, 2 for a wrong command line, 130 when interrupted.
"""

from __future__ import annotations

import sys
from inspect import cleandoc
from typing import Any

import typer
from typer.core import TyperGroup

from memae.cli.demo import demo
from memae.cli.evaluate import evaluate
from memae.cli.fit import fit
from memae.cli.inspect import inspect as inspect_verb
from memae.cli.score import score
from memae.cli.voice import LOG_JSON, say_error

__all__ = ["app", "main"]


class _Verbs(TyperGroup):
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
    help="Find what is not normal in images, tables and video, after seeing normal samples only.\n\n"
    "MemAE, the memory-augmented autoencoder (Gong et al., ICCV 2019). Start with:  memae demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _reflowed(text: str) -> str:
    """A docstring as the terminal should wrap it: a paragraph is one line, an indented example stays as it is."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else " ".join(p.split()) for p in paragraphs)


for verb in (fit, score, evaluate, inspect_verb, demo):
    app.command(help=_reflowed(verb.__doc__ or ""))(verb)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(importlib.metadata.version("memae"))
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

    try:
        _run()
    except MemaeError as error:
        say_error(str(error))
        sys.exit(1)
    except BrokenPipeError:
        # the reader of stdout went away, as `| head` does; python must not try to flush into it at exit
        sys.stdout = None
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say_error(f"{where}{error.strerror or error}; check the path, its permissions and the free space")
        sys.exit(1)


def _run() -> None:
    if LOG_JSON not in sys.argv[1:]:
        app(prog_name="memae")
        return
    try:
        code = app(prog_name="memae", standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # of Typer's own, for a wrong command line
            raise
        say_error(error.format_message(), code=2)
        code = 2
    sys.exit(code or 0)
