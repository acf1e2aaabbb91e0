"""What reads hostile input: each takes one of the ways that memae offers, and checks what comes out."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from memae import Detector, Verdicts
from memae.cli import main
from memae.config import read_toml
from memae.modality import open_source, prepare, preset_config
from memae.video.ground_truth import read_truth
from memae.video.masks import read_mask
from tests.attack.kinds import Known, Read

__all__ = [
    "WrongAnswerError",
    "command",
    "read_checkpoint",
    "read_labels",
    "read_model",
    "read_playlist",
    "read_polygons",
    "read_settings",
    "read_with",
]

ROWS = (1, 5, 1000)


class WrongAnswerError(Exception):
    """Something was read and what came of it cannot be: a score that is not finite, or another file's content."""


def read_with(model: str, **options: Any) -> Read:
    """Opens with and without the model, scores, prepares a training, and calls the command line."""

    def read(rng: random.Random, path: Path, known: Known) -> None:
        detector, skip, way = known.detectors[model], rng.random() < 0.5, rng.random()
        if model == "table" and way < 0.05:
            _drained(open_source(_beside_a_good_one(rng, path, known), skip_bad=skip), rng)
        elif model == "table" and way < 0.1:
            with path.open("rb") as stream:
                _drained(detector.open(stream, skip_bad=skip), rng)
        elif way < 0.6:
            _drained(detector.open(path, skip_bad=skip, **options), rng)
        elif way < 0.9:
            source = open_source(path, skip_bad=skip, **options)
            _drained(source, rng)
            if rng.random() < 0.2:
                source.labels(rng.choice(("kind", "y", "folder", "x")))
        elif way < 0.98:
            opened = detector.open(path, skip_bad=skip, **options)
            _check(
                detector.detect(opened, explained=rng.choice(("none", "all", "anomalies")), skip_bad=skip), skip
            )
        elif way < 0.995:
            source = open_source(path, skip_bad=skip, **options)
            prepare(source, preset_config(None, source.modality), 0)
        else:
            out = path.parent / rng.choice(("scores.csv", "scores.parquet", "scores.jsonl"))
            command(
                "score", known.originals / "models" / model, path, "--out", out, *(["--skip-bad"] if skip else [])
            )

    return read


def _beside_a_good_one(rng: random.Random, path: Path, known: Known) -> Path:
    """The folder of a hostile table and a good one of its format."""
    kind = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}.get(path.suffix, "csv")
    good = path.with_name(rng.choice(("a", "z")) + "".join(path.suffixes))
    good.write_bytes(known.some(rng, kind)[1])
    return path.parent


def read_model(rng: random.Random, path: Path, known: Known) -> None:
    """Loads a model, scores good samples with it, and shows its items."""
    if rng.random() < 0.02:
        command("inspect", path, *rng.choice(((), ("--json",))))
        return
    detector = Detector.load(path, device="cpu", engine="torch")
    good = {"table": "parquet/plain-none", "image": "npy/images", "video": "video/h264.mp4"}[
        detector.modality.name
    ]
    way = rng.random()
    if way < 0.4 and detector.modality.name != "video":
        name, content = good.split("/")
        suffix = {"table": ".parquet", "image": ".npy"}[detector.modality.name]
        x = path.parent / f"good{suffix}"
        x.write_bytes(known.files[name][content])
        _check(detector.detect(x), False)
    elif way < 0.5:
        detector.items()
    elif way < 0.6:
        detector.save(path.parent / "again")
        Detector.load(path.parent / "again", device="cpu", engine="torch")


def read_checkpoint(rng: random.Random, path: Path, known: Known) -> None:
    """Continues a training from its checkpoint."""
    settings = {"train": {"epochs": 2}, "memory": {"num_items": 8}}
    detector = Detector(settings=settings, device="cpu", engine="torch")
    detector.fit(known.originals / "checkpointed.csv", checkpoint=path, resume=True)
    _check(detector.detect(known.originals / "checkpointed.csv"), False)


def read_settings(rng: random.Random, path: Path, known: Known) -> None:
    """Reads a TOML file, and makes a detector of it."""
    read_toml(path)
    Detector(settings=path, device="cpu", engine="torch")


def read_polygons(rng: random.Random, path: Path, known: Known) -> None:
    """Reads what a mask leaves out."""
    mask = read_mask(path)
    mask.check_aspect(32, 32)
    mask.watched(16, 16)


def read_labels(rng: random.Random, path: Path, known: Known) -> None:
    """Reads the truth about a video, with its masks."""
    truth = read_truth(path, {"clip": 4})
    for frame in range(4):
        truth.mask_values("clip", frame)


def read_playlist(rng: random.Random, path: Path, known: Known) -> None:
    """Opens a playlist under the name of a video, which must be refused."""
    for chunk in known.detectors["video"].open(path, skip_bad=rng.random() < 0.5).chunks(100):
        raise WrongAnswerError(f"{path} is a playlist, and {len(chunk)} frames were read")


def command(*words: object) -> None:
    """Calls the command line in this process; what it cannot mend is raised.

    Raises:
        WrongAnswerError: an exit code of none of those that are documented.
    """
    before, sys.argv = sys.argv, ["memae", *map(str, words)]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())), contextlib.redirect_stderr(said):
            main()
    except SystemExit as exit:
        if exit.code not in (None, 0, 1, 2):
            raise WrongAnswerError(f"exit code {exit.code}: {said.getvalue()}") from None
    finally:
        sys.argv = before


def _drained(source: Any, rng: random.Random) -> None:
    size = rng.choice(ROWS)
    count = getattr(source, "count", None)
    if count:
        count()
    for chunk in source.chunks(size):
        if not 0 <= len(chunk) <= size:
            raise WrongAnswerError(f"a chunk of {len(chunk)} where at most {size} were asked for")


def _check(verdicts: Verdicts, skip: bool) -> None:
    scores, p_values = verdicts.scores, verdicts.p_values
    read = (
        ~np.isin(np.arange(len(scores)), np.flatnonzero(np.isnan(scores))) if skip else np.ones(len(scores), bool)
    )
    if not np.isfinite(scores[read]).all():
        raise WrongAnswerError(f"scores that are not finite: {scores[read][:5]}")
    if len(read) and not ((p_values[read] > 0) & (p_values[read] <= 1)).all():
        raise WrongAnswerError(f"p-values that are none: {p_values[read][:5]}")
