"""Scores files on the machines of a Ray cluster. Needs the extra `ray`.

The source is divided into parts. Each actor loads the model once, reads parts with the readers of memae, and writes the
rows of a part to a file whose name is the number of the part. If an actor dies, Ray gives its part to another one,
which writes the same file again: so each sample has one row, whatever dies. Model, source and output must lie at the
same paths on all machines.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from memae.detector import Detector
from memae.engine import Engine
from memae.errors import DataError, MemaeError, MissingExtraError, WriteError, first_line
from memae.files.atomic import atomic_directory, check_writable
from memae.hub import is_address
from memae.modality import Summary
from memae.modality.interface import SHOWN_SKIPPED
from memae.progress import Done, Progress, Warn, stage, tell
from memae.report.rows import write_verdicts
from memae.types import Divisible, Skipped, Source, Verdicts, count

try:
    import ray
    import ray.data
except ImportError:
    raise MissingExtraError("`engine='ray'`", "ray") from None

__all__ = ["score_on_ray"]

SHOWN_WARNINGS = 5
# Ray books half a core for each actor, so that the actors of a machine that is lost find room on others.
CORES_BOOKED = 0.5
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # the terminal is for memae; the logs of Ray have the rest
}


def score_on_ray(
    model: str | Path,
    x: Any,
    out: str | Path,
    *,
    drop: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    false_alarm_rate: float | None = None,
    skip_bad: bool = False,
    engine: Engine = "auto",
    progress: Progress | None = None,
) -> Summary:
    """Scores files of rows or images by an actor for each core, and writes the rows as Parquet files.

    It takes the cluster that this process is connected to, else the one that `RAY_ADDRESS` names or that `ray start`
    has started here, else it starts one of this machine's cores, for as long as it works.

    Args:
        model: a model directory, or an address of the hub.
        x: paths of files, folders or patterns, as for `Detector.score`.
        out: a new folder. Its files, sorted by name, have the rows in the order of the source: key (or file and row),
            score, p_value, is_anomaly, and for larger images regions.
        drop: columns to leave out.
        columns: names of those of CSV files without a header.
        false_alarm_rate: decide at this rate; None is that of the model.
        skip_bad: give a sample that cannot be read the score null and count it; False: raise an error.
        engine: that scores in each actor, as for `Detector`.
        progress: a callback for progress events.

    Returns:
        What a person and what a machine is told of the run.

    Raises:
        ConfigError: a rate that the held-out samples cannot promise, or an engine that is not known.
        DataError: what is not in files or is video, samples that do not fit, or one that cannot be read.
        WriteError: `out` is there already, or cannot be written.
        MemaeError: the cluster fails.
    """
    out = Path(out)
    if os.path.lexists(out):
        raise WriteError(f"{out}: is there already; remove it, or name another folder")
    check_writable(out)
    scorer = _Scorer(_everywhere(model), engine, false_alarm_rate, skip_bad)
    detector = scorer.detector
    source = detector.open(x, skip_bad=skip_bad, columns=columns)
    source = source.without(drop) if drop else source
    if not isinstance(source, Divisible):
        raise DataError(
            f"{source.origin}: only files of rows and images are scored by several machines; leave out `engine='ray'`"
        )
    parts = source.parts() or [source]  # without a row, which is an error there
    with (
        atomic_directory(out) as folder,
        _cluster(),
        stage(progress, "scoring", detector.modality.unit, count(source)) as done,
    ):
        scored = _all_scored(scorer.into(folder), parts, done)
    return _summary(detector, source, scored, out, progress)


@dataclass(frozen=True)
class _Part:
    """What an actor tells of a part, whose rows are in a file."""

    number: int
    rows: int = 0
    anomalies: int = 0
    skipped: int = 0
    first_skipped: Sequence[Skipped] = ()
    warnings: Sequence[str] = ()
    error: MemaeError | None = None
    """What is wrong with the part. It would be the same in every actor, so it is an answer and no failure."""


@dataclass
class _Scorer:
    """A model that is loaded when it is first needed, and then scores one part after the other."""

    model: str
    engine: Engine
    false_alarm_rate: float | None
    skip_bad: bool
    folder: Path | None = None

    def into(self, folder: Path) -> Mapping[str, Any]:
        """The arguments of a scorer in another process that writes there."""
        arguments = self.model, self.engine, self.false_alarm_rate, self.skip_bad, folder.absolute()
        return dict(zip(self.__dataclass_fields__, arguments, strict=True))

    @cached_property
    def detector(self) -> Detector:
        """On the CPU."""
        detector = Detector.load(self.model, device="cpu", engine=self.engine)
        if self.false_alarm_rate is not None:
            detector.move_threshold(false_alarm_rate=self.false_alarm_rate)
        return detector

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[_Part]]:
        """Writes the rows of parts, as Ray Data hands them over and wants the answers back."""
        return {"part": [self._scored(*one) for one in zip(batch["number"], batch["source"], strict=True)]}

    def _scored(self, number: int, source: Source) -> _Part:
        assert self.folder is not None, "into() has named it"
        skipped = list[Skipped]()

        def passed_on(parts: Iterable[Verdicts]) -> Iterator[Verdicts]:
            for part in parts:
                skipped.extend(part.skipped)
                yield part

        out = self.folder / f"part-{number:06}.parquet"
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", UserWarning)
                with closing(self.detector.stream(source, skip_bad=self.skip_bad)) as parts:
                    rows, anomalies = write_verdicts(passed_on(parts), out)
        except MemaeError as error:
            return _Part(int(number), error=error)
        if not rows:
            out.unlink()
        told = [str(one.message) for one in said if issubclass(one.category, UserWarning)]
        return _Part(int(number), rows, anomalies, len(skipped), skipped[:SHOWN_SKIPPED], told)


def _all_scored(scorer: Mapping[str, Any], parts: Sequence[Source], done: Done) -> list[_Part]:
    """What the actors tell of all parts, in order.

    Raises:
        MemaeError: the first that is wrong with a part, or what Ray says if it fails.
    """
    actors = min(len(parts), max(1, int(ray.cluster_resources().get("CPU", 1))))  # type: ignore[no-untyped-call]
    told: dict[int, _Part] = {}
    with _quiet_data():
        sources = [{"number": number, "source": part} for number, part in enumerate(parts)]
        answers = ray.data.from_items(sources, override_num_blocks=len(parts)).map_batches(
            _Scorer,
            fn_constructor_kwargs=dict(scorer),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            num_cpus=CORES_BOOKED,
        )
        try:
            for answer in answers.iter_rows():
                part: _Part = answer["part"]
                if part.error:
                    raise part.error
                told[part.number] = part
                done(part.rows)
        except ray.exceptions.RayError as error:
            raise MemaeError(
                f"Ray: {first_line(error)}; each machine needs the same Python, Ray and memae, and the same files"
            ) from error
    if told.keys() != set(range(len(parts))):
        raise MemaeError(f"Ray: has answered {len(told):,} of {len(parts):,} parts; score again")
    return [told[number] for number in range(len(parts))]


def _summary(
    detector: Detector, source: Source, parts: Sequence[_Part], out: Path, progress: Progress | None
) -> Summary:
    total, anomalies = sum(part.rows for part in parts), sum(part.anomalies for part in parts)
    skipped, value = sum(part.skipped for part in parts), detector.threshold.value
    first = [bad for part in parts for bad in part.first_skipped][:SHOWN_SKIPPED]
    if total == skipped:
        why = f"the first: {first[0].reason}" if first else "they hold no samples"
        raise DataError(f"{source.origin}: holds no sample that is not bad; {why}")
    said = list(dict.fromkeys(text for part in parts for text in part.warnings))
    more = len(said) - SHOWN_WARNINGS
    for text in (*said[:SHOWN_WARNINGS], *([f"{more:,} more warnings of parts"] if more > 0 else ())):
        tell(progress, Warn(text))
    lines = [f"note: {note}" for note in getattr(source, "notes", ())]
    lines += detector.modality.skipped_lines(skipped, first) if skipped else []
    share = anomalies / (total - skipped)
    lines.append(f"{total:,} samples, {anomalies:,} anomalies ({share:.2%}) above score {value:.6g}; {out}")
    facts = {"samples": total, "anomalies": anomalies, "skipped": skipped, "threshold": value, "out": str(out)}
    return Summary(lines, {**facts, "parts": len(parts)})


def _everywhere(model: str | Path) -> str:
    """A model as other machines find it."""
    return str(model) if is_address(model) else str(Path(model).absolute())


@contextmanager
def _cluster() -> Iterator[None]:
    """A connection to a cluster, for as long as the block, unless this process has one already."""
    if ray.is_initialized():
        yield
        return
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if before[name] is None})
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


@contextmanager
def _quiet_data() -> Iterator[None]:
    """Ray Data without progress bars and logs of its own."""
    context, log = ray.data.DataContext.get_current().copy(), logging.getLogger("ray.data")
    context.enable_progress_bars = context.print_on_execution_start = False
    level, disabled = log.level, log.disabled
    try:
        with ray.data.DataContext.current(context):
            log.disabled = True
            log.setLevel(logging.CRITICAL)
            yield
    finally:
        log.disabled = disabled
        log.setLevel(level)
