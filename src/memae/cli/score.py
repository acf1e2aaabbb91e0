"""memae score: a score, a p-value and a verdict for each sample."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memae.cli.options import (
    FALSE_ALARMS_PER_HOUR,
    CoolDown,
    Device,
    Drop,
    Enter,
    FrameRate,
    Gap,
    Least,
    Leave,
    Mask,
    Model,
    PerHour,
    Quiet,
    SkipBad,
    Sources,
    check_device,
    check_output,
    event_rule,
    skipped_lines,
    without_video_options,
    x_from,
)
from memae.errors import ConfigError

if TYPE_CHECKING:
    from memae.data.sources import Source
    from memae.detector import Detector, Verdicts
    from memae.events import EventRule

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
    per_hour: PerHour = FALSE_ALARMS_PER_HOUR,
    enter: Enter = None,
    leave: Leave = None,
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
) -> None:
    """Score every sample of SOURCE: one row each, in order, with its path or row number.

    Columns: key, score (higher = more anomalous), p_value (how rarely a normal sample scores so high), is_anomaly. An
    image that --skip-bad leaves out keeps its row, with the other columns empty.

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
    detector = Detector.load(model, device=check_device(device))
    _check_maps(detector, maps, maps_of, sources)
    if detector.config.network.startswith("video"):
        if explain:
            raise ConfigError("--explain is for images and tables; of video --events says why")
        for name, seconds in (("--before", before_s), ("--after", after_s)):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ConfigError(f"{name} {seconds:g}: give seconds, 0 or more")
        rule, caveat = event_rule(
            detector,
            per_hour,
            enter,
            leave,
            least_s=least_s,
            merge_gap_s=merge_gap_s,
            cool_down_s=cool_down_s,
        )
        _score_video(
            detector,
            detector.open(x_from(sources, frame_rate)).without(drop or ()),
            rule,
            (out, events, overlay),
            (before_s, after_s),
            mask=mask,
            caveat=caveat if events or overlay else None,
            quiet=quiet,
        )
        return
    video_only = {"--events": events, "--overlay": overlay, "--enter": enter, "--leave": leave, "--mask": mask}
    without_video_options(model, {**video_only, "--frame-rate": frame_rate})
    opened = detector.open(x_from(sources, None), skip_bad=skip_bad).without(drop or ())
    _score_samples(detector, opened, (out, explain, maps), only_anomalies=maps_of == "anomalies", quiet=quiet)


def _check_maps(detector: Detector, maps: Path | None, maps_of: str, sources: list[str]) -> None:
    from memae.data.preprocess import ImagePreprocess
    from memae.report.maps import check_maps_folder

    if maps_of not in ("all", "anomalies"):
        raise ConfigError(f"--maps-of {maps_of}: take all or anomalies")
    if maps is None:
        return
    if not isinstance(detector.preprocess, ImagePreprocess):
        other = "video has --overlay" if detector.config.network.startswith("video") else "a table has --explain"
        raise ConfigError(f"--maps is for models of images; {other}")
    check_maps_folder(maps, sources)


def _score_samples(
    detector: Detector,
    opened: Source,
    files: tuple[Path | None, Path | None, Path | None],
    *,
    only_anomalies: bool,
    quiet: bool,
) -> None:
    from memae.data.sources import skipped_of
    from memae.report.maps import write_maps
    from memae.report.rows import write_explanations, write_verdicts

    out, explain, maps = files
    anomalies: list[Hashable] = []
    total, flagged = write_verdicts(_noted(detector.stream(opened), anomalies), out, lambda: skipped_of(opened))
    skipped = skipped_of(opened)
    if explain:
        write_explanations(detector.explain(opened, anomalies), explain)
    drawn = 0
    if maps:
        drawn = sum(1 for _ in write_maps(detector, opened, maps, anomalies if only_anomalies else None))
    if not quiet:
        share = flagged / total
        typer.echo(
            f"{total:,} samples, {flagged:,} anomalies ({share:.2%}) above score {detector.threshold.value:.6g}"
            + (f"; {out}" if out else "")
            + (f"; {drawn:,} maps in {maps}" if maps else ""),
            err=True,
        )
    for line in skipped_lines(skipped):
        typer.echo(line, err=True)


def _score_video(
    detector: Detector,
    source: Source,
    rule: EventRule,
    files: tuple[Path | None, Path | None, Path | None],
    around_s: tuple[float, float],
    *,
    mask: Path | None,
    caveat: str | None,
    quiet: bool,
) -> None:
    from memae.progress import FrameCounter
    from memae.report.watching import Outputs, watch_videos

    out, events, overlay = files
    outputs = Outputs(out, events, overlay, rows_to_stdout=not (out or events or overlay))
    with ExitStack() as stack:
        counter = None if quiet else stack.enter_context(FrameCounter())
        found = watch_videos(
            detector,
            source,
            rule,
            outputs,
            mask=mask,
            before_s=around_s[0],
            after_s=around_s[1],
            progress=counter,
        )
    if quiet:
        return
    events_found = f"{len(found.events)} event{'s' * (len(found.events) != 1)}"
    lines = [
        f"{found.frames:,} frames, {found.anomalous_frames:,} ({found.anomalous_frames / found.frames:.2%}) above "
        f"score {detector.threshold.value:.4g}; {events_found} from score {rule.enter:.4g} on"
        + "".join(f"; {path}" for path in (out, events, overlay) if path)
    ]
    if caveat:
        lines.append(f"note: {caveat}")
    typer.echo("\n".join(lines), err=True)


def _noted(parts: Iterator[Verdicts], anomalies: list[Hashable]) -> Iterator[Verdicts]:
    """The same chunks; the keys of the anomalies in them are added to the list on the way."""
    for part in parts:
        anomalies += [part.keys[row] for row in part.is_anomaly.nonzero()[0].tolist()]
        yield part
