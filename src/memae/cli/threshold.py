"""memae threshold: move the threshold of a finished model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memae.cli import options
from memae.cli.console import print_json
from memae.cli.options import option

__all__ = ["threshold"]


def threshold(
    model: options.Model,
    false_alarm_rate: Annotated[
        float | None,
        option("--false-alarm-rate RATE", "Wanted share of normal samples flagged, such as 0.001."),
    ] = None,
    at: Annotated[float | None, option("--at SCORE", "Flag scores above this one.")] = None,
    normal_source: Annotated[
        str | None,
        option("--from SOURCE", "Set it anew on these normal samples, which the training did not see."),
    ] = None,
    group: Annotated[
        str | None, option("--group COLUMN|folder|REGEX|FILE.csv", "What belongs together in them, as for fit.")
    ] = None,
    labelled: Annotated[
        str | None,
        option("--labelled SOURCE", "Choose it by labelled samples, with --label-column, --normal, and a goal."),
    ] = None,
    label_column: Annotated[str | None, option("--label-column NAME", "The labels, as for evaluate.")] = None,
    normal: Annotated[list[str] | None, option("--normal VALUE", "The label of normal samples.")] = None,
    recall: Annotated[
        float | None, option("--recall SHARE", "Goal: flag this share of the labelled anomalies.")
    ] = None,
    f1: Annotated[bool, typer.Option("--f1", help="Goal: the best F1 on the labelled samples.")] = False,
    skip_bad: options.SkipBad = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back the last move that is not undone yet.")] = False,
    json: options.Json = False,
) -> None:
    """Show the threshold of MODEL, or move it without a new training.

    The held-out normal scores of the training stay as they are. They say what a rate takes, and what to expect of a
    score that you set by hand. The model logs each move.

        memae threshold flows.model --false-alarm-rate 0.001

        memae threshold flows.model --from new_site.csv --group host

        memae threshold flows.model --labelled labelled.csv --label-column label --normal benign --recall 0.95

    What labels chose is measured on samples that did not choose it: the threshold of four fifths decides on the rest.

    Verdicts, p-values, colours of maps and exit codes follow the threshold; scores do not change. Events of video have
    thresholds of their own: see --on-threshold of score.
    """
    from memae.detector import Detector
    from memae.errors import ConfigError

    anew = normal_source is not None
    if (false_alarm_rate is not None and not anew) + (at is not None) + undo + anew + (labelled is not None) > 1:
        raise ConfigError(
            "--false-alarm-rate, --at, --from, --labelled and --undo are five ways to move; give one, and a rate only "
            "with --from"
        )
    if (labelled is not None) != ((recall is not None) + f1 == 1):
        raise ConfigError("--labelled takes one goal: --recall SHARE or --f1")
    chosen = None
    detector = Detector.load(model, device="cpu", engine="torch")
    before: float | None = detector.threshold.value
    if undo:
        detector.undo_threshold()
    elif normal_source is not None:
        detector.recalibrate(
            options.x_from([normal_source]), group=group, false_alarm_rate=false_alarm_rate, skip_bad=skip_bad
        )
    elif labelled is not None:
        chosen = _chosen(detector, labelled, label_column, normal or [], group, recall, skip_bad=skip_bad)
        detector.move_threshold(at=chosen.at)
    elif false_alarm_rate is not None or at is not None:
        detector.move_threshold(false_alarm_rate=false_alarm_rate, at=at)
    else:
        before = None
    if before is not None:
        detector.save(model)
    if json:
        print_json(_facts(detector, before) | ({"measured": chosen.measured.figures()} if chosen else {}))
    else:
        for line in [*_lines(detector, before), *(_measured(chosen.measured) if chosen else ())]:
            typer.echo(line)


def _chosen(
    detector: Any,
    labelled: str,
    label_column: str | None,
    normal: list[str],
    group: str | None,
    recall: float | None,
    *,
    skip_bad: bool,
) -> Any:
    """The threshold that labelled samples choose, and what it does on others of them."""
    import numpy as np

    from memae.metrics import choose_threshold, read_labels
    from memae.modality.groups import groups_of, without_group

    source = detector.open(options.x_from([labelled]), skip_bad=skip_bad)
    labels = read_labels(source, label_column, normal, skip_bad=skip_bad)
    unlabelled = without_group(source.without([label_column]), group, detector.preprocess)
    found = detector.score(unlabelled, skip_bad=skip_bad)
    good = labels.known & np.isfinite(found.values)
    groups = None if group is None else groups_of(source, group, found.keys)[good]
    return choose_threshold(labels.anomalous[good], found.values[good], recall=recall, groups=groups)


def _measured(measured: Any) -> list[str]:
    """What a threshold that labels chose does on labelled samples that did not choose it."""
    names = {"recall": "recall", "false_alarm_rate": "false alarms", "precision": "precision", "f1": "F1"}
    said = []
    for field, name in names.items():
        figure = getattr(measured, field)
        said.append(f"{name} {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})")
    return [
        f"on labelled samples that did not choose it: {', '.join(said)}; 95 % intervals, {measured.samples:,} samples, "
        f"{measured.anomalies:,} anomalies"
    ]


def _facts(detector: Any, before: float | None) -> dict[str, Any]:
    from memae.threshold_moves import LOG

    moved = {} if before is None else {"value_before": before}
    return {**detector.threshold.facts, **moved, "moves": detector.facts.get(LOG, [])}


def _lines(detector: Any, before: float | None) -> list[str]:
    """The threshold in words, and what it can promise."""
    from memae.fitted import category_lines

    found, unit = detector.threshold, detector.modality.sample
    was = "" if before is None else f", was {before:.6g}"
    lines = [f"threshold: score {found.value:.6g}{was}"]
    of = f"{len(found.calibration):,} held-out {unit}s"
    if found.groups is not None:
        of += f" in {found.group_count:,} groups"
    above = int(found.flags(found.calibration).sum())
    if found.at is not None:
        expected = f"expect at most {found.false_alarm_rate:.2g} of normal {unit}s above it, on average"
        lines.append(f"set by hand: {expected}; {above:,} of {of} are")
    else:
        sure = "" if found.confidence is None else f" with a confidence of {found.confidence:g}"
        lines.append(
            f"false-alarm rate: {found.false_alarm_rate:.3g}{sure}, from {of}, of which {above:,} are above it"
        )
    if found.caveat:
        lines.append(f"note: {found.caveat}")
    return lines + [f"category {line}" for line in category_lines(detector.artifact)[1:]]
