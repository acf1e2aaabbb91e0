"""memae fit: learn what is normal."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from memae.cli import options
from memae.cli.allocator import keep_large_blocks
from memae.cli.console import Console
from memae.cli.options import option
from memae.errors import ConfigError

__all__ = ["fit"]

SHOWN_LEFT_OUT = 5  # samples left out of a training that the summary names


def fit(
    sources: options.Sources,
    out: Annotated[Path, option("--out/-o MODEL", "The model directory to write.")],
    preset: Annotated[
        str | None,
        option(
            "--preset NAME",
            "mnist, cifar10, image, small, kddcup, table or video. Add -paper or -released for published settings, as "
            "in mnist-paper; or a memory, as in mnad-paper or small-memstream, see docs/memories.md. Default: by the "
            "data. video reads folders of images as videos.",
        ),
    ] = None,
    columns: options.Columns = None,
    drop: options.Drop = None,
    categorical: Annotated[
        list[str] | None,
        option(
            "--categorical COLUMN",
            "The numbers of this column are names of categories, such as codes or ports. May be given again.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        option(
            "--group COLUMN|folder|REGEX|FILE.csv",
            "What belongs together and is never divided: the photographs of one part, the rows of one host. A column "
            "of a table; of images their folder, a regular expression with one group, or a CSV file with the columns "
            "file,group. The false-alarm rate then holds for new groups.",
        ),
    ] = None,
    category: Annotated[
        str | None,
        option(
            "--category COLUMN|folders",
            "Which of several kinds of normal a sample is of, each of which gets a threshold of its own: a column of a "
            "table, or folders, the first folder of each image below SOURCE. The column is no feature.",
        ),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        option(
            "--false-alarm-rate RATE",
            "Share of normal samples that may be flagged. Default: 0.01, or the lowest rate that the data allows.",
        ),
    ] = None,
    contamination: Annotated[
        float | None,
        option(
            "--contamination SHARE",
            "Share of anomalies that you believe are among the samples, such as 0.02. That share of the samples, those "
            "that stand out most, neither trains the model nor sets its threshold. Default: 0.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        option("--size PX", "Resize images to this longest side. Default: the most common size, at most 256."),
    ] = None,
    tile: Annotated[
        int | None,
        option(
            "--tile PX",
            "Cut images at their own resolution into overlapping tiles of this side, and score tile by tile. "
            "Default: no tiles; images are resized.",
        ),
    ] = None,
    no_samples: Annotated[
        bool,
        typer.Option(
            "--no-samples",
            help="Keep no training sample in the model, for privacy: inspect and reports then show items without them.",
        ),
    ] = False,
    config: Annotated[
        Path | None,
        option("--config FILE", "Read settings from a TOML file; see docs/config.md."),
    ] = None,
    words: Annotated[
        list[str] | None,
        option(
            "--set SECTION.KEY=VALUE",
            "Change one setting, such as train.epochs=30. May be given again, and overrides --config.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of all randomness: the same seed gives the same model.")
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted training of this MODEL.")
    ] = False,
    log: Annotated[
        Path | None,
        option(
            "--log DIR",
            "Write DIR/train.jsonl, one line for each epoch, and TensorBoard events if TensorBoard is installed.",
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        option(
            "--label-column NAME", "Of a labelled table: train on its normal rows alone, and not on this column."
        ),
    ] = None,
    normal: Annotated[
        list[str] | None,
        option("--normal VALUE", "The label of normal rows, with --label-column. May be given again."),
    ] = None,
    skip_bad: options.SkipBad = False,
    frame_rate: options.FrameRate = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    log_json: options.LogJson = False,
) -> None:
    """Train a model on the normal samples of SOURCE and write it.

    SOURCE should hold normal samples only. memae holds out a part of them: some for early stopping, some to set the
    threshold. Ctrl-C saves the best model so far; the same command with --resume continues the training.

        memae fit parts/ok --out parts.model

        memae fit normal_videos/ --out camera.model

        memae fit flows.csv --drop timestamp --out flows.model --false-alarm-rate 0.001

        memae fit presses.csv --category machine --out presses.model

        memae fit labelled.csv --label-column label --normal benign --out flows.model
    """
    from memae.artifact import check_place
    from memae.detector import Detector
    from memae.files.atomic import check_writable

    keep_large_blocks()
    main_process = os.environ.get("RANK", "0") == "0"
    console = Console(quiet=quiet or not main_process, log_json=log_json and main_process)
    image = {"size_px": size, "tile_px": tile}
    memory = {"keep_samples": False} if no_samples else {}
    settings = options.settings_from(config, words, false_alarm_rate, contamination, memory=memory, image=image)
    if config:
        Detector(preset, settings=config)  # alone first, so that an error in it names the file
    detector = Detector(preset, seed=seed, settings=settings, device=options.check_device(device))
    check_place(out)  # before the training, not after it
    check_writable(out)
    if log:
        check_writable(log / "train.jsonl")
    place = out.absolute()  # "." has no name of its own, and is another folder once the model has taken its place
    checkpoint = place.with_name(f"{place.name}.checkpoint")
    with _checkpointed(checkpoint, console if main_process else None):
        detector.fit(
            _training(sources, label_column, normal or [], options.names_of(columns), skip_bad=skip_bad),
            drop=[*(drop or ()), *([label_column] if label_column else [])],
            categorical=categorical or (),
            group=group,
            category=category,
            skip_bad=skip_bad,
            frame_rate=options.check_rate(frame_rate),
            checkpoint=checkpoint,
            resume=resume,
            progress=_followers(log, console) if main_process else None,
        )
        if main_process:  # all processes of a launch end with the same model
            _save(detector, out, checkpoint)
    if not main_process:
        return
    console.result(_summary(detector, out), model=str(place), **detector.facts, **_decision(detector))
    if detector.history and detector.history.interrupted:
        kept = f"epoch {detector.history.kept_epoch}"
        if fold := detector.facts.get("interrupted_in"):
            kept, where = f"fold 1, {kept}, which did not see all samples,", fold
        else:
            where = f"epoch {len(detector.history.records) + 1}"
        console.note(
            f"interrupted in {where}; the model of {kept} is saved. Continue with the same command and --resume"
        )
        raise typer.Exit(130)


def _training(
    sources: list[str], label_column: str | None, normal: list[str], columns: list[str] | None, *, skip_bad: bool
) -> Any:
    """What to train on: the sources, or the normal rows of a labelled one."""
    x = options.x_from(sources)
    if normal and label_column is None:
        raise ConfigError(f"--normal {normal[0]}: name the column of the labels, too: --label-column NAME")
    if label_column is None and columns is None:
        return x
    from memae.metrics.labels import normal_samples
    from memae.modality import open_source

    source = open_source(x, skip_bad=skip_bad, columns=columns)
    return source if label_column is None else normal_samples(source, label_column, normal)


@contextmanager
def _checkpointed(checkpoint: Path, console: Console | None) -> Iterator[None]:
    """Says how to go on with a training that the block broke off; removes the folder once the model is saved."""
    from memae.errors import OutOfMemoryError

    try:
        yield
    except (KeyboardInterrupt, OutOfMemoryError, MemoryError, RuntimeError):
        if console and _holds_training(checkpoint):
            console.note(f"{checkpoint} holds the training so far; the same command with --resume continues it")
        raise
    finally:
        with suppress(OSError):
            checkpoint.rmdir()  # if it is empty


def _save(detector: Any, out: Path, checkpoint: Path) -> None:
    """Writes the model; to another place if it cannot be written there, as the training is worth more than its name."""
    from memae.errors import MemaeError

    try:
        detector.save(out)
        return
    except MemaeError as error:
        failed = error
    if kept := _kept(detector, out):
        onwards = f"The trained model is safe in {kept}; " + (
            f"put it in the place of {out}" if out.exists() else f"then:  mv {kept} {out}"
        )
    elif _holds_training(checkpoint):
        onwards = f"{checkpoint} holds the training; the same command with --resume then writes the model"
    else:
        onwards = f"The trained model is lost: it fits neither there nor into {tempfile.gettempdir()}"
    raise type(failed)(f"{failed}. {onwards}")


def _holds_training(checkpoint: Path) -> bool:
    return any(checkpoint.glob("**/state.json"))


def _kept(detector: Any, out: Path) -> Path | None:
    """A new directory with the model, beside `out` or among the temporary files; None if it fits into neither."""
    from memae.errors import MemaeError

    for folder in (out.absolute().parent, Path(tempfile.gettempdir())):
        with suppress(OSError):  # no folder can be made, or it is not empty
            place = Path(tempfile.mkdtemp(prefix=f"{out.name}.kept-", dir=folder))
            try:
                detector.save(place)
                return place
            except MemaeError:
                place.rmdir()
    return None


def _followers(log: Path | None, console: Console) -> Any:
    from memae.errors import MissingExtraError
    from memae.progress import JsonLines, TensorBoard, several

    followers = [console.progress]
    if log:
        followers.append(JsonLines(log / "train.jsonl"))
        try:
            followers.append(TensorBoard(log))
        except MissingExtraError as error:
            console.note(f"no TensorBoard events: {error}")
    return several(*followers)


def _decision(detector: Any) -> dict[str, Any]:
    if not detector.facts["samples"]["calibration"]:
        return {}
    threshold = detector.threshold
    return {"threshold": threshold.facts}


def _summary(detector: Any, out: Path) -> list[str]:
    from memae.fitted import category_lines
    from memae.types import Skipped

    facts, samples = detector.facts, detector.facts["samples"]
    unit = detector.modality.sample
    lines = [
        f"{out}: {detector.config.network}, {facts['parameters']:,} parameters, {facts['seconds']:.1f} s, "
        f"epoch {facts['kept_epoch']} of {facts['last_epoch']['epoch'] if facts['last_epoch'] else 0}",
        f"{unit}s: {samples['training']:,} for training, {samples['held_out']:,} for early stopping, "
        f"{samples['calibration']:,} for the threshold{_of_folds(facts)}",
    ]
    if groups := facts.get("groups"):
        lines.append(
            f"groups: {groups['all']:,}; {groups['training']:,} for training, {groups['held_out']:,} for early "
            f"stopping, {groups['calibration']:,} for the threshold"
        )
    lines += _left_out_lines(detector)
    lines += _memory_lines(detector)
    if samples["calibration"]:
        lines += _threshold_lines(detector.threshold, unit)
        lines += [f"category {line}" for line in category_lines(detector.artifact)[1:]]
    if events := detector.modality.summary_of_events(detector):
        lines.append(f"events: {events[0]}")
    if (skipped := facts["skipped"])["count"]:
        first = [Skipped(*bad) for bad in skipped["first"]]
        lines += detector.modality.skipped_lines(skipped["count"], first)
    if detector.modality.notes_after_fit:  # what there is to know of images was said before the training
        lines += [f"note: {note}" for note in facts["notes"]]
    return lines


def _of_folds(facts: dict[str, Any]) -> str:
    folds = facts.get("folds")
    return f", scored in {folds} folds by models that did not see them" if folds else ""


def _threshold_lines(threshold: Any, unit: str) -> list[str]:
    if threshold.caveat:
        return [f"threshold: score {threshold.value:.6g}", f"note: {threshold.caveat}"]
    new = " of new groups" if threshold.groups is not None else ""
    rate = f"{threshold.false_alarm_rate:.3g} of normal {unit}s{new}"
    return [f"threshold: score {threshold.value:.6g} flags at most {rate}"]


def _left_out_lines(detector: Any) -> list[str]:
    """What neither trained the model nor set its threshold, as it may be an anomaly."""
    found, lines = detector.facts.get("left_out", {}), []
    if training := found.get("training"):
        named = ", ".join(training["first"][:SHOWN_LEFT_OUT])
        lines.append(
            f"left out of the training: {training['count']:,} of {training['samples']:,} samples that may be anomalies"
            + (f", such as {named}; left_out in the facts of the model names more" if named else "")
        )
    if calibration := found.get("calibration"):
        share = detector.config.threshold.contamination
        lines.append(
            f"left out of the threshold: the {calibration['count']:,} highest of {calibration['samples']:,} held-out "
            f"scores; if none of them is an anomaly, up to {share:.3g} more of the normal {detector.modality.sample}s "
            "are flagged"
        )
    return lines


def _memory_lines(detector: Any) -> list[str]:
    from memae.memory.usage import ItemCounts
    from memae.memory_help import FACT, MemoryHelp

    last = detector.facts["last_epoch"]
    if detector.model.memory is None:
        return []
    filled = "" if detector.config.memory.trained else ", filled after training"
    lines = [f"memory: {ItemCounts(**detector.facts['memory']).line}{filled}"]
    if told := detector.facts.get(FACT):
        lines.append(MemoryHelp(**told).line)
    if not (health := last and last["memory"]):
        return lines
    lines[0] += f", {health['items_per_query']:.1f} items a query, {health['fallback_share']:.1%} argmax fallback"
    if health["fallback_share"] > 0.5:
        lines.append(
            "warning: for most queries no item passed the shrinkage, so the read is a nearest-item look-up; "
            "lower memory.shrinkage or memory.temperature"
        )
    return lines
