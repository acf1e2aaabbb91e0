"""memae score: a score, a p-value and a verdict for each sample."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memae.cli.console import Console
from memae.cli.options import (
    SHOWN_SKIPPED,
    CoolDown,
    Device,
    Drop,
    FrameRate,
    Gap,
    Least,
    LogJson,
    Mask,
    Model,
    OffThreshold,
    OnThreshold,
    PerHour,
    Quiet,
    SkipBad,
    Sources,
    bad_videos,
    check_device,
    check_output,
    event_rule,
    named,
    skipped_line,
    without_video_options,
    x_from,
)
from memae.errors import ConfigError

if TYPE_CHECKING:
    from memae.detector import Detector, Verdicts
    from memae.types import Skipped, Source
    from memae.video.events import EventRule

__all__ = ["score"]


def score(
    model: Model,
    sources: Sources,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help=".csv, .parquet or .jsonl; left out, CSV on stdout.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain",
            metavar="FILE.jsonl",
            help="Also write why, one line an anomaly: the items that rebuilt it, and for a table each column as "
            "seen and as expected, most surprising first.",
            show_default=False,
        ),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            metavar="FOLDER",
            help="Of images, also write each with heat where it is unusual; see docs/images.md.",
            show_default=False,
        ),
    ] = None,
    maps_of: Annotated[
        str, typer.Option("--maps-of", metavar="all|anomalies", help="Which images --maps draws.")
    ] = "all",
    events: Annotated[
        Path | None,
        typer.Option(
            "--events",
            metavar="FILE.jsonl",
            help="Write one line an event, and a still and a clip of each to the folder of that name without .jsonl.",
            show_default=False,
            rich_help_panel="Video",
        ),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(
            "--overlay",
            metavar="FILE.mp4|FOLDER",
            help="Write the video with heat where it is unusual, and boxes around that.",
            show_default=False,
            rich_help_panel="Video",
        ),
    ] = None,
    per_hour: PerHour = None,
    on_threshold: OnThreshold = None,
    off_threshold: OffThreshold = None,
    least_s: Least = 0.0,
    merge_gap_s: Gap = 1.0,
    cool_down_s: CoolDown = 0.0,
    before_s: Annotated[
        float,
        typer.Option(
            "--before",
            metavar="SECONDS",
            help="Footage in a clip before its event.",
            rich_help_panel="Video",
        ),
    ] = 3.0,
    after_s: Annotated[
        float,
        typer.Option(
            "--after",
            metavar="SECONDS",
            help="Footage in a clip after its event.",
            rich_help_panel="Video",
        ),
    ] = 3.0,
    mask: Mask = None,
    frame_rate: FrameRate = None,
    drop: Drop = None,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Score every sample of SOURCE: one row each, in order, with its path or row number.

    Columns: key, score (higher = more anomalous), p_value (how rarely a normal sample scores so high), is_anomaly. They
    are empty for a sample that --skip-bad left out, but for its key.

        memae score flows.model today.csv --out scores.csv

        memae score parts.model today/ --out scores.csv --maps heat/

    Of video a row is a frame: video, frame, time_s, score, p_value, is_anomaly.

        memae score camera.model clip.mp4 --out frames.csv --events events.jsonl --overlay overlay.mp4
    """
    from memae.detector import Detector

    if out:
        check_output(out, (".csv", ".parquet", ".jsonl"))
    if explain:
        check_output(explain, (".jsonl",), "--explain")
    if events:
        check_output(events, (".jsonl",), "--events")
    rows_on_screen = not (out or events or overlay) and sys.stdout.isatty()
    console = Console(quiet=quiet, log_json=log_json, rows_on_screen=rows_on_screen)
    detector = Detector.load(model, device=check_device(device))
    _check_maps(detector, maps, maps_of, sources)
    if detector.config.network.startswith("video"):
        if explain:
            raise ConfigError("--explain is for images and tables; of video --events says why")
        for name, seconds in (("--before", before_s), ("--after", after_s)):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ConfigError(f"{name} {seconds:g}: give seconds, 0 or more")
        x = x_from(sources, frame_rate, skip_bad=skip_bad)
        opened = detector.open(x, skip_bad=skip_bad).without(drop or ())
        rule, caveat = event_rule(
            detector,
            per_hour,
            on_threshold,
            off_threshold,
            least_s=least_s,
            merge_gap_s=merge_gap_s,
            cool_down_s=cool_down_s,
        )
        _score_video(
            detector,
            opened,
            rule,
            (out, events, overlay),
            (before_s, after_s),
            mask=mask,
            caveat=caveat,
            console=console,
        )
        return
    video_only = {
        "--events": events,
        "--overlay": overlay,
        "--false-alarms-per-hour": per_hour,
        "--on-threshold": on_threshold,
        "--off-threshold": off_threshold,
        "--mask": mask,
        "--frame-rate": frame_rate,
    }
    without_video_options(model, video_only)
    opened = detector.open(x_from(sources, None)).without(drop or ())
    _score_samples(
        detector,
        opened,
        (out, explain, maps),
        only_anomalies=maps_of == "anomalies",
        skip_bad=skip_bad,
        console=console,
    )


