"""memae evaluate: compare the verdicts of a model with labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from memae.cli import options
from memae.cli.console import Console, print_json
from memae.cli.options import option

if TYPE_CHECKING:
    from memae.metrics import ResultTable

__all__ = ["evaluate"]


def evaluate(
    model: options.Model,
    source: options.Source,
    label_column: Annotated[
        str | None,
        option(
            "--label-column NAME",
            "The column of the labels. For an npz file: the name of the array. For images in one folder per label: "
            "folder. For MNIST idx files with their label file beside them: label.",
        ),
    ] = None,
    normal: Annotated[
        list[str] | None,
        option("--normal VALUE", "The label of normal samples. May be given again."),
    ] = None,
    labels: Annotated[
        Path | None,
        option(
            "--labels FILE|FOLDER",
            "A folder of masks (docs/images.md, docs/video.md); for video also a CSV of frames or of segments.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        option(
            "--group COLUMN|folder|REGEX|FILE.csv",
            "What belongs together, as for fit: intervals are then over groups. Of video each video is a group.",
        ),
    ] = None,
    per_hour: options.PerHour = None,
    on_threshold: options.OnThreshold = None,
    off_threshold: options.OffThreshold = None,
    least_s: options.Least = 0.0,
    merge_gap_s: options.Gap = 1.0,
    cool_down_s: options.CoolDown = 0.0,
    mask: options.Mask = None,
    frame_rate: options.FrameRate = None,
    columns: options.Columns = None,
    drop: options.Drop = None,
    false_alarm_rate: options.Rate = None,
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
    device: options.Device = "auto",
    engine: options.Engine = "auto",
    quiet: options.Quiet = False,
    log_json: options.LogJson = False,
) -> None:
    """Measure how well MODEL separates normal samples of SOURCE from anomalies, with 95 % bootstrap intervals.

    AUROC and AUPR rate the scores. The false-alarm rate, recall, precision and F1 rate the model's own threshold, which
    was set without labels. A second table has the measured rate and the recall at the thresholds of other wanted rates.
    Where labels name several kinds of anomalies, each has figures of its own.

        memae evaluate flows.model labelled.csv --label-column label --normal benign

    Images in the folders of MVTec AD need no options: the folders are the labels, and masks are found. With masks,
    pixels are evaluated too; see docs/images.md.

        memae evaluate bottle.model bottle/

    Video is evaluated by frames, pixels, regions and events, and by how much normal video is flagged. Intervals are
    over videos.

        memae evaluate camera.model test_videos/ --labels masks/
    """
    from memae.detector import Detector

    console = Console(quiet=quiet, log_json=log_json)
    detector = Detector.load(model, device=options.check_device(device), engine=cast("Any", engine))
    if false_alarm_rate is not None:
        detector.move_threshold(false_alarm_rate=false_alarm_rate)
    from memae.report.runs import check_options

    given = {
        "label_column": label_column,
        "normal": normal or None,
        "labels": labels,
        "group": group,
        "false_alarms_per_hour": per_hour,
        "on_threshold": on_threshold,
        "off_threshold": off_threshold,
        "mask": mask,
    }
    given = {name: value for name, value in given.items() if value is not None}
    check_options(detector, model, given, "evaluate")
    always = {
        "drop": drop or (),
        "root": Path(source),
        "skip_bad": skip_bad,
        "least_s": least_s,
        "merge_gap_s": merge_gap_s,
        "cool_down_s": cool_down_s,
    }
    opened = detector.open(
        options.x_from([source]), frame_rate=options.check_rate(frame_rate), columns=options.names_of(columns)
    )
    found = detector.modality.evaluate(detector, opened, given | always, console.progress)
    if found.left_out:
        for line in detector.modality.skipped_lines(len(found.left_out), found.left_out):
            console.note(line)
    _report(found.result, json, console)
    for note in found.notes:
        console.note(f"note: {note}")


def _report(result: Any, json: bool, console: Console) -> None:
    """Prints a result of any kind of data: as one line of JSON, or as a table."""
    figures = result.figures()
    console.result([], **figures)
    if json:
        print_json(figures)
    else:
        _print(result.table())


def _print(result: ResultTable) -> None:
    from rich.console import Console
    from rich.table import Table

    from memae.errors import printable

    table = Table(
        title=printable(result.title), title_justify="left", caption=result.caption, caption_justify="left"
    )
    for place, column in enumerate(result.columns):
        table.add_column(column, justify="right" if place else "left")
    for row in result.rows:
        table.add_row(*map(printable, row))
    Console().print(table)
    for further in result.below:
        _print(further)
