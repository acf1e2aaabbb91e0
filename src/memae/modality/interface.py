"""What each kind of data offers: `Modality`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn

import numpy as np
from torch import Tensor

from memae.autoencoder import Autoencoder
from memae.categories import HeldOutCategories
from memae.config import Config, KindSettings
from memae.errors import DataError
from memae.modality.graph import Layout, ScoringGraph
from memae.modality.tensors import SampleTensor
from memae.modality.values import (
    Artifact,
    Description,
    FitOptions,
    Judged,
    NormalScores,
    Prepared,
    Request,
    Summary,
    WriteRows,
)
from memae.progress import Done, Progress
from memae.types import Encoded, Key, Prediction, Skipped, Source

__all__ = ["SHOWN_SKIPPED", "Modality"]

SHOWN_SKIPPED = 5  # bad samples that a summary names


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
    Preprocess: ClassVar[Any]
    """The class of its fitted preprocessing, a pydantic model; see `memae.modality.Preprocess`."""
    networks: ClassVar[tuple[str, ...]]
    """The networks that are for it; the one named like the kind is its default."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    """Nested settings of further presets, by name, which are of no network and variant; they hide those of a memory."""
    open_options: ClassVar[frozenset[str]] = frozenset()
    """Further arguments of `open`."""
    notes_after_fit: ClassVar[bool] = True
    """The notes of a training are said after it, and were not said before it."""
    initial_samples: ClassVar[int] = 10_000
    """Training samples that a memory is started from."""
    initial_batch: ClassVar[int] = 10_000
    """How many of these go through the encoder at once, at most."""
    layouts: ClassVar[tuple[Layout, ...]] = ("memae",)
    """That `scoring_graph` knows."""
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

    def default_preset(self, source: Any, config: Config) -> str:
        """The preset for a source where the user named neither a preset nor a network.

        Args:
            source: as `open` gave it.
            config: what the user asked for, laid over the preset of the name of this kind.

        Raises:
            DataError: the source cannot be read.
        """
        return self.name

    def pretrain(self, model: Autoencoder) -> None:  # noqa: B027  most kinds have nothing to give
        """Gives a fresh model the weights that no training here changes, such as those of a frozen encoder.

        Raises:
            MissingExtraError: the package that holds them is not installed.
        """

    def resolve(self, config: Config, shape: tuple[int, ...]) -> Config:
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
    def examine(self, artifact: Artifact, training: Encoded, progress: Progress | None) -> Artifact:
        """The artifact of a trained model with its use counts, and what its reference takes from training samples.

        Args:
            artifact: of a trained model.
            training: `Prepared.whole`.
            progress: told how far the work is.
        """

    def training_scores(self, artifact: Artifact, samples: Any, progress: Progress | None) -> np.ndarray:
        """(S,) scores of samples of `Prepared.training` that the model did not see: what may be an anomaly scores high.

        Args:
            artifact: examined.
            samples: encoded, as the loop trains on them.
            progress: told how far the work is.
        """
        scores: np.ndarray = self.normal_scores(artifact, samples, progress).scores
        return scores

    @abstractmethod
    def normal_scores(self, artifact: Artifact, calibration: Any, progress: Progress | None) -> NormalScores:
        """The scores of held-out normal samples, and what else of them the reference needs.

        Args:
            artifact: examined.
            calibration: `Prepared.calibration`, of which the model saw none.
            progress: told how far the work is.
        """

    @abstractmethod
    def calibrate(
        self,
        artifact: Artifact,
        normal: Sequence[Any],
        groups: np.ndarray | None = None,
        categories: HeldOutCategories | None = None,
    ) -> Artifact:
        """The examined artifact with its threshold and its reference.

        Args:
            artifact: examined.
            normal: the `normal_scores` of the held-out part, or of each fold.
            groups: (n,) the number of the group of each score, end to end; None: each is its own.
            categories: of the samples behind the scores; None: all are of one kind of normal.
        """

    # a fitted model

    def scores_in_order(self, artifact: Artifact) -> np.ndarray | None:
        """(n,) held-out scores where neighbours may depend on each other, in their order; None: they do not."""
        threshold = artifact.threshold
        if threshold is None or threshold.groups is None:
            return None
        return threshold.calibration[np.argsort(threshold.groups, kind="stable")]

    def unreadable_format(self, version: int, config: Config, shape: tuple[int, ...]) -> str | None:
        """Why a model file of an older format cannot be read any more, such as "whose network was wider"."""
        return None

    def load_reference(self, tensors: Mapping[str, Tensor], config: Config, shape: tuple[int, ...]) -> Any:
        """The reference behind the tensors of a model file, for encoded samples of a shape.

        Raises:
            KeyError: one is missing.
            ValueError: one is of another shape than this model needs.
        """
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
        """Each item decoded alone: pictures (N, C, H, W), or rows in the columns' own units.

        The memory has items of its own; see `memae.Autoencoder.items_alone`.
        """

    def readable_rows(self, artifact: Artifact, rows: np.ndarray) -> list[dict[str, float | str]]:
        """Encoded rows (S, features), which `examine` kept, in the columns' own units."""
        self._refuse("rows have columns")

    def encodes_alone(self, artifact: Artifact) -> bool:
        """Whether a score is that of one encoded sample, which `Request.follow` is given; not of clips or tiles."""
        return True

    def made_up(self, artifact: Artifact, calibration: Any, generator: np.random.Generator) -> Any | None:
        """Made-up anomalies, in the form of the held-out samples (`Prepared.calibration`) that they are made from.

        Each is put together from parts of two normal samples. None where this kind of data, or this model, has none.
        """
        return None

    @abstractmethod
    def describe(self, artifact: Artifact) -> Description:
        """The model in words."""

    def scoring_graph(self, artifact: Artifact, layout: Layout) -> ScoringGraph:
        """The whole scoring as one torch module, with golden samples, for `memae.export`.

        Args:
            artifact: on the CPU.
            layout: of inputs and outputs, one of `layouts`.

        Raises:
            DataError: a model that no single graph can score.
        """
        raise DataError(f"a model of {self.plural} cannot be exported; load it with memae")

    def tensors(self, artifact: Artifact) -> tuple[SampleTensor, ...]:
        """What a sample is made of, for programs that send arrays, such as clients of `memae.serve`."""
        self._refuse("single samples as arrays")

    def from_tensors(self, artifact: Artifact, given: Mapping[str, np.ndarray]) -> Any:
        """What `open` takes, from arrays (S, ...) by the names of `tensors`.

        Raises:
            DataError: arrays that the model does not know, or that hold something else.
        """
        self._refuse("single samples as arrays")

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

    def column_shares(
        self, artifact: Artifact, source: Any, *, skip_bad: bool = False, progress: Progress | None = None
    ) -> Mapping[str, float] | None:
        """The share of each column in the error of all samples together; None where samples have no columns.

        Raises:
            DataError: samples that do not fit, or cannot be read.
        """
        return None

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
