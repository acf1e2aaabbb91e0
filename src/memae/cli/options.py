"""Options that several verbs share, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from memae.errors import ConfigError

__all__ = ["Device", "Drop", "Json", "Model", "Quiet", "Source", "check_output", "settings_from"]

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder of PNG or JPEG images of one size, or a file: .csv, .csv.gz, .parquet, .npy, .npz, "
        "MNIST idx3-ubyte (.gz).",
        show_default=False,
    ),
]
Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model directory made by memae fit.", show_default=False)
]
Drop = Annotated[
    list[str] | None,
    typer.Option(
        "--drop", metavar="COLUMN", help="Leave this column out; may be given again.", show_default=False
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu", help="auto takes a GPU where there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary on stderr.")]


def settings_from(config: Path | None, words: list[str] | None, false_alarm_rate: float | None) -> dict[str, Any]:
    """The settings of a TOML file, with --set words and --false-alarm-rate laid over them.

    Raises:
        ConfigError: a file or word that cannot be read.
    """
    from memae.config import parse_words, read_toml

    settings = read_toml(config) if config else {}
    changes = parse_words(words or [])
    if false_alarm_rate is not None:
        changes["threshold"] = {**changes.get("threshold", {}), "false_alarm_rate": false_alarm_rate}
    for section, values in changes.items():
        old = settings.get(section)
        settings[section] = (
            {**old, **values} if isinstance(old, Mapping) and isinstance(values, Mapping) else values
        )
    return settings


def check_device(device: str) -> Any:
    """The device as the library takes it.

    Raises:
        ConfigError: another word.
    """
    if device not in ("auto", "cpu"):
        raise ConfigError(f"--device {device}: take auto or cpu")
    return device


def check_output(path: Path, suffixes: tuple[str, ...], option: str = "--out") -> None:
    """Fails before the work if the output cannot be written in a format that its name asks for.

    Raises:
        ConfigError: an unknown suffix, or a directory of that name.
    """
    if not path.name.lower().endswith(suffixes):
        raise ConfigError(f"{option} {path}: the name must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a directory; name a file in it")
