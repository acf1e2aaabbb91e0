"""The only seam to a kind of data: what each kind offers, and the registry of the kinds there are.

A kind of data (images, tables, video) is one `Modality` object in a package of its own. Everything above asks that
object and never asks what it is. `register` adds a kind; `memae` itself registers its three by the names of their
packages, which are imported when they are first needed.
"""

from __future__ import annotations

import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NoReturn, Protocol, TypeAlias

import numpy as np
from torch import Tensor

from memae.autoencoder import Autoencoder
from memae.config import VARIANTS, Config, KindSettings, add_section, validated
from memae.encoded import Encoded
from memae.errors import ConfigError, DataError
from memae.progress import Done, Progress
from memae.threshold import Threshold
from memae.types import (
    Cell,
    Explained,
    Explanation,
    ItemUse,
    Key,
    MemoryItems,
    Prediction,
    Skipped,
    Source,
    Verdict,
    Verdicts,
)

__all__ = [
    "Artifact",
    "Cell",
    "Description",
    "Explained",
    "Explanation",
    "FitOptions",
    "ItemUse",
    "Judged",
    "MemoryItems",
    "Modality",
    "Prediction",
    "Prepared",
    "Preprocess",
    "Reference",
    "Request",
    "Summary",
    "Verdict",
    "Verdicts",
    "WriteRows",
    "build",
    "modalities",
    "modality_named",
    "modality_of",
    "prepare",
    "preset_config",
    "register",
]


SHOWN_SKIPPED = 5


class Preprocess(Protocol):
    """What was fitted to the training samples: from samples to what the network sees, and back."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one encoded sample."""
        ...

    def model_dump(self) -> dict[str, Any]:
        """Plain values for config.json."""
        ...


class Reference(Protocol):
    """What a kind of data remembers of normal samples beyond the scores behind the threshold."""

    def tensors(self) -> dict[str, Tensor]:
        """Its arrays, by the names that they have in a model file."""
        ...


@dataclass(frozen=True)
class Prepared:
    """Normal samples in three disjoint parts, encoded."""

    preprocess: Any
    """The `Preprocess` fitted to the training part."""
    training: Encoded
    """What the loop trains on; for video crops of clips."""
    whole: Encoded
    """The training part as the trained model is examined with it: `training`, or clips of whole frames end to end."""
    validation: Encoded | None
    """Stops the training early; None for a share of 0."""
    calibration: Any
    """Sets the threshold: encoded samples, or what the kind scores in another way."""
    counts: Mapping[str, int]
    """Samples (of video: frames) of each part: "training", "held_out", "calibration"."""
    origin: str
    skipped: tuple[Skipped, ...] = ()
    """Bad samples that the source was asked to leave out."""
    notes: tuple[str, ...] = ()
    """What the owner of the data should know."""


@dataclass(frozen=True)
class FitOptions:
    """What a caller says about the data to train on; a kind refuses what it has no use for."""

    dropped: Sequence[str] = ()
    """Columns to leave out."""
    categorical: Sequence[str] = ()
    """Columns of numbers that name categories."""
    stream: bool | None = None
    """Encode into a temporary file in passes over the source (True), in memory (False), or by size (None)."""


@dataclass(frozen=True)
class Artifact:
    """Everything that a detector is once it is fitted."""

    config: Config
    preprocess: Any
    """The fitted `Preprocess` of its kind of data."""
    model: Autoencoder
    threshold: Threshold | None
    uses: np.ndarray
    """(N,) training queries that read each item; empty without a memory."""
    facts: dict[str, Any]
    """About the training: sizes, epochs, seconds, seed, health, versions."""
    reference: Any = None
    """The `Reference` of its kind of data, where that has one."""

    @property
    def modality(self) -> Modality:
        """The kind of data that it is for."""
        return modality_of(self.config.network)


@dataclass(frozen=True)
class Request:
    """What is asked of a pass over samples."""

    explained: Explained = "none"
    """Which samples come with an `Explanation`; for "anomalies" the artifact needs a threshold."""
    keys: Collection[Key] | None = None
    """Only samples of these keys, where that saves work, and no others are explained; None is all."""
    skip_bad: bool = False
    """The score of what cannot be encoded is NaN; it is an error else."""
    action: str = "scoring"
    """What the pass is called in progress and in messages."""

    def wanted(self, keys: Sequence[Key], scores: np.ndarray, threshold: Threshold | None) -> list[int]:
        """The rows among samples of these keys and scores (S,) that are to be explained."""
        if self.explained == "none":
            return []
        if self.explained == "anomalies":
            assert threshold is not None, "who asks for anomalies has looked for a threshold"
            return np.flatnonzero(threshold.flags(scores)).tolist()
        return [row for row, key in enumerate(keys) if self.keys is None or key in self.keys]


