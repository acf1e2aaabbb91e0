"""One run of scoring: the rows, and what is written beside them, by whatever kind of data it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from memae.adapt import adapting, moves
from memae.detector import Detector, Verdicts
from memae.errors import ConfigError
from memae.modality import Summary, modalities
from memae.progress import Progress, Warn, tell
from memae.report.labelstudio import LabelStudio
from memae.report.rows import write_verdicts
from memae.report.writers import SAVED, Writers
from memae.types import Source

__all__ = ["check_options", "score_to_files"]


PLURALS = {"overlay": "overlays", "maps": "maps", "masks": "masks"}
SHOWN_COLUMNS = 5  # whose parts in the anomalies a summary names


def check_options(detector: Detector, model: Path, options: Mapping[str, Any], verb: str) -> None:
    """Fails if a verb, "score" or "evaluate", is given an option that the kind of data of a model does not have.

    Raises:
        ConfigError: it names the option, and what has it.
    """
    name = f"{verb}_options"
    own: frozenset[str] = getattr(detector.modality, name)
    if foreign := sorted(options.keys() - own):
        kinds = [kind.plural for kind in modalities()[::-1] if foreign[0] in getattr(kind, name)]
        cure = detector.modality.in_place_of.get(foreign[0], "leave it out")
        raise ConfigError(
            f"`{foreign[0]}` is for models of {' and '.join(kinds)}, and {model} is for "
            f"{detector.modality.plural}; {cure}"
        )


def score_to_files(
    detector: Detector,
    source: Source,
    out: Path | None,
    options: Mapping[str, Any],
    *,
    adapt: bool = False,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Scores a source once and writes all that is wanted of it; each file appears when it is complete.

    Args:
        detector: fitted.
        source: opened by it.
        out: of the rows; None is CSV on stdout, where nothing else is written that stands for them.
        options: files beside the rows, by the names in `Modality.score_options`; `format`, a `LabelStudio`, makes tasks
            of the rows.
        adapt: the memory learns from the source; see `memae.adapt.adapting`.
        skip_bad: what cannot be read is left out of the figures, and is an error else.
        progress: told how far the work is.

    Raises:
        ConfigError: an output that cannot hold what is wanted.
        DataError: samples that do not fit the model, or cannot be read.
        WriteError: an output that cannot be written; the rows are written all the same where they can be.
    """

    tasks: LabelStudio | None = options.get("format")

    def write(parts: Iterator[Verdicts]) -> tuple[int, int]:
        return tasks.write(parts, out, source, detector.modality) if tasks else write_verdicts(parts, out)

    before = moves(detector.artifact).inserted if adapt else 0
    own = detector.modality.score_files(detector, source, {**options, "out": out}, write, progress)
    if own is not None:
        return own
    explain, folders = options.get("explain"), {name: options[name] for name in SAVED if options.get(name)}
    writers = Writers(detector, source, explain, folders, only_anomalies=options.get("maps_of") == "anomalies")
    if adapt and writers.explained != "none":
        raise ConfigError(
            "`adapt` gives no explanations and maps, as the memory has moved on by then; score without it for these"
        )
    parts = (
        adapting(detector.artifact, source, skip_bad=skip_bad, progress=progress)
        if adapt
        else detector.stream(source, explained=writers.explained, skip_bad=skip_bad, progress=progress)
    )
    # closed, so that its stage ends before an error is said
    with writers, closing(parts):
        total, flagged = write(writers.passed_on(parts))
    if writers.failed:
        raise writers.failed
    if (drift := writers.drift) and drift.note:
        tell(progress, Warn(drift.note))
    lines = [f"note: {note}" for note in getattr(source, "notes", ())]
    if writers.skipped:
        lines += detector.modality.skipped_lines(writers.skipped, writers.first_skipped)
    share, value = flagged / (total - writers.skipped), detector.threshold.value
    lines.append(
        f"{total:,} samples, {flagged:,} anomalies ({share:.2%}) above score {value:.6g}"
        + (f"; {out}" if out else "")
        + "".join(f"; {writers.drawn:,} {PLURALS[name]} in {folder}" for name, folder in folders.items())
    )
    if columns := writers.columns:
        first = ", ".join(f"{name} {part:.0%}" for name, part in list(columns.items())[:SHOWN_COLUMNS])
        more = len(columns) - SHOWN_COLUMNS
        lines.append(f"columns behind the anomalies: {first}" + (f" and {more:,} more" if more > 0 else ""))
    moved = moves(detector.artifact, before) if adapt else None
    lines += [moved.line] if moved else []
    files = {"out": out, "explain": explain, **folders}
    facts: dict[str, Any] = {
        "samples": total,
        "anomalies": flagged,
        "skipped": writers.skipped,
        "threshold": value,
        "drift": drift and drift.facts,
    }
    facts |= {"inserted": moved.inserted, "ages": moved.ages.tolist()} if moved else {}
    facts |= {"columns": columns} if columns else {}
    if counted := writers.categories:
        lines.append(counted.line)
        facts["categories"] = counted.facts
    facts |= {name: str(path) for name, path in files.items() if path}
    return Summary(lines, facts | ({"drawn": writers.drawn} if folders else {}))
