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
    undo: Annotated[bool, typer.Option("--undo", help="Take back the last move that is not undone yet.")] = False,
    json: options.Json = False,
) -> None:
    """Show the threshold of MODEL, or move it without a new training.

    The held-out normal scores of the training stay as they are. They say what a rate takes, and what to expect of a
    score that you set by hand. The model logs each move.

        memae threshold flows.model --false-alarm-rate 0.001

    Verdicts, p-values, colours of maps and exit codes follow the threshold; scores do not change. Events of video have
    thresholds of their own: see --on-threshold of score.
    """
    from memae.detector import Detector
    from memae.errors import ConfigError

    if (false_alarm_rate is not None) + (at is not None) + undo > 1:
        raise ConfigError("--false-alarm-rate, --at and --undo are three ways to move; give one")
    detector = Detector.load(model, device="cpu", engine="torch")
    before: float | None = detector.threshold.value
    if undo:
        detector.undo_threshold()
    elif false_alarm_rate is not None or at is not None:
        detector.move_threshold(false_alarm_rate=false_alarm_rate, at=at)
    else:
        before = None
    if before is not None:
        detector.save(model)
    if json:
        print_json(_facts(detector, before))
    else:
        for line in _lines(detector, before):
            typer.echo(line)


def _facts(detector: Any, before: float | None) -> dict[str, Any]:
    from memae.threshold_moves import LOG

    moved = {} if before is None else {"value_before": before}
    return {**detector.threshold.facts, **moved, "moves": detector.facts.get(LOG, [])}


def _lines(detector: Any, before: float | None) -> list[str]:
    """The threshold in words, and what it can promise."""
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
    return lines