class Summary(NamedTuple):
    """What a run of scoring did."""

    lines: list[str]
    """For a person."""
    facts: dict[str, Any]
    """For a machine."""


class Judged(NamedTuple):
    """What an evaluation found."""

    result: Any
    """With `figures()` for JSON and `table()` for people."""
    left_out: Sequence[Skipped] = ()
    """Samples that do not count, and why."""
    notes: Sequence[str] = ()


WriteRows: TypeAlias = Callable[[Iterator[Verdicts]], tuple[int, int]]
"""Writes verdicts as rows as they come; gives their number, and that of the anomalies."""


class Description(NamedTuple):
    """A fitted model in words, for people."""

    input: str
    """What it takes, such as "tables of 30 columns (30 number)"."""
    facts: Mapping[str, str] = {}
    """Further lines, by what they are about."""
    columns: Sequence[Mapping[str, Any]] = ()
    """What is done with each column of a table: name, kind, missing (share), rule."""


class Modality(ABC):
    """One kind of data. The methods are in the order in which a fit, then a prediction calls them."""

    name: ClassVar[str]
    unit: ClassVar[str]
    """What its samples are called when they are counted, in the plural: images, rows, frames."""
    sample: ClassVar[str] = "sample"
    """What one of them is called in summaries."""
    this: ClassVar[str]
    """What is said of its data, such as "these are images"."""
    files: ClassVar[str]
    """The files that it reads, for messages."""
    Settings: ClassVar[type[KindSettings]]
    """Its section of the config."""
    networks: ClassVar[tuple[str, ...]]
    """The networks that are for it; the one named like the kind is its default."""
    open_options: ClassVar[frozenset[str]] = frozenset()
    """Further arguments of `open`."""
    notes_after_fit: ClassVar[bool] = True
    """The notes of a training are said after it, and were not said before it."""
    initial_samples: ClassVar[int] = 10_000
    """Training samples that a memory is started from."""
    initial_batch: ClassVar[int] = 10_000
    """How many of these go through the encoder at once, at most."""
    has_events: ClassVar[bool] = False
    """Its scores make up events in time."""
    small_step: ClassVar[int] = 0
    """Parameters times samples of the least training step that is worth more than one thread: measured."""

    @property
    def plural(self) -> str:
        """What its data is called, such as "images"."""
        return self.Settings.plural

    # the data

    @abstractmethod
    def accepts(self, x: Any, wanted: bool) -> bool:
        """Whether this path, list of paths, array or frame is of this kind; cheap, and never an error.

        Args:
            x: what the user gave; arrays come as numpy arrays.
            wanted: the preset or the model is of this kind.
        """

    @abstractmethod
    def open(self, x: Any, preprocess: Any | None, *, origin: str, skip_bad: bool, **options: Any) -> Source:
        """The source behind what `accepts` accepted.

        Args:
            x: the same.
            preprocess: of the model that the samples are for, so that they are read as in training; None for training.
            origin: what to call it in messages.
            skip_bad: what cannot be read is named in place of an error.
            **options: some of `open_options`.

        Raises:
            DataError: nothing that can be read.
        """

    @abstractmethod
    def prepare(
        self, source: Any, config: Config, seed: int, options: FitOptions, progress: Progress | None
    ) -> Prepared:
        """All normal samples of a source in three parts, the preprocessing fitted to the training part.

        Raises:
            DataError: samples that cannot be used, or too few.
            ConfigError: a setting or option that does not suit the data.
        """

    # the model

    @abstractmethod
    def preset(self, network: str, variant: str) -> Mapping[str, Any]:
        """The nested settings of one of its networks in a variant: "default", "paper" or "released"."""

    def settle(self, config: Config, shape: tuple[int, ...]) -> Config:
        """The config with what the preset left open to the shape of an encoded sample."""
        return config

    @abstractmethod
    def build(self, config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
        """A fresh model for encoded samples of a shape; random weights come from torch's global generator.

        Args:
            config: with one of its networks.
            shape: of one encoded sample.
            samples: how many there are to train on: a memory that is filled from them has no more items.

        Raises:
            DataError, ConfigError: a shape or a setting that the network cannot have.
        """

    @abstractmethod
    def calibrate(self, artifact: Artifact, prepared: Prepared, progress: Progress | None) -> Artifact:
        """The artifact of a trained model with its use counts, its reference and its threshold."""

    # a fitted model

    @abstractmethod
    def load_preprocess(self, stored: Any) -> Any:
        """The fitted preprocessing behind the plain values of `model_dump`; pydantic's ValidationError if damaged."""

    def unreadable_format(self, version: int, config: Config, shape: tuple[int, ...]) -> str | None:
        """Why a model file of an older format cannot be read any more, such as "whose network was wider"."""
        return None

    def load_reference(self, tensors: Mapping[str, Tensor], config: Config) -> Any:
        """The reference behind the tensors of a model file; a KeyError where one is missing."""
        return None

    @abstractmethod
    def predict(
        self, artifact: Artifact, source: Any, request: Request, done: Done, progress: Progress | None
    ) -> Iterator[Prediction]:
        """Scores and explanations of samples, part by part.

        Raises:
            DataError: samples that do not fit the model, or none at all.
            OutOfMemoryError: there is no room for a single one.
        """

    @abstractmethod
    def decode_items(self, artifact: Artifact) -> tuple[np.ndarray | None, list[dict[str, float | str]] | None]:
        """Each item of the memory decoded alone: pictures (N, C, H, W), or rows in the columns' own units."""

    @abstractmethod
    def describe(self, artifact: Artifact) -> Description:
        """The model in words."""

    # the verbs of a person: options come by name, and only those that were given

    score_options: ClassVar[frozenset[str]] = frozenset({"explain"})
    """The options of a run of scoring: files that it writes beside the rows, and how."""
    evaluate_options: ClassVar[frozenset[str]] = frozenset()
    """The options of `evaluate`."""

    in_place_of: ClassVar[Mapping[str, str]] = {}
    """By options of other kinds: what this one has in their place, for messages."""

    def score_files(
        self, detector: Any, source: Any, options: Mapping[str, Any], write: WriteRows, progress: Progress | None
    ) -> Summary | None:
        """A run of scoring that writes more than rows and explanations; None leaves it to `memae.report.runs`.

        Args:
            detector: a fitted `memae.Detector`.
            source: opened by it.
            options: some of `score_options`.
            write: writes the rows.
            progress: told how far the work is.
        """
        return None

    def original(self, source: Any, key: Key) -> np.ndarray | None:
        """(H, W, 3) uint8 of a sample as a person would look at it; None where only the network's view exists."""
        return None

    def evaluate(
        self, detector: Any, source: Any, options: Mapping[str, Any], progress: Progress | None
    ) -> Judged:
        """Holds the verdicts on a source against labels; arguments as of `score_files`.

        Raises:
            ConfigError: labels that are not named.
            DataError: labels that do not fit, or samples that cannot be read.
        """
        self._refuse("an evaluation takes labels")

    def skipped_lines(self, count: int, first: Sequence[Skipped]) -> list[str]:
        """Lines on how many samples were left out of a training, and what was wrong with the first of them."""
        shown = "; ".join(
            f"{'row ' if str(bad.key).isdigit() else ''}{bad.key} {bad.reason}" for bad in first[:SHOWN_SKIPPED]
        )
        more = f"; and {count - SHOWN_SKIPPED:,} more" if count > SHOWN_SKIPPED else ""
        return [f"skipped {count:,} bad sample{'s' * (count != 1)}: {shown}{more}"]

    def summary_of_events(self, detector: Any) -> tuple[str, Mapping[str, Any]] | None:
        """Where it has events: when they begin by default, in a line and as figures; None if nothing says when."""
        return None

    # what only some kinds of data have

    def as_trained(self, source: Any, preprocess: Any) -> Any:
        """A source that somebody else opened, read as the model with this preprocessing needs it."""
        return source

    def watch(self, artifact: Artifact, opened: Callable[[], Any], watched: np.ndarray | None) -> Iterator[Any]:
        """Scored frames of the videos that `opened` gives; see `memae.Detector.watch`."""
        self._refuse("watch takes a model of video; use score, detect or stream with this one")

    def event_threshold(
        self, artifact: Artifact, false_alarms_per_hour: float, rule: Callable[[float], Any] | None
    ) -> Any:
        """The score that begins an event; see `memae.Detector.event_threshold`."""
        self._refuse("events take a model of video; use the threshold of this one")

    def map_threshold(self, artifact: Artifact) -> float:
        """The value of an anomaly map above which a place is anomalous; see `memae.Detector.map_threshold`."""
        self._refuse("anomaly maps are of models of images")

    def map_level(self, artifact: Artifact, score: float) -> float:
        """The maximum of an anomaly map that belongs to a score; see `memae.Detector.map_level`."""
        self._refuse("the places of frames are of models of video")

    def _refuse(self, why: str) -> NoReturn:
        raise DataError(f"{why}, which is for {self.plural}")


_REGISTERED: dict[str, Modality | str] = {
    # video first: a folder that holds videos is no folder of images
    name: f"memae.{name}.modality"
    for name in ("video", "image", "table")
}


def register(name: str, modality: Modality | str) -> None:
    """Adds a kind of data; it is asked before those that are there whether data is its own.

    Args:
        name: of the kind.
        modality: the object, or the name of the module whose attribute MODALITY it is, imported when first needed.
    """
    before = dict(_REGISTERED)
    _REGISTERED.clear()
    _REGISTERED.update({name: modality, **before})
    if isinstance(modality, Modality):
        add_section(modality.Settings, modality.networks)


def modalities() -> tuple[Modality, ...]:
    """All kinds of data, in the order in which they are asked."""
    return tuple(modality_named(name) for name in tuple(_REGISTERED))


def modality_named(name: str) -> Modality:
    """The kind of data of a name; a KeyError for an unknown one."""
    found = _REGISTERED[name]
    if isinstance(found, str):
        loaded: Modality = importlib.import_module(found).MODALITY
        _REGISTERED[name] = found = loaded
        add_section(loaded.Settings, loaded.networks)
    return found


def modality_of(network: str) -> Modality:
    """The kind of data that a network is for.

    Raises:
        ConfigError: no such network.
    """
    found = next((modality for modality in modalities() if network in modality.networks), None)
    if found is None:
        known = ", ".join(network for modality in modalities() for network in modality.networks)
        raise ConfigError(f"network = {network!r} is unknown; known: {known}")
    return found


def preset_config(name: str | None, kind: str) -> Config:
    """The settings of a preset for a kind of data; None is our default for it.

    A preset is a network and a variant: "mnist-paper", "table", and "released" (network by the data) all name one.

    Raises:
        ConfigError: an unknown name, or a network for another kind of data.
    """
    modality = modality_named(kind)
    networks = [network for other in modalities() for network in other.networks]
    words = [] if name is None else str(name).split("-")
    network = words.pop(0) if words and words[0] in networks else kind
    variant = words.pop(0) if words and words[0] in VARIANTS else "default"
    if words:
        raise ConfigError(_unknown_preset(str(name), networks))
    if network not in modality.networks:
        raise ConfigError(
            f"preset {name!r} is for {modality_of(network).plural}, and the data is a set of {modality.plural}; "
            f"leave the preset out, or use {kind!r}"
        )
    return validated(modality.preset(network, variant), f"preset {name!r}")


def _unknown_preset(name: str, networks: Sequence[str]) -> str:
    plain = [network for network in networks if "-" not in network]
    published = [variant for variant in VARIANTS if variant != "default"]
    known = [*plain, *(f"{network}-{variant}" for network in plain for variant in published), *published]
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"preset {name!r} is unknown; "
        + (f"did you mean {close[0]!r}? " if close else "")
        + f"networks: {', '.join(plain)}; each also with -paper or -released behind it."
    )


def build(config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
    """A fresh model for encoded samples of a shape; see `Modality.build`."""
    return modality_of(config.network).build(config, shape, samples)


def prepare(
    source: Any, config: Config, seed: int, options: FitOptions | None = None, progress: Progress | None = None
) -> Prepared:
    """Normal samples in three parts, encoded; see `Modality.prepare`."""
    return modality_of(config.network).prepare(source, config, seed, options or FitOptions(), progress)
