"""Options that several verbs share, and how they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from memae.cli.console import LOG_JSON
from memae.errors import ConfigError


def option(spec: str, help: str, panel: str | None = None) -> Any:
    """An option with a value, for `Annotated`: `spec` is what help shows of it, such as "--out/-o FILE"."""
    flags, _, metavar = spec.partition(" ")
    return typer.Option(*flags.split("/"), metavar=metavar, help=help, rich_help_panel=panel)


def video_option(spec: str, help: str) -> Any:
    """An option with a value that is for video alone."""
    return option(spec, help, panel="Video")


_SOURCE_HELP = (
    "Tables: a file (.csv, .tsv, .parquet, .arrow, .feather), a folder of them, a pattern in quotes, or - for CSV on "
    "standard input. Arrays: .npy, .npz, MNIST idx3-ubyte. Images: a "
    "folder, a file, a pattern in quotes, or a .txt with one path on each line; see docs/images.md. Video: a file "
    "(.mp4, .avi, .mkv and more), or a folder of such files or of folders of frames."
)
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help=_SOURCE_HELP,
        show_default=False,
    ),
]
Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE", help=f"{_SOURCE_HELP} May be several paths.", show_default=False),
]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A model directory made by memae fit, or hf://owner/name@revision.",
        show_default=False,
    ),
]
Drop = Annotated[
    list[str] | None,
    option("--drop COLUMN", "Leave this column out. May be given again."),
]
Columns = Annotated[
    str | None,
    option("--columns NAME,NAME", "Names of the columns of a CSV file without a header, all of them, in order."),
]
Device = Annotated[str, option("--device auto|cpu", "auto takes a GPU if there is one.")]
Engine = Annotated[
    str,
    option(
        "--engine auto|torch|openvino",
        "Runtime that scores on a CPU. auto takes OpenVINO if it is installed, the network has convolutions, and there "
        "is enough to score.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
LogJson = Annotated[
    bool,
    typer.Option(
        LOG_JSON, help="Progress, warnings, result and errors as JSON lines on stderr; see docs/log-json.md."
    ),
]
Rate = Annotated[
    float | None,
    option(
        "--false-alarm-rate RATE", "Wanted share of normal samples flagged, for this run alone; see threshold."
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Leave out images and rows that cannot be read, and list them at the end. A damaged video is read up to "
        "the damage. Without this option they are errors.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary on stderr.")]


def settings_from(
    config: Path | None,
    words: list[str] | None,
    false_alarm_rate: float | None = None,
    contamination: float | None = None,
    **sections: dict[str, Any],
) -> dict[str, Any]:
    """The settings of a TOML file, with --set words, and settings of sections that have options of their own.

    Raises:
        ConfigError: a file or word that cannot be read.
    """
    from memae.config import parse_words, read_toml

    settings = read_toml(config) if config else {}
    with named("--set"):
        changes = parse_words(words or [])
    named_options: dict[str, dict[str, Any]] = {
        "train": {"contamination": contamination},
        "threshold": {"false_alarm_rate": false_alarm_rate, "contamination": contamination},
        **sections,
    }
    for section, values in named_options.items():
        if given := {key: value for key, value in values.items() if value is not None}:
            changes[section] = {**changes.get(section, {}), **given}
    for section, values in changes.items():
        old = settings.get(section)
        settings[section] = (
            {**old, **values} if isinstance(old, Mapping) and isinstance(values, Mapping) else values
        )
    return settings


@contextmanager
def named(option: str) -> Iterator[None]:
    """Puts the option before the message of a ConfigError about its value."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{option} {error}") from None


def x_from(sources: list[str]) -> Any:
    """What the library takes: a path, a list of paths, or standard input.

    Raises:
        ConfigError: standard input among other sources.
    """
    import sys

    if sources == ["-"]:
        return sys.stdin.buffer
    if "-" in sources:
        raise ConfigError("-: standard input is a source of its own; give it alone")
    return sources[0] if len(sources) == 1 else sources


def names_of(columns: str | None) -> list[str] | None:
    """The names in a list with commas, which quotation marks may hold together."""
    import csv

    return None if columns is None else [name.strip() for name in next(csv.reader([columns]), [])]


def check_rate(frame_rate: float | None) -> float | None:
    """The frame rate.

    Raises:
        ConfigError: it is not above 0.
    """
    if frame_rate is not None and not (math.isfinite(frame_rate) and frame_rate > 0):
        raise ConfigError(f"--frame-rate {frame_rate:g}: give frames per second, above 0")
    return frame_rate


FrameRate = Annotated[
    float | None,
    video_option("--frame-rate FPS", "Frame rate of folders of frames. Default: 25. Video files have their own."),
]
PerHour = Annotated[
    float | None,
    video_option(
        "--false-alarms-per-hour RATE",
        "False alarms allowed in an hour of normal video. Sets the score at which an event begins. Default: 1.",
    ),
]
OnThreshold = Annotated[
    float | None,
    video_option("--on-threshold SCORE", "Score at which an event begins, in place of --false-alarms-per-hour."),
]
OffThreshold = Annotated[
    float | None,
    video_option(
        "--off-threshold SCORE", "Score below which an event ends. Default: 0.8 of the score at which it begins."
    ),
]
Least = Annotated[float, video_option("--least SECONDS", "Drop shorter events.")]
Gap = Annotated[
    float,
    video_option("--merge-gap SECONDS", "Merge events that are at most this far apart."),
]
CoolDown = Annotated[
    float,
    video_option("--cool-down SECONDS", "After an event, wait this long before the next one."),
]
Mask = Annotated[
    Path | None,
    video_option(
        "--mask FILE", "Regions to ignore: an image that is black there, or JSON polygons; see docs/video.md."
    ),
]


def check_device(device: str) -> Any:
    """The device as the library takes it.

    Raises:
        ConfigError: another word.
    """
    if device not in ("auto", "cpu"):
        raise ConfigError(f"--device {device}: take auto or cpu")
    return device


def check_output(path: Path, suffixes: tuple[str, ...], option: str = "--out") -> None:
    """Fails before the work if the output cannot be written, or not in a format that its name asks for.

    Raises:
        ConfigError: an unknown suffix, or a directory of that name.
        WriteError: nothing can be written there.
    """
    from memae.files.atomic import check_writable

    if not path.name.lower().endswith(suffixes):
        raise ConfigError(f"{option} {path}: the name must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a directory; name a file in it")
    check_writable(path)
