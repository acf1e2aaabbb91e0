"""Options that several verbs share, and how they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memae.cli.console import LOG_JSON
from memae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from memae.detector import Detector
    from memae.types import Skipped
    from memae.video.events import EventRule, EventThreshold

__all__ = [
    "FALSE_ALARMS_PER_HOUR",
    "CoolDown",
    "Device",
    "Drop",
    "FrameRate",
    "Gap",
    "Json",
    "Least",
    "LogJson",
    "Mask",
    "Model",
    "OffThreshold",
    "OnThreshold",
    "PerHour",
    "Quiet",
    "SkipBad",
    "Source",
    "Sources",
    "bad_videos",
    "check_device",
    "check_output",
    "default_events",
    "event_rule",
    "events_line",
    "named",
    "settings_from",
    "skipped_line",
    "without_video_options",
    "x_from",
]

_SOURCE_HELP = (
    "A file: .csv, .tsv (.gz), .parquet, .arrow, .feather, .npy, .npz, MNIST idx3-ubyte (.gz). Images: a folder, a "
    "file, a pattern in quotes, or a .txt with one path a line; see docs/images.md. Video: a file (.mp4, .avi, .mkv "
    "and more), or a folder with such files or with folders of frames."
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
    typer.Argument(
        metavar="SOURCE", help=f"{_SOURCE_HELP} Several of images or of video may be given.", show_default=False
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
LogJson = Annotated[
    bool,
    typer.Option(
        LOG_JSON, help="Progress, warnings, result and errors as JSON lines on stderr; see docs/log-json.md."
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Leave out images and rows that cannot be read or encoded, and videos, which count up to where they break "
        "off; name them at the end. They are an error else.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary on stderr.")]


def settings_from(
    config: Path | None, words: list[str] | None, false_alarm_rate: float | None = None, **image: Any
) -> dict[str, Any]:
    """The settings of a TOML file, with --set words, --false-alarm-rate and settings of images laid over them.

    Raises:
        ConfigError: a file or word that cannot be read.
    """
    from memae.config import parse_words, read_toml

    settings = read_toml(config) if config else {}
    with named("--set"):
        changes = parse_words(words or [])
    if false_alarm_rate is not None:
        changes["threshold"] = {**changes.get("threshold", {}), "false_alarm_rate": false_alarm_rate}
    if given := {key: value for key, value in image.items() if value is not None}:
        changes["image"] = {**changes.get("image", {}), **given}
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


def x_from(sources: list[str], frame_rate: float | None, *, skip_bad: bool = False) -> Any:
    """What the library takes: a path, a list of paths, or the videos, whose frames in folders have a rate.

    Raises:
        ConfigError: a rate that is not above 0.
        DataError: an address, several sources of which one is neither images nor video, or a rate for what is no video.
    """
    if address := next((source for source in sources if "://" in source), None):
        raise DataError(f"{address}: is an address, and only local files are read; download it first")
    if frame_rate is None and len(sources) == 1:
        return sources[0]
    if frame_rate is not None and not (math.isfinite(frame_rate) and frame_rate > 0):
        raise ConfigError(f"--frame-rate {frame_rate:g}: give frames per second, above 0")
    from memae.image.paths import IMAGE_SUFFIXES, LIST_SUFFIX
    from memae.video.paths import holds_videos
    from memae.video.source import VideoSource

    paths = [Path(source) for source in sources]
    for path in paths:
        if not path.is_file() or holds_videos(path):
            continue
        if frame_rate:
            raise DataError(f"{path}: is no video, and --frame-rate is for video only; leave it out")
        if not path.name.lower().endswith((*IMAGE_SUFFIXES, LIST_SUFFIX)):
            raise DataError(
                f"{path}: is no image and no video, and several sources are for those only; give it alone"
            )
    return VideoSource(paths, folder_rate=frame_rate, skip_bad=skip_bad) if frame_rate else sources


def bad_videos(count: int, first: Sequence[Skipped]) -> list[str]:
    """Lines on how many videos were bad, and what became of the first of them."""
    lines = [f"{count:,} bad video{'s' * (count != 1)}:"]
    lines += [f"  {video}: {reason}" for video, reason in first[:SHOWN_SKIPPED]]
    return lines + [f"  and {count - SHOWN_SKIPPED:,} more"] * (count > SHOWN_SKIPPED)


def skipped_line(count: int, first: Sequence[Skipped]) -> str:
    """How many bad samples were left out, and what was wrong with the first of them."""
    shown = "; ".join(
        f"{'row ' if str(skipped.key).isdigit() else ''}{skipped.key} {skipped.reason}"
        for skipped in first[:SHOWN_SKIPPED]
    )
    more = f"; and {count - SHOWN_SKIPPED:,} more" if count > SHOWN_SKIPPED else ""
    return f"skipped {count:,} bad sample{'s' * (count != 1)}: {shown}{more}"


def without_video_options(model: Path, options: Mapping[str, Any]) -> None:
    """Fails if one of the options for video, by name, was given a value; the model is of another kind.

    Raises:
        ConfigError: names the option.
    """
    if given := [name for name, value in options.items() if value is not None]:
        raise ConfigError(f"{given[0]} is for models of video, and {model} is of another kind; leave it out")


SHOWN_SKIPPED = 5
_VIDEO = "Video"
FALSE_ALARMS_PER_HOUR = 1.0
FrameRate = Annotated[
    float | None,
    typer.Option(
        "--frame-rate",
        metavar="FPS",
        help="Of folders of frames, which carry no times; left out: 25. Video files have their own.",
        show_default=False,
        rich_help_panel=_VIDEO,
    ),
]
PerHour = Annotated[
    float | None,
    typer.Option(
        "--false-alarms-per-hour",
        metavar="RATE",
        help="False alarms that an hour of normal video may raise; sets the score that begins an event. Left out: "
        f"{FALSE_ALARMS_PER_HOUR:g}.",
        show_default=False,
        rich_help_panel=_VIDEO,
    ),
]
OnThreshold = Annotated[
    float | None,
    typer.Option(
        "--on-threshold",
        metavar="SCORE",
        help="The score that begins an event, in place of --false-alarms-per-hour.",
        show_default=False,
        rich_help_panel=_VIDEO,
    ),
]
OffThreshold = Annotated[
    float | None,
    typer.Option(
        "--off-threshold",
        metavar="SCORE",
        help="The score below which an event ends; left out: 0.8 of that which begins it.",
        show_default=False,
        rich_help_panel=_VIDEO,
    ),
]
Least = Annotated[
    float, typer.Option("--least", metavar="SECONDS", help="Drop shorter events.", rich_help_panel=_VIDEO)
]
Gap = Annotated[
    float,
    typer.Option(
        "--merge-gap", metavar="SECONDS", help="Events no further apart are one.", rich_help_panel=_VIDEO
    ),
]
CoolDown = Annotated[
    float,
    typer.Option(
        "--cool-down", metavar="SECONDS", help="After an event, none begins for so long.", rich_help_panel=_VIDEO
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        help="Places to leave out: an image that is black there, or JSON polygons; see docs/video.md.",
        show_default=False,
        rich_help_panel=_VIDEO,
    ),
]


def event_rule(
    detector: Detector,
    per_hour: float | None,
    on_threshold: float | None,
    off_threshold: float | None,
    *,
    least_s: float,
    merge_gap_s: float,
    cool_down_s: float,
) -> tuple[EventRule, str | None]:
    """The rule of events behind the options, and what must be said about its threshold.

    Raises:
        ConfigError: a value out of range, or a score and a rate.
        MemaeError: no score is given, and the model knows no normal video to find one from.
    """
    from memae.video.events import EventRule

    times = {"least_s": least_s, "merge_gap_s": merge_gap_s, "cool_down_s": cool_down_s}
    if on_threshold is not None and per_hour is not None:
        raise ConfigError(
            "--on-threshold and --false-alarms-per-hour both set the score that begins an event; give one of them"
        )
    if on_threshold is not None:
        return EventRule(on_threshold, off_threshold, **times), None
    per_hour = FALSE_ALARMS_PER_HOUR if per_hour is None else per_hour
    if not per_hour > 0:
        raise ConfigError(f"--false-alarms-per-hour {per_hour:g}: give a rate above 0")
    found = detector.event_threshold(per_hour, lambda score: EventRule(score, **times))
    off_threshold = found.off_threshold if off_threshold is None else off_threshold
    return EventRule(found.on_threshold, off_threshold, **times), found.caveat


def default_events(detector: Detector) -> EventThreshold | None:
    """The event threshold of a model at the rate that is the default; None without held-out video."""
    from memae.errors import MemaeError

    try:
        found: EventThreshold = detector.event_threshold(FALSE_ALARMS_PER_HOUR)
        return found
    except MemaeError:
        return None


def events_line(found: EventThreshold) -> str:
    """The event threshold of a model at the rate that is the default, in words."""
    minutes = f"{60 * found.normal_hours:.3g} minutes of held-out normal video"
    rate = f"{FALSE_ALARMS_PER_HOUR:g} false alarm an hour"
    if found.caveat:
        return f"from score {found.on_threshold:.4g} on, just above all of {minutes}: too short to promise {rate}"
    return f"from score {found.on_threshold:.4g} on, for at most {rate}, from {minutes}"


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
    from memae.files import check_writable

    if not path.name.lower().endswith(suffixes):
        raise ConfigError(f"{option} {path}: the name must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a directory; name a file in it")
    check_writable(path)
