"""memae score: a score, a p-value and a verdict for each sample."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from memae.cli import options
from memae.cli.console import Console
from memae.cli.options import option, video_option
from memae.errors import ConfigError

if TYPE_CHECKING:
    from memae.modality import Summary

__all__ = ["score"]


def score(
    model: options.Model,
    sources: options.Sources,
    out: Annotated[
        Path | None,
        option(
            "--out/-o FILE",
            "Write the rows here: .csv, .parquet or .jsonl. Default: CSV on stdout. With --engine ray a new folder of "
            "Parquet files.",
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        option(
            "--explain FILE.jsonl",
            "Also write one line for each anomaly that explains it: the memory items it was rebuilt from, and for a "
            "table the seen and the expected value of each column, largest error first, for an image its regions.",
        ),
    ] = None,
    maps: Annotated[
        Path | None,
        option(
            "--maps FOLDER",
            "Also write the anomaly map of each image as a 16-bit PNG in score units; see docs/images.md.",
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        option("--masks FOLDER", "Also write a mask of each image: white where its map exceeds the threshold."),
    ] = None,
    maps_of: Annotated[
        str, option("--maps-of all|anomalies", "Which images --overlay, --maps and --masks write.")
    ] = "all",
    format: Annotated[
        str,
        option(
            "--format rows|labelstudio",
            "labelstudio writes --out FILE.json as tasks for Label Studio, with a box for each region.",
        ),
    ] = "rows",
    url_prefix: Annotated[
        str,
        option(
            "--url-prefix URL",
            "What Label Studio reaches the images at, put before their paths, such as /data/local-files/?d=photos/",
        ),
    ] = "",
    events: Annotated[
        Path | None,
        video_option(
            "--events FILE.jsonl",
            "Write one line for each event. A still and a clip of each go to the folder of that name without .jsonl.",
        ),
    ] = None,
    overlay: Annotated[
        Path | None,
        option(
            "--overlay FOLDER|FILE.mp4",
            "Write each image, or the video, with its anomaly map drawn over it, and boxes around anomalies.",
        ),
    ] = None,
    per_hour: options.PerHour = None,
    on_threshold: options.OnThreshold = None,
    off_threshold: options.OffThreshold = None,
    least_s: options.Least = 0.0,
    merge_gap_s: options.Gap = 1.0,
    cool_down_s: options.CoolDown = 0.0,
    before_s: Annotated[
        float,
        video_option("--before SECONDS", "Length of video in a clip before its event."),
    ] = 3.0,
    after_s: Annotated[
        float,
        video_option("--after SECONDS", "Length of video in a clip after its event."),
    ] = 3.0,
    adapt: Annotated[
        Path | None,
        option(
            "--adapt MODEL",
            "Let the memory of a model of the preset memstream learn from SOURCE: each sample is scored first, and "
            "learnt after that unless it is an anomaly. Write the model that has learnt here; it may be the same one.",
        ),
    ] = None,
    mask: options.Mask = None,
    frame_rate: options.FrameRate = None,
    columns: options.Columns = None,
    drop: options.Drop = None,
    false_alarm_rate: options.Rate = None,
    skip_bad: options.SkipBad = False,
    device: options.Device = "auto",
    engine: Annotated[
        str,
        option(
            "--engine auto|torch|openvino|ray",
            "auto, torch and openvino: as for fit. ray scores rows and images on all machines of a Ray cluster; see "
            "docs/clusters.md.",
        ),
    ] = "auto",
    quiet: options.Quiet = False,
    log_json: options.LogJson = False,
) -> None:
    """Score every sample of SOURCE: one row for each, in order, with its path or row number.

    Columns: key, score (higher = more anomalous), p_value (the share of normal samples that score at least as high),
    is_anomaly. A sample that --skip-bad left out has its key only. Images above 64 px have a column more: regions, the
    boxes of an anomaly with area and score. A model of several kinds of normal has one, too: category, as the column or
    folder of the training says it, or else as the model takes the sample.

        memae score flows.model today.csv --out scores.csv

        memae score parts.model today/ --out scores.csv --overlay seen/ --maps maps/ --masks masks/

    For video, each row is a frame: video, frame, time_s, score, p_value, is_anomaly.

        memae score camera.model clip.mp4 --out frames.csv --events events.jsonl --overlay overlay.mp4
    """
    if format not in ("rows", "labelstudio"):
        raise ConfigError(f"--format {format}: take rows or labelstudio")
    as_tasks = format == "labelstudio"
    if as_tasks and not out:
        raise ConfigError("--format labelstudio: name a file with --out FILE.json")
    if url_prefix and not as_tasks:
        raise ConfigError("--url-prefix: is for --format labelstudio; add that, or leave it out")
    on_ray = engine == "ray"
    if out and not on_ray:
        options.check_output(out, (".json",) if as_tasks else (".csv", ".parquet", ".jsonl"))
    if explain:
        options.check_output(explain, (".jsonl",), "--explain")
    if events:
        options.check_output(events, (".jsonl",), "--events")
    if maps_of not in ("all", "anomalies"):
        raise ConfigError(f"--maps-of {maps_of}: take all or anomalies")
    from memae.artifact import check_place
    from memae.detector import Detector
    from memae.report.labelstudio import LabelStudio
    from memae.report.runs import check_options, score_to_files

    rows_on_screen = not (out or events or overlay) and sys.stdout.isatty()
    console = Console(quiet=quiet, log_json=log_json, rows_on_screen=rows_on_screen)
    if on_ray:
        files = {"--explain": explain, "--maps": maps, "--masks": masks, "--events": events, "--overlay": overlay}
        other = {**files, "--adapt": adapt, "--format": as_tasks, "--mask": mask, "--frame-rate": frame_rate}
        found = _score_on_ray(model, sources, out, other, drop, columns, false_alarm_rate, skip_bad, console)
        console.result(found.lines, **found.facts, engine="ray", engine_reason="asked for")
        return
    if adapt:
        check_place(adapt)
    detector = Detector.load(model, device=options.check_device(device), engine=cast("Any", engine))
    if false_alarm_rate is not None:
        detector.move_threshold(false_alarm_rate=false_alarm_rate)
    given = {
        "explain": explain,
        "maps": maps,
        "masks": masks,
        "format": LabelStudio(model.name, url_prefix) if as_tasks else None,
        "events": events,
        "overlay": overlay,
        "false_alarms_per_hour": per_hour,
        "on_threshold": on_threshold,
        "off_threshold": off_threshold,
        "mask": mask,
    }
    given = {name: value for name, value in given.items() if value is not None}
    check_options(detector, model, given, "score")
    if "maps" in detector.modality.score_options:
        _check_folders({"--overlay": overlay, "--maps": maps, "--masks": masks}, sources)
    opened = detector.open(
        options.x_from(sources),
        skip_bad=skip_bad,
        frame_rate=options.check_rate(frame_rate),
        columns=options.names_of(columns),
    )
    always = {
        "maps_of": maps_of,
        "least_s": least_s,
        "merge_gap_s": merge_gap_s,
        "cool_down_s": cool_down_s,
        "before_s": before_s,
        "after_s": after_s,
    }
    found = score_to_files(
        detector,
        opened.without(drop) if drop else opened,
        out,
        given | always,
        adapt=adapt is not None,
        skip_bad=skip_bad,
        progress=console.progress,
    )
    if adapt:
        detector.save(adapt)
    engine, why = detector.engine_choice
    console.result(found.lines, **found.facts, engine=engine, engine_reason=why)


def _score_on_ray(
    model: Path,
    sources: list[str],
    out: Path | None,
    other: dict[str, Any],
    drop: list[str] | None,
    columns: str | None,
    false_alarm_rate: float | None,
    skip_bad: bool,
    console: Console,
) -> Summary:
    """A run on a Ray cluster, which writes rows and no `other` files."""
    if given := [name for name, value in other.items() if value]:
        raise ConfigError(
            f"{given[0]}: --engine ray writes rows alone; leave it out, or score with another engine"
        )
    if out is None:
        raise ConfigError("--engine ray: name a new folder with --out FOLDER")
    if "-" in sources:
        raise ConfigError("-: standard input cannot be read by several machines; name files")
    from memae.ray import score_on_ray

    return score_on_ray(
        model,
        options.x_from(sources),
        out,
        drop=drop or (),
        columns=options.names_of(columns),
        false_alarm_rate=false_alarm_rate,
        skip_bad=skip_bad,
        progress=console.progress,
    )


def _check_folders(folders: dict[str, Path | None], sources: list[str]) -> None:
    """Fails before the work if files of images cannot be written, or would replace those of another option."""
    from memae.image.render import check_maps_folder

    seen: dict[Path, str] = {}
    for name, folder in folders.items():
        if folder is None:
            continue
        with options.named(name):
            check_maps_folder(folder, sources)
            if (other := seen.setdefault(folder.resolve(), name)) != name:
                raise ConfigError(f"{folder}: is the folder of {other}, too; name one for each")