def _check_maps(detector: Detector, maps: Path | None, maps_of: str, sources: list[str]) -> None:
    from memae.image.render import check_maps_folder

    if maps_of not in ("all", "anomalies"):
        raise ConfigError(f"--maps-of {maps_of}: take all or anomalies")
    if maps is None:
        return
    if detector.modality.name != "image":
        other = "video has --overlay" if detector.config.network.startswith("video") else "a table has --explain"
        raise ConfigError(f"--maps is for models of images; {other}")
    with named("--maps"):
        check_maps_folder(maps, sources)


def _score_samples(
    detector: Detector,
    opened: Source,
    files: tuple[Path | None, Path | None, Path | None],
    *,
    only_anomalies: bool,
    skip_bad: bool,
    console: Console,
) -> None:
    from memae.report.rows import write_verdicts
    from memae.report.writers import Beside

    out, explain, maps = files
    noted = _Noted()
    beside = Beside(detector, opened, explain, maps, only_anomalies=only_anomalies)
    parts = detector.stream(opened, explained=beside.explained, skip_bad=skip_bad, progress=console.progress)
    # closed, so that its stage ends before an error is said
    with beside, closing(parts):
        total, flagged = write_verdicts(beside.passed_on(noted.passed_on(parts)), out)
    if beside.failed:
        raise beside.failed
    lines = [f"note: {note}" for note in getattr(opened, "notes", ())]
    if noted.skipped:
        lines.append(skipped_line(noted.skipped, noted.first_skipped))
    share = flagged / (total - noted.skipped)
    lines.append(
        f"{total:,} samples, {flagged:,} anomalies ({share:.2%}) above score {detector.threshold.value:.6g}"
        + (f"; {out}" if out else "")
        + (f"; {beside.drawn:,} maps in {maps}" if maps else "")
    )
    console.result(
        lines,
        samples=total,
        anomalies=flagged,
        skipped=noted.skipped,
        threshold=detector.threshold.value,
        **_files(out, explain=explain, maps=maps),
        **({"drawn": beside.drawn} if maps else {}),
    )


def _files(out: Path | None, **others: Path | None) -> dict[str, str]:
    """The files that were written, by what they hold."""
    return {name: str(path) for name, path in {"out": out, **others}.items() if path}


def _score_video(
    detector: Detector,
    source: Source,
    rule: EventRule,
    files: tuple[Path | None, Path | None, Path | None],
    around_s: tuple[float, float],
    *,
    mask: Path | None,
    caveat: str | None,
    console: Console,
) -> None:
    from memae.report.video import score_videos
    from memae.video.outputs import Outputs

    out, events, overlay = files
    outputs = Outputs(*files, *around_s, rows_to_stdout=not any(files))
    found = score_videos(detector, source, rule, outputs, mask=mask, progress=console.progress)
    events_found = f"{len(found.events)} event{'s' * (len(found.events) != 1)}"
    lines = [
        f"{found.frames:,} frames, {found.anomalous_frames:,} ({found.anomalous_frames / found.frames:.2%}) above "
        f"score {detector.threshold.value:.4g}; {events_found} from score {rule.on_threshold:.4g} on"
        + "".join(f"; {path}" for path in (out, events, overlay) if path)
    ]
    if caveat:
        lines.append(f"note: {caveat}")
    if found.skipped:
        lines += bad_videos(len(found.skipped), found.skipped)
    console.result(
        lines,
        frames=found.frames,
        anomalous_frames=found.anomalous_frames,
        events=len(found.events),
        skipped=len(found.skipped),
        threshold=detector.threshold.value,
        on_threshold=rule.on_threshold,
        enter=rule.on_threshold,  # its old name, until 0.2.0
        caveat=caveat,
        **_files(out, event_file=events, overlay=overlay),
    )


class _Noted:
    """What is remembered of verdicts on their way to the file."""

    def __init__(self) -> None:
        self.skipped = 0
        self.first_skipped: list[Skipped] = []

    def passed_on(self, parts: Iterator[Verdicts]) -> Iterator[Verdicts]:
        """The same chunks."""
        for part in parts:
            self.skipped += len(part.skipped)
            self.first_skipped += part.skipped[: max(0, SHOWN_SKIPPED - len(self.first_skipped))]
            yield part
