"""memae evaluate: hold a model against labels."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from memae.cli.options import (
    CoolDown,
    Device,
    Drop,
    Enter,
    FrameRate,
    Gap,
    Json,
    Least,
    Leave,
    LogJson,
    Mask,
    Model,
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
from memae.cli.voice import Voice
from memae.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from memae.detector import Verdicts
    from memae.image.evaluate import ImageMasks

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
            "stretches of them.",
            show_default=False,
        ),
    ] = None,
    per_hour: PerHour = None,
    enter: Enter = None,
    leave: Leave = None,
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
    from memae.image.render import judge_maps
    from memae.image.source import ImageSource
    from memae.metrics import evaluate as measure

    voice = Voice(quiet=quiet, log_json=log_json)
    detector = Detector.load(model, device=check_device(device))
    if detector.config.network.startswith("video"):
        if labels is None:
            raise ConfigError(
                "a model of video is held against --labels, a CSV file or a folder of masks; see docs/video.md"
            )
        if label_column or normal:
            raise ConfigError(
                "--label-column and --normal are for images and tables; for video --labels says it all"
            )
        rule, caveat = event_rule(
            detector,
            per_hour,
            enter,
            leave,
            least_s=least_s,
            merge_gap_s=merge_gap_s,
            cool_down_s=cool_down_s,
        )
        if skip_bad:
            raise ConfigError(
                "--skip-bad: figures without some of the videos are figures of another test set; take the bad videos "
                "and their labels out of it, or mend them"
            )
        opened = detector.open(x_from([source], frame_rate)).without(drop or ())
        _evaluate_video(detector, opened, labels, rule, mask, caveat, json, voice)
        return
    video_only = {
        "--false-alarms-per-hour": per_hour,
        "--enter": enter,
        "--leave": leave,
        "--mask": mask,
        "--frame-rate": frame_rate,
    }
    without_video_options(model, video_only)
    opened = detector.open(source)
    truth = _truth(opened, source, label_column, normal, labels, skip_bad)
    samples = opened.without((*((label_column,) if label_column else ()), *(drop or ())))
    if truth.masks and isinstance(samples, ImageSource):
        verdicts, pixels = judge_maps(detector, samples, truth.masks, skip_bad=skip_bad, watcher=voice.watcher)
    else:
        verdicts, pixels = detector.detect(samples, skip_bad=skip_bad, watcher=voice.watcher), None
    result = measure(
        *_judged(verdicts, samples.origin, truth, voice),
        wanted_false_alarm_rate=detector.threshold.false_alarm_rate,
        watcher=voice.watcher,
    )
    figures = dataclasses.asdict(result) | ({"pixels": dataclasses.asdict(pixels)} if pixels else {})
    voice.result([], **figures)
    if json:
        import json as json_module

        typer.echo(json_module.dumps(figures))
    else:
        _print(result, pixels)


class _Truth(NamedTuple):
    """What is known about the samples, all of them, whether they can be read or not."""

    anomalous: np.ndarray
    """(S,) bool."""
    known: np.ndarray
    """(S,) bool: there is a label."""
    masks: ImageMasks | None = None


def _truth(
    opened: Any,
    source: str,
    label_column: str | None,
    normal: list[str] | None,
    labels: Path | None,
    skip_bad: bool,
) -> _Truth:
    import numpy as np

    from memae.image.evaluate import read_masks
    from memae.image.mvtec import NORMAL_FOLDER, find_layout
    from memae.image.source import ImageSource
    from memae.metrics import anomaly_labels

    if labels and not isinstance(opened, ImageSource):
        raise ConfigError(
            "--labels is for models of video, and for masks of images in files; leave it out, and take --label-column"
        )
    if labels and not labels.is_dir():
        raise ConfigError(f"--labels {labels}: is no folder; the masks of images lie in one, see docs/images.md")
    layout = find_layout(Path(source)) if isinstance(opened, ImageSource) else None
    folder = labels or (layout and layout.masks)
    if layout:
        label_column, normal = label_column or "folder", normal or [NORMAL_FOLDER]
    if label_column is None and normal is None and labels:
        masks = read_masks(labels, opened.keys)
        anomalous = np.array([masks.marks(key) for key in opened.keys])
        if anomalous.all() or not anomalous.any():
            raise DataError(f"{labels}: an evaluation needs images with and without marks in their masks")
        return _Truth(anomalous, np.ones(len(anomalous), dtype=bool), masks)
    if label_column is None or not normal:
        raise ConfigError("say which labels: --label-column NAME and --normal VALUE (or --labels, for masks)")
    values = opened.labels(label_column)
    known = (values != "") | ("" in normal)
    if not (known.all() or skip_bad):
        row, count = int(np.argmin(known)), int((~known).sum())
        raise DataError(
            f"{opened.origin}: no label in {label_column!r} at row {row} ({count:,} such in all); fill them, or leave "
            "such rows out with --skip-bad"
        )
    anomalous = np.zeros(len(values), dtype=bool)
    anomalous[known] = anomaly_labels(values[known], normal, opened.origin)
    return _Truth(anomalous, known, read_masks(folder, opened.keys, anomalous) if folder else None)


def _judged(
    verdicts: Verdicts, origin: str, truth: _Truth, voice: Voice
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (S,), True = anomaly, scores and flags of the samples that have them all."""
    import numpy as np

    from memae.types import Skipped

    known = truth.known
    if len(known) != len(verdicts):
        raise DataError(f"{origin}: {len(known):,} labels for {len(verdicts):,} samples; give one label a sample")
    kept = known & np.isfinite(verdicts.scores)
    unlabelled = [Skipped(verdicts.keys[row], "has no label") for row in np.flatnonzero(~known).tolist()]
    if left_out := [*verdicts.skipped, *unlabelled]:
        voice.note(skipped_line(int((~kept).sum()), left_out))
    return truth.anomalous[kept], verdicts.scores[kept], verdicts.is_anomaly[kept]


