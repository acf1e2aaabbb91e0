"""A trained model as one directory: model.safetensors and config.json. Nothing in it is ever unpickled.

config.json holds the format version, the settings, the fitted preprocessing, the threshold, facts about the
training, library versions, and SHA-256 digests of both files, so that a cut or edited file is noticed. The
digests guard against accidents, not against an author who recomputes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, NonNegativeInt
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from memae.categories import HeldOutCategories
from memae.config import upgraded, validated
from memae.drift import LEAST_BLOCKS
from memae.errors import ArtifactError, ConfigError, DataError, WriteError, first_line
from memae.files.atomic import atomic_directory, unwritten
from memae.files.parts import recover
from memae.memory.item_samples import ItemSamples
from memae.modality import Artifact, modalities, modality_of
from memae.modality.held_out import HeldOut
from memae.recogniser import Recogniser
from memae.teachings import Teaching
from memae.threshold import Threshold
from memae.threshold_moves import Move, Rule

__all__ = [
    "COPY",
    "FORMAT",
    "Artifact",
    "calibrated_tensors",
    "check_place",
    "load_artifact",
    "save_artifact",
    "with_calibrated",
]

# 1 knew no video, 2 no smoothing of errors, 3 no memory that is filled, 4 no other score than the mean and no tiles,
# 5 no network `scene`, 6 no error relative to the mean training error, 7 had another `scene`, 8 no patches of maps,
# 9 had the settings of all kinds of data in each file, 10 no groups of calibration scores, 11 no threshold that was set
# by hand, 12 no images that keep their shape, 13 no memory but MemAE's, 14 no samples of items but patches of
# images, and no teaching, 15 no categories; all but that `scene` still load
FORMAT = 16
FIRST_WITH_SECTIONS = 10
WEIGHTS, SETTINGS = "model.safetensors", "config.json"
COPY = "copy the model again"
"""The cure of damage."""

PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
# a pickle of protocol 2 and up, a zip (torch.save), the two ways a file could run code when it is loaded
PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


def save_artifact(artifact: Artifact, path: Path) -> None:
    """Writes the directory, whole or not at all; an older model of that name is replaced at the end.

    Raises:
        ArtifactError: `path` is a file, a directory that is no model or holds more, or cannot be written.
    """
    check_place(path)
    artifact = artifact.extended()
    tensors = {f"model.{name}": t.detach().cpu().contiguous() for name, t in artifact.model.state_dict().items()}
    tensors["uses"] = torch.from_numpy(artifact.uses)
    tensors |= calibrated_tensors(artifact)
    tensors |= artifact.recogniser.tensors() if artifact.recogniser else {}
    for kept in (artifact.item_samples, artifact.held_out):
        tensors |= {} if kept is None else kept.tensors()
    for number, replaced in enumerate(artifact.replaced):
        tensors |= {f"replaced.{number}.{name}": tensor for name, tensor in replaced.items()}
    try:
        with atomic_directory(path) as part:
            save_file(tensors, part / WEIGHTS)
            settings: dict[str, Any] = {
                "format": FORMAT,
                "config": artifact.config.model_dump(),
                "preprocess": artifact.preprocess.model_dump(),
                "threshold": artifact.threshold and Rule.of(artifact.threshold).model_dump(exclude_none=True),
                "facts": artifact.facts,
                "categories": artifact.recogniser and artifact.recogniser.settings,
                "sample_keys": list(artifact.item_samples.keys) if artifact.item_samples else [],
                "model_sha256": hashlib.sha256((part / WEIGHTS).read_bytes()).hexdigest(),
            }
            settings["config_sha256"] = _digest(settings)
            text = json.dumps(settings, indent=1, ensure_ascii=False)
            (part / SETTINGS).write_text(text + "\n", encoding="utf-8")
    except WriteError as error:
        raise ArtifactError(str(error)) from None
    except (OSError, SafetensorError) as error:
        raise ArtifactError(unwritten(path, error)) from None


def calibrated_tensors(artifact: Artifact) -> dict[str, Tensor]:
    """What follows from held-out normal samples, by the names that it has in a model file."""
    tensors: dict[str, Tensor] = {}
    if artifact.threshold:
        tensors["calibration"] = torch.from_numpy(artifact.threshold.calibration)
        if artifact.threshold.groups is not None:
            tensors["calibration_groups"] = torch.from_numpy(artifact.threshold.groups)
        if (of := artifact.threshold.categories) is not None:
            tensors["calibration_categories"] = torch.from_numpy(np.stack([of.given, of.taken], axis=1))
    if artifact.item_use is not None:
        tensors["normal_item_use"] = torch.from_numpy(artifact.item_use)
    return tensors if artifact.reference is None else tensors | artifact.reference.tensors()


def with_calibrated(artifact: Artifact, tensors: Mapping[str, Tensor], rule: Rule) -> Artifact:
    """The artifact with what `calibrated_tensors` gave of another calibration of it."""
    return replace(
        artifact,
        threshold=_threshold(rule.model_dump(), tensors, artifact.recogniser),
        reference=artifact.modality.load_reference(tensors, artifact.config, artifact.preprocess.shape),
        item_use=_item_use(tensors, len(artifact.uses)),
    )


def check_place(path: Path) -> None:
    """Makes sure that a model may be written to `path`: nothing there, an empty directory, or a model.

    Raises:
        ArtifactError: something else is there and would be lost, or a file is where its folder should be.
    """
    if path.as_posix().startswith("hf:/"):
        raise ArtifactError(f"{path}: a model is saved in a directory; Detector.push_to_hub puts it on the hub")
    if file := next((folder for folder in path.parents if folder.is_file()), None):
        raise ArtifactError(f"{path}: {file} is a file and no folder; choose another place")
    if path.exists() and not _replaceable(path):
        raise ArtifactError(
            f"{path}: exists and is no memae model, or holds other files too; choose another place so that "
            "nothing is lost"
        )


def load_artifact(path: Path) -> Artifact:
    """Reads a model directory, on the CPU.

    Raises:
        ArtifactError: it is missing, not a model, cut short, edited, of a newer format, or holds a pickle.
    """
    if not path.exists():
        recover(path)
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such model directory; check the path, or train one with memae fit")
    _refuse_pickles(path)
    settings = _read_settings(path / SETTINGS)
    weights = path / WEIGHTS
    if not weights.is_file():
        raise ArtifactError(f"{weights}: missing; copy the whole model directory, or train it again")
    content = weights.read_bytes()
    if hashlib.sha256(content).hexdigest() != settings.get("model_sha256"):
        raise ArtifactError(f"{weights}: is not the file that {SETTINGS} describes (cut short or changed); {COPY}")
    try:
        return _loaded(path, settings, load_tensors(content))
    except (
        SafetensorError,
        ConfigError,
        DataError,
        ValueError,  # pydantic's ValidationError too
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,  # RecursionError too
        MemoryError,
    ) as error:
        reason = first_line(error)
        raise ArtifactError(f"{path}: the files do not fit together ({reason}); {COPY}") from None


def _loaded(path: Path, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Artifact:
    """The model behind the content of both files; raises errors of many kinds where it does not fit together."""
    modalities()  # each registers its section of the config
    read = validated if settings["format"] >= FIRST_WITH_SECTIONS else upgraded
    config = read(settings["config"], str(path / SETTINGS))
    modality = modality_of(config.network)
    preprocess = modality.Preprocess.model_validate(settings["preprocess"])
    if why := modality.unreadable_format(settings["format"], config, preprocess.shape):
        raise ArtifactError(f"{path}: is of format {settings['format']}, {why}; train the model again")
    _Facts.model_validate(settings["facts"])
    _check_finite(tensors)
    prefix = "model."
    state = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    uses = _axis(tensors, "uses", np.int64)
    corrections = _corrections(state, len(uses), preprocess.shape)
    with torch.device("meta"):  # shapes without numbers, so that settings alone take no memory
        _check_shapes(state, modality.build(config, preprocess.shape, len(uses)))
    with torch.random.fork_rng(devices=[]):
        model = modality.build(config, preprocess.shape, len(uses))
    model.load_state_dict(state)
    model.corrections = corrections
    _check_finite(model.state_dict())  # a float64 may be too large for float32
    if len(uses) != (model.memory.num_items if model.memory else 0) or (uses < 0).any():
        raise ValueError("'uses' are no counts of the items")
    kinds = settings.get("categories")  # before format 16 none
    recogniser = None if kinds is None else Recogniser.load(kinds, tensors, model)
    return Artifact(
        config,
        preprocess,
        model.eval(),
        _threshold(settings["threshold"], tensors, recogniser),
        uses,
        settings["facts"],
        modality.load_reference(tensors, config, preprocess.shape),
        _item_use(tensors, len(uses)),
        ItemSamples.load(tensors, _sample_keys(settings), len(uses)),
        HeldOut.load(tensors, preprocess.shape),
        _replaced(tensors, settings["facts"]),
        recogniser,
    )


def _corrections(state: dict[str, Tensor], items: int, shape: tuple[int, ...]) -> Tensor | None:
    """Takes the corrections of taught items out of the state of a model, whose networks have none."""
    found = state.pop("corrections", None)
    if found is not None and (found.shape[1:] != shape or not 0 < len(found) <= items):
        raise ValueError(f"'corrections' are of shape {tuple(found.shape)}")
    return None if found is None else found.float()


def _replaced(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> tuple[dict[str, Tensor], ...]:
    standing = sum(one["undone"] is None for one in facts.get("teachings", ()))
    found: dict[int, dict[str, Tensor]] = {number: {} for number in range(standing)}
    for name, tensor in tensors.items():
        if name.startswith("replaced."):
            _, number, own = name.split(".", 2)
            if int(number) not in found:
                raise ValueError(f"{name!r} belongs to no teaching")
            found[int(number)][own] = tensor
    return tuple(found.values())


class _Counts(BaseModel, extra="allow", strict=True):
    training: NonNegativeInt
    calibration: NonNegativeInt


class _Groups(BaseModel, extra="allow", strict=True):
    all: NonNegativeInt
    training: NonNegativeInt


class _Facts(BaseModel, extra="allow", strict=True):
    """The facts that are asked for by name."""

    origin: str
    samples: _Counts
    seed: NonNegativeInt
    seconds: float
    kept_epoch: int
    parameters: NonNegativeInt
    groups: _Groups | None = None
    threshold_moves: list[Move] = []
    teachings: list[Teaching] = []


def _threshold(decision: Any, tensors: Mapping[str, Tensor], recogniser: Recogniser | None) -> Threshold | None:
    if decision is None:
        return None
    rule, scores = Rule.model_validate(decision), _axis(tensors, "calibration", np.float64)
    groups = _axis(tensors, "calibration_groups", np.int64) if "calibration_groups" in tensors else None
    if not len(scores) or (np.diff(scores) < 0).any() or (groups is not None and len(groups) != len(scores)):
        raise ValueError("'calibration' holds no scores in order")
    if groups is not None and len(np.unique(groups)) < 2:
        raise ValueError("'calibration_groups' holds a single group")
    categories = None if recogniser is None else _categories(tensors, recogniser.names, len(scores))
    return Threshold(rule.false_alarm_rate, scores, groups, rule.confidence, rule.at, categories)


def _categories(tensors: Mapping[str, Tensor], names: tuple[str, ...], scores: int) -> HeldOutCategories:
    found = tensors["calibration_categories"].numpy()
    if found.shape != (scores, 2) or found.dtype != np.int64 or found.min() < 0 or found.max() >= len(names):
        raise ValueError("'calibration_categories' are no places of categories")
    return HeldOutCategories(names, found[:, 0], found[:, 1])


def _item_use(tensors: Mapping[str, Tensor], items: int) -> np.ndarray | None:
    if "normal_item_use" not in tensors:  # before 0.2.0, and where the threshold comes from folds
        return None
    use: np.ndarray = tensors["normal_item_use"].numpy()
    if use.ndim != 2 or len(use) < LEAST_BLOCKS or use.shape[1] != items or use.dtype != np.float32:
        raise ValueError(f"'normal_item_use' is of shape {use.shape} and type {use.dtype}")
    return use


def _sample_keys(settings: Mapping[str, Any]) -> list[str]:
    keys = settings.get("sample_keys", [])  # before format 15 none
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("'sample_keys' is no list of texts")
    return keys


def _axis(tensors: Mapping[str, Tensor], name: str, dtype: type) -> np.ndarray:
    """The numbers (n,) of a tensor."""
    numbers: np.ndarray = tensors[name].numpy()
    if numbers.ndim != 1 or numbers.dtype != dtype:
        raise ValueError(f"{name!r} is of shape {numbers.shape} and type {numbers.dtype}")
    return numbers


def _check_shapes(state: Mapping[str, Tensor], model: torch.nn.Module) -> None:
    wanted = model.state_dict()
    if missing := sorted(wanted.keys() ^ state.keys()):
        raise ValueError(f"{missing[0]!r} is not in both files")
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise ValueError(
                f"{name!r} is of shape {tuple(state[name].shape)}, and the settings ask for {tuple(tensor.shape)}"
            )


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name!r} holds NaN or infinite numbers, and no score would mean anything")


def _replaceable(path: Path) -> bool:
    """An empty directory, or a model and nothing else."""
    if not path.is_dir():
        return False
    names = {file.name for file in path.iterdir()}
    if not names:
        return True
    try:
        settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    known = isinstance(settings, dict) and settings.keys() >= {"format", "config", "preprocess"}
    return known and names <= {WEIGHTS, SETTINGS}


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing, so this is no memae model; check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not readable ({error}); {COPY}") from None
    if not isinstance(settings, dict) or type(version := settings.get("format")) is not int or version < 1:
        raise ArtifactError(f"{path}: has no format number, so this is no memae model; check the path")
    if settings["format"] > FORMAT:
        raise ArtifactError(
            f"{path}: is of format {settings['format']}, and this memae reads up to {FORMAT}; upgrade memae"
        )
    try:
        intact = settings.pop("config_sha256", None) == _digest(settings)
    except (RecursionError, ValueError):  # deeper than anything that was written, or of lone surrogates
        intact = False
    if not intact:
        raise ArtifactError(f"{path}: was changed after it was written; {COPY}")
    return settings


def _refuse_pickles(path: Path) -> None:
    for file in sorted(path.rglob("*")):
        if not file.is_file():
            continue
        with file.open("rb") as opened:
            start = opened.read(9)
        # safetensors begin with the length of their header, which may look like a pickle, and the header's brace
        tensors = file.name == WEIGHTS and start[8:] == b"{"
        if file.suffix.lower() in PICKLE_SUFFIXES or (start.startswith(PICKLE_STARTS) and not tensors):
            raise ArtifactError(
                f"{file}: may hold a pickle, which can run code when it is loaded; memae opens safetensors only. "
                "Remove the file if you trust the rest, or get the model from its source again"
            )


def _digest(settings: dict[str, Any]) -> str:
    canonical = json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
