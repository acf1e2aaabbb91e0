"""memae evaluate: hold a model against labels."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memae.cli.console import Console
from memae.cli.options import (
    CoolDown,
    Device,
    Drop,
    FrameRate,
    Gap,
    Json,
    Least,
    LogJson,
    Mask,
    Model,
    OffThreshold,
    OnThreshold,
    PerHour,
    Quiet,
    SkipBad,
    Source,
    check_device,
    event_rule,
    skipped_line,
    without_video_options,
    x_from,
)
from memae.errors import ConfigError

if TYPE_CHECKING:
    from memae.metrics import ResultTable, SampleMeter
    from memae.modality import Explained

__all__ = ["evaluate"]


def evaluate(
    model: Model,
    source: Source,
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            metavar="NAME",
            help="The column of the label; for an npz file the array; for images in one folder per label: folder; "
            "for MNIST idx files, whose labels lie beside them: label.",
            show_default=False,
        ),
    ] = None,
    normal: Annotated[
        list[str] | None,
        typer.Option(
            "--normal",
            metavar="VALUE",
            help="The label that means normal; may be given again.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE|FOLDER",
            help="A folder of masks, see docs/images.md and docs/video.md; for video also a CSV of frames or of "
            "segments of them.",
            show_default=False,
        ),
    ] = None,
    per_hour: PerHour = None,
    on_threshold: OnThreshold = None,
    off_threshold: OffThreshold = None,
    least_s: Least = 0.0,
    merge_gap_s: Gap = 1.0,
    cool_down_s: CoolDown = 0.0,
    mask: Mask = None,
    frame_rate: FrameRate = None,
    drop: Drop = None,
    skip_bad: SkipBad = False,
    json: Json = False,
    device: Device = "auto",
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Measure how well MODEL tells normal samples of SOURCE from the others, with 95 % bootstrap intervals.

    AUROC and AUPR judge the scores; precision, recall, F1 and the false-alarm rate judge the model's own
    threshold, which was set without any label.

        memae evaluate flows.model labelled.csv --label-column label --normal benign

    Images in the layout of MVTec AD need no options: folders name the labels, and masks are found. Where there are
    masks, pixels are judged, too; see docs/images.md.

        memae evaluate bottle.model bottle/

    Video is judged by frames, pixels, regions and events; intervals are over videos.

        memae evaluate camera.model test_videos/ --labels masks/
    """
    from memae.detector import Detector

    console = Console(quiet=quiet, log_json=log_json)
    detector = Detector.load(model, device=check_device(device))
    if detector.config.network.startswith("video"):
        if labels is None:
            raise ConfigError(
                "a model of video is compared with --labels, a CSV file or a folder of masks; see docs/video.md"
            )
        if label_column or normal:
            raise ConfigError(
                "--label-column and --normal are for images and tables; for video --labels says it all"
            )
        rule, caveat = event_rule(
            detector,
            per_hour,
            on_threshold,
            off_threshold,
            least_s=least_s,
            merge_gap_s=merge_gap_s,
            cool_down_s=cool_down_s,
        )
        if skip_bad:
            raise ConfigError(
                "--skip-bad: figures without some of the videos are figures of another test set; take the bad videos "
                "and their labels out of it, or mend them"
            )
        from memae.report.video import evaluate_videos

        opened = detector.open(x_from([source], frame_rate)).without(drop or ())
        _report(
            evaluate_videos(detector, opened, labels, rule, mask=mask, progress=console.progress), json, console
        )
        if caveat:
            console.note(f"note: {caveat}")
        return
    video_only = {
        "--false-alarms-per-hour": per_hour,
        "--on-threshold": on_threshold,
        "--off-threshold": off_threshold,
        "--mask": mask,
        "--frame-rate": frame_rate,
    }
    without_video_options(model, video_only)
    opened = detector.open(source)
    meter = _meter(opened, source, label_column, normal, labels, skip_bad)
    samples = opened.without((*((label_column,) if label_column else ()), *(drop or ())))
    explained: Explained = "all" if meter.takes_maps else "none"
    stream = detector.stream(samples, explained=explained, skip_bad=skip_bad, progress=console.progress)
    with closing(stream) as parts:
        for part in parts:
            maps = [(found.key, found.anomaly_map) for found in part.explanations if found.anomaly_map is not None]
            meter.add(part.keys, part.scores, part.is_anomaly, part.skipped, maps)
    if left_out := meter.left_out():
        console.note(skipped_line(len(left_out), left_out))
    wanted = detector.threshold.false_alarm_rate
    _report(meter.result(wanted_false_alarm_rate=wanted, progress=console.progress), json, console)


def _meter(
    opened: Any,
    source: str,
    label_column: str | None,
    normal: list[str] | None,
    labels: Path | None,
    skip_bad: bool,
) -> SampleMeter:
    """What compares scores, and of images with masks maps, with the labels of the samples."""
    from memae.image.evaluate import ImageMeter
    from memae.image.source import ImageSource
    from memae.metrics import SampleMeter, read_labels

    if isinstance(opened, ImageSource):
        return ImageMeter.of(
            opened,
            root=Path(source),
            label_column=label_column,
            normal=normal or (),
            labels=labels,
            skip_bad=skip_bad,
        )
    if labels:
        raise ConfigError(
            "--labels is for models of video, and for masks of images in files; leave it out, and take --label-column"
        )
    return SampleMeter(read_labels(opened, label_column, normal or (), skip_bad=skip_bad), opened.origin)


def _report(result: Any, json: bool, console: Console) -> None:
    """Prints a result of any kind of data: as one line of JSON, or as a table."""
    figures = result.figures()
    console.result([], **figures)
    if json:
        import json as json_module

        typer.echo(json_module.dumps(figures))
    else:
        _print(result.table())


def _print(result: ResultTable) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=result.title, title_justify="left", caption=result.caption, caption_justify="left")
    for place, column in enumerate(result.columns):
        table.add_column(column, justify="right" if place else "left")
    for row in result.rows:
        table.add_row(*row)
    Console().print(table)
