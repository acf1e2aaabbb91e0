"""What the library and a kind of data give each other: one type for each step of a fit and of a pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from torch import Tensor

from memae.autoencoder import Autoencoder
from memae.categories import GivenCategories, SampleCategories
from memae.config import Config
from memae.drift import DriftWatch
from memae.memory.base import Streaming
from memae.memory.item_samples import ItemSamples
from memae.modality.held_out import HeldOut
from memae.recogniser import Recogniser
from memae.threshold import Threshold
from memae.types import Encoded, Explained, Key, Skipped, Verdicts

if TYPE_CHECKING:
    from memae.modality.interface import Modality

__all__ = [
    "Artifact",
    "Description",
    "FitOptions",
    "Judged",
    "NormalScores",
    "Prepared",
    "Preprocess",
    "Reference",
    "Request",
    "Summary",
    "WriteRows",
]


class Preprocess(Protocol):
    """What was fitted to the training samples: from samples to what the network sees, and back."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one encoded sample."""
        ...

    def model_dump(self) -> dict[str, Any]:
        """Plain values for config.json."""
        ...


class NormalScores(Protocol):
    """What a model found in held-out normal samples."""

    @property
    def scores(self) -> np.ndarray:
        """(n,) float64, one for each sample."""
        ...

    @property
    def item_shares(self) -> np.ndarray | None:
        """(P, N) the shares that samples which are spread over all give to each item; None without a memory."""
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
    key_of: Callable[[int], Key] | None = None
    """The key of the sample behind a number of `training`."""
    whole_key_of: Callable[[int], Key] | None = None
    """The same of `whole`; None: as `key_of`."""
    calibration_groups: np.ndarray | None = None
    """(n,) int: the number of the group of each calibration sample; None: each sample is its own group."""
    categories: GivenCategories | None = None
    """Of the samples of `training`, where these are of several kinds of normal."""
    calibration_categories: np.ndarray | None = None
    """(n,) int: the category of each calibration sample, as a place in the names of `categories`."""
    folds: tuple[Callable[[], Prepared], ...] = ()
    """Cross-fitting: each gives a smaller one, with preprocessing of its own, that trains on the groups of the other
    folds and has its own groups for calibration. Then `training` is everything, and `calibration` is empty."""
    decided: Mapping[str, object] = field(default_factory=dict)
    """Settings of the section of this kind of data that were left open, as the training part decided them."""
    groups: Mapping[str, int] | None = None
    """The groups of all samples and of each part, named as in `counts`, beside "all"; None without groups."""


@dataclass(frozen=True)
class FitOptions:
    """What a caller says about the data to train on; a kind refuses what it has no use for."""

    dropped: Sequence[str] = ()
    """Columns to leave out."""
    categorical: Sequence[str] = ()
    """Columns of numbers that name categories."""
    stream: bool | None = None
    """Encode into a temporary file in passes over the source (True), in memory (False), or by size (None)."""
    group: str | Sequence[Hashable] | None = None
    """What belongs together, and is never divided: the name of a column, "folder", a regular expression with one group,
    a CSV file with the columns file and group, or one value for each sample. See `memae.modality.groups`."""
    category: str | Sequence[Hashable] | None = None
    """Which of several kinds of normal a sample is of: the name of a column, "folders", or one value for each sample.
    See `memae.categories`."""


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
    item_use: np.ndarray | None = None
    """(B, N) float32: mean shares of the items in the reads of blocks of held-out normal samples; see `memae.drift`."""
    item_samples: ItemSamples | None = None
    """The training samples nearest to each item, unless the fit was to keep none."""
    held_out: HeldOut | None = None
    """Held-out normal samples for a later teaching, where they are small enough and the fit was to keep samples."""
    replaced: tuple[Mapping[str, Tensor], ...] = ()
    """Of each teaching that stands, the tensors of the model file that it replaced, by name; see `memae.teach`."""
    recogniser: Recogniser | None = None
    """Tells the category of a sample, where the model knows several kinds of normal."""

    @property
    def modality(self) -> Modality:
        """The kind of data that it is for."""
        from memae.modality.registry import modality_of  # which knows this module

        return modality_of(self.config.network)

    def extended(self) -> Artifact:
        """Itself; where items were added to its memory, with their number in the config and no uses of them."""
        memory = self.model.memory
        added = 0 if memory is None else memory.num_items - len(self.uses)
        if added <= 0:
            return self
        section = self.config.memory.model_copy(update={"num_items": len(self.uses) + added})
        config = self.config.model_copy(update={"memory": section})
        use = None if self.item_use is None else np.pad(self.item_use, ((0, 0), (0, added)))
        return replace(self, config=config, uses=np.pad(self.uses, (0, added)), item_use=use)

    def drift_watch(self) -> DriftWatch | None:
        """What is to follow one pass of scoring; None for a model without a threshold."""
        if self.threshold is None:
            return None
        in_order = self.modality.scores_in_order(self)
        streaming = isinstance(self.model.memory, Streaming)  # whose items do not stay what they were
        item_use = None if streaming else self.item_use
        return DriftWatch(self.threshold.calibration, self.threshold.value, in_order, item_use)


Follow: TypeAlias = Callable[[Encoded, np.ndarray], np.ndarray]
"""From encoded samples (S, ...) and bool (S,), which of them may be learnt from, to their scores (S,)."""


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
    watch: DriftWatch | None = None
    """Is told of each part of a pass over all samples."""
    follow: Follow | None = None
    """Scores in the place of the scorer, one sample after the other, and learns; only where nothing is explained."""

    def wants(self, key: Key) -> bool:
        """Whether the sample of a key was asked for."""
        return self.keys is None or key in self.keys

    def wanted(
        self,
        keys: Sequence[Key],
        scores: np.ndarray,
        threshold: Threshold | None,
        categories: SampleCategories | None = None,
    ) -> list[int]:
        """The rows among samples of these keys, scores (S,) and categories that are to be explained."""
        if self.explained == "none":
            return []
        if self.explained == "anomalies":
            assert threshold is not None, "who asks for anomalies has looked for a threshold"
            return np.flatnonzero(threshold.flags(scores, categories)).tolist()
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
    ranking: Any = None
    """The `memae.metrics.ranking.Ranking` of samples with labels; None where labels are of something else."""


WriteRows: TypeAlias = Callable[[Iterator[Verdicts]], tuple[int, int]]
"""Writes verdicts as rows as they come; gives their number, and that of the anomalies."""


class Description(NamedTuple):
    """A fitted model in words, for people."""

    input: str
    """What it takes, such as "tables of 30 columns (30 number)"."""
    facts: Mapping[str, str] = {}
    """Further lines, by what they are about."""
    columns: Sequence[Mapping[str, Any]] = ()
    """What is done with each column of a table: name, kind, missing (share), rule, share (in errors of normal rows)."""
    known: Mapping[str, Any] = {}
    """Figures of the input that the preprocessing does not hold, such as the frame rate of video."""
