"""memae report: one HTML file that shows what a model found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

from memae.cli import options
from memae.cli.console import Console
from memae.cli.options import option
from memae.errors import ConfigError

__all__ = ["report"]


def report(
    model: options.Model,
    sources: options.Sources,
    out: Annotated[Path, option("--out/-o FILE.html", "Write the report here.")],
    most: Annotated[int, option("--most NUMBER", "How many anomalies or events are shown in detail.")] = 100,
    label_column: Annotated[
        str | None, option("--label-column NAME", "Labels to compare with, as for evaluate.")
    ] = None,
    normal: Annotated[
        list[str] | None,
        option("--normal VALUE", "The label of normal samples. May be given again."),
    ] = None,
    labels: Annotated[
        Path | None,
        option("--labels FILE|FOLDER", "Masks, or for video a CSV, to compare with, as for evaluate."),
    ] = None,
    frame_rate: options.FrameRate = None,
    drop: options.Drop = None,
    false_alarm_rate: options.Rate = None,
    skip_bad: options.SkipBad = False,
    device: options.Device = "auto",
    engine: options.Engine = "auto",
    quiet: options.Quiet = False,
    log_json: options.LogJson = False,
) -> None:
    """Show what MODEL finds in SOURCE: one HTML file that opens without a network.

    It has the distribution of the scores, the ranked anomalies with the reason for each, the state of the memory, the
    training, and facts on data and model. With labels it also has ROC, precision over recall, and the figures of
    evaluate.

        memae report parts.model today/ --out report.html

        memae report flows.model labelled.csv --label-column label --normal benign --out report.html
    """
    options.check_output(out, (".html", ".htm"))
    if most < 1:
        raise ConfigError(f"--most {most}: give a number of 1 or more")
    from memae.detector import Detector
    from memae.report.page import scan, write_report
    from memae.report.runs import check_options

    console = Console(quiet=quiet, log_json=log_json)
    detector = Detector.load(model, device=options.check_device(device), engine=cast("Any", engine))
    if false_alarm_rate is not None:
        detector.move_threshold(false_alarm_rate=false_alarm_rate)
    given: dict[str, Any] = {"label_column": label_column, "normal": normal or None, "labels": labels}
    given = {key: value for key, value in given.items() if value is not None}
    check_options(detector, model, given, "evaluate")
    rate = options.check_rate(frame_rate)
    opened = detector.open(options.x_from(sources), skip_bad=skip_bad, frame_rate=rate)
    judged = None
    if given:
        always = {"drop": drop or (), "root": Path(sources[0]), "skip_bad": skip_bad}
        judged = detector.modality.evaluate(detector, opened, given | always, console.progress)
    left_out = [*(drop or ()), *([label_column] if label_column else [])]
    source = opened.without(left_out) if left_out else opened
    findings = scan(detector, source, most=most, judged=judged, skip_bad=skip_bad, progress=console.progress)
    write_report(findings, detector, source, out, skip_bad=skip_bad, progress=console.progress)
    flagged, size = int(findings.flags.sum()), out.stat().st_size
    console.result(
        [f"{len(findings.keys):,} samples, {flagged:,} anomalies; {out}, {size / 1e6:.1f} MB"],
        samples=len(findings.keys),
        anomalies=flagged,
        out=str(out),
        bytes=size,
    )