def _evaluate_video(
    detector: Any,
    source: Any,
    labels: Path,
    rule: Any,
    mask: Path | None,
    caveat: str | None,
    json: bool,
    voice: Voice,
) -> None:
    from memae.video.pipeline import evaluate_videos

    result = evaluate_videos(detector, source, labels, rule, mask=mask, watcher=voice.watcher)
    voice.result([], **dataclasses.asdict(result))
    if json:
        import json as json_module

        typer.echo(json_module.dumps(_finite(dataclasses.asdict(result))))
    else:
        _print_video(result, rule)
    if caveat:
        voice.note(f"note: {caveat}")


def _finite(value: Any) -> Any:
    """JSON has no NaN: an interval that a single video cannot give is null."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _print_video(result: Any, rule: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    title = (
        f"{result.frames:,} frames of {result.videos} video{'s' * (result.videos != 1)}, "
        f"{result.anomalous_frames:,} of them anomalous, in {result.stretches} "
        f"stretch{'es' * (result.stretches != 1)}; {result.events} event{'s' * (result.events != 1)}"
    )
    caption = (
        f"An event begins at score {rule.enter:.4g} and ends below {rule.stay:.4g}; it is true if it meets an "
        "anomalous stretch. Every figure: docs/video.md"
    )
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for column, justify in (("figure", "left"), ("value", "right"), ("95 % over videos", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    tracks = " (derived from the masks)" * result.derived_tracks
    names = {
        "frame_auroc_micro": "frame AUROC, micro: all frames in one ranking",
        "frame_auroc_micro_min_max": "  scaled to 0..1 per video (sees the future)",
        "frame_auroc_macro": f"frame AUROC, macro ({result.macro_videos} videos), scaled or not",
        "pixel_auroc": "pixel AUROC",
        "rbdc": "RBDC: regions found",
        "tbdc": f"TBDC: tracks found{tracks}",
        "event_precision": "event precision: share of events that are true",
        "event_recall": "event recall: share of stretches that one meets",
        "event_f1": "event F1",
        "false_events_per_hour": "false events per hour",
    }
    for field, name in names.items():
        estimate = getattr(result, field)
        if estimate is None:
            without = (
                "needs masks" if field in ("pixel_auroc", "rbdc", "tbdc") and not result.masked_videos else "-"
            )
            table.add_row(name, "-", without)
            continue
        digits = 1 if field == "false_events_per_hour" else 4
        interval = f"{estimate.low:.{digits}f} to {estimate.high:.{digits}f}"
        interval = "needs 2 videos" if math.isnan(estimate.low) else interval
        table.add_row(name, f"{estimate.value:.{digits}f}", interval)
    Console().print(table)


def _print(result: Any, pixels: Any = None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result.samples:,} samples, {result.anomalies:,} anomalies", title_justify="left")
    for column, justify in (("figure", "left"), ("value", "right"), ("95 % interval", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    names = {
        "auroc": "AUROC",
        "aupr": "AUPR",
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
        "false_alarm_rate": f"false-alarm rate (wanted {result.wanted_false_alarm_rate:.3g})",
    }
    for field, name in names.items():
        estimate = getattr(result, field)
        table.add_row(name, f"{estimate.value:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}")
    for name, estimate in (("pixel AUROC", pixels.pixel_auroc), ("AUPRO", pixels.aupro)) if pixels else ():
        table.add_row(name, f"{estimate.value:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}")
    Console().print(table)
