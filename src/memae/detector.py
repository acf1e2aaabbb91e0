"""The face of the library: `Detector` learns what is normal and says what is not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args

import numpy as np
import torch

from memae.artifact import Artifact, load_artifact, save_artifact
from memae.autoencoder import Autoencoder
from memae.config import Config, override, read_toml
from memae.errors import ConfigError, DataError, MemaeError
from memae.explain import Explanation, MemoryItems, decode_items
from memae.fit import fit_artifact, forget_training
from memae.hold_out import AnyPreprocess
from memae.memory.usage import duplicate_pairs
from memae.predict import Explained, examine, scored_frames
from memae.presets import modality_of, preset_config
from memae.scoring import Scores
from memae.sources import Expected, Source, expected_by, open_source
from memae.stages import Watcher
from memae.table.csv import CsvSource
from memae.threshold import Threshold
from memae.training.history import History, Monitor
from memae.training.loop import Device
from memae.types import Key, Modality, Skipped
from memae.video.events import EventRule, EventThreshold, fit_event_threshold
from memae.video.preprocess import VideoPreprocess
from memae.video.scoring import ScoredFrame
from memae.video.source import VideoSource

__all__ = ["Detector", "Verdict", "Verdicts"]

OLD_HEAT = 4.0  # thresholds of an image: the heat of models that were saved without one


class Verdict(NamedTuple):
    """The decision on one sample."""

    key: Key
    score: float
    p_value: float
    """Conformal p-value: how rarely a normal sample scores so high."""
    is_anomaly: bool


@dataclass(frozen=True)
class Verdicts:
    """Decisions on S samples; iterate for one `Verdict` each."""

    keys: Sequence[Key]
    scores: np.ndarray
    """(S,) float64; higher = more anomalous. NaN of a sample that was skipped."""
    p_values: np.ndarray
    """(S,) float64; NaN of a sample that was skipped."""
    is_anomaly: np.ndarray
    """(S,) bool: the score is above the threshold."""
    threshold: float
    skipped: tuple[Skipped, ...] = ()
    """The bad samples, where the caller asked to skip them."""
    explanations: tuple[Explanation, ...] = ()
    """Of the samples that the caller asked to have explained, in their order."""

    @classmethod
    def joined(cls, parts: Sequence[Verdicts]) -> Self:
        """Those of all parts, of which there is at least one, as one."""
        return cls(
            keys=[key for part in parts for key in part.keys],
            scores=np.concatenate([part.scores for part in parts]),
            p_values=np.concatenate([part.p_values for part in parts]),
            is_anomaly=np.concatenate([part.is_anomaly for part in parts]),
            threshold=parts[0].threshold,
            skipped=tuple(bad for part in parts for bad in part.skipped),
            explanations=tuple(one for part in parts for one in part.explanations),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Verdict]:
        for key, score, p_value, flag in zip(
            self.keys, self.scores.tolist(), self.p_values.tolist(), self.is_anomaly.tolist(), strict=True
        ):
            yield Verdict(key, score, p_value, flag)


class Detector:
    """Finds anomalies in images, tables or video after seeing normal samples only.

    It splits what it is given three ways: to train on, to stop early on, and to set the threshold on. Scores are
    mean squared reconstruction errors, higher = more anomalous; of video frames see `memae.video.scoring`. Wherever
    data goes in, it may be an array, a tensor, a pandas, polars or Arrow frame, a path, or a list of paths of videos
    (see `memae.sources.open_source`).

    Args:
        preset: None chooses by the data; else a network ("mnist", "cifar10", "image", "thumbnail", "kddcup", "table",
            "video"), a variant ("paper", "released"), or both ("mnist-paper"); see `memae.presets`. A network
            for video reads folders of images as videos.
        seed: of all randomness; the same seed and data give the same model. Global random state is untouched.
        settings: changes to the preset, as nested mappings ({"train": {"epochs": 30}}) or the path of a TOML
            file; see `memae.config.Config` for all keys.
        device: "auto" takes the accelerator, "cpu" does not.

    >>> from sklearn.datasets import load_breast_cancer
    >>> x, benign = load_breast_cancer(return_X_y=True)
    >>> detector = Detector(seed=0, settings={"train": {"epochs": 5}}).fit(x[benign == 1])
    >>> bool(detector.score(x[benign == 0]).values.mean() > detector.score(x[benign == 1]).values.mean())
    True
    """

    def __init__(
        self,
        preset: str | None = None,
        *,
        seed: int = 0,
        settings: Mapping[str, Any] | str | Path | None = None,
        device: Device = "auto",
    ) -> None:
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ConfigError(f"seed = {seed!r}: give a whole number, 0 or more")
        if device not in get_args(Device):
            raise ConfigError(f"device = {device!r}: give {' or '.join(map(repr, get_args(Device)))}")
        self.preset, self.seed, self.device = preset, int(seed), device
        self._origin = str(settings) if isinstance(settings, str | Path) else "settings"
        self._settings = read_toml(settings) if isinstance(settings, str | Path) else dict(settings or {})
        self._artifact: Artifact | None = None
        self.history: History | None = None
        self._checkpoint: Path | None = None  # of a complete training, which the model makes superfluous
        # a misspelt name or key should fail here, not after the data has been read
        self._check_settings()

    def fit(
        self,
        x: Any,
        *,
        drop: Sequence[str] = (),
        categorical: Sequence[str] = (),
        skip_bad: bool = False,
        stream: bool | None = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        monitor: Monitor | None = None,
    ) -> Self:
        """Learns from normal samples, and sets the threshold on held-out ones of them.

        A KeyboardInterrupt after the first epoch keeps the best weights so far (`history.interrupted` is set).

        Args:
            x: normal samples; a few anomalies among them do little harm, many do.
            drop: columns to leave out, now and whenever they are met later.
            categorical: columns of numbers that name kinds, such as codes and ports.
            skip_bad: leave out samples that cannot be read, which are an error else; `facts["skipped"]` counts them.
            stream: rows of a table are encoded into a temporary file in passes over the source, or held in memory; None
                decides by their size.
            checkpoint: a directory to save the training's state in after every epoch; `save` removes it once the
                training is complete and the model is safe.
            resume: continue from `checkpoint`; the result is, on the CPU, the very same as without the stop.
            monitor: who is told how far the work is, such as `memae.progress.ProgressBar`.

        Raises:
            DataError: samples that cannot be used, or too few.
            ConfigError: settings that do not suit the data, such as a false-alarm rate that so few samples
                cannot promise, or a checkpoint of another run.
        """
        source = open_source(x, self._expected(), skip_bad=skip_bad)
        drop = [drop] if isinstance(drop, str) else drop
        if drop:
            source = source.without(drop)
        categorical = [categorical] if isinstance(categorical, str) else categorical
        if categorical and source.modality != "table":
            raise DataError(f"{source.origin}: {_KINDS[source.modality]} have no column {categorical[0]!r}")
        if isinstance(source, CsvSource):
            source = source.as_text(categorical)
        config = self._config(source.modality)
        self._artifact, self.history = fit_artifact(
            source,
            config,
            self.seed,
            dropped=drop,
            categorical=categorical,
            stream=stream,
            device=self.device,
            checkpoint=checkpoint,
            resume=resume,
            monitor=monitor,
        )
        self._checkpoint = Path(checkpoint) if checkpoint is not None and not self.history.interrupted else None
        return self

    def score(self, x: Any, *, skip_bad: bool = False, watcher: Watcher | None = None) -> Scores:
        """The scores of samples of the kind that it was trained on; `watcher` is told how far the work is.

        Args:
            x: the samples.
            skip_bad: a sample that cannot be read or encoded keeps its place, with the score NaN, and is named in
                `skipped`; it is an error else.

        Raises:
            DataError: samples that do not fit the model.
            MemaeError: the detector is not fitted.
        """
        source = self.open(x, skip_bad=skip_bad)
        parts = list(examine(self._fitted, source, skip_bad=skip_bad, watcher=watcher))
        keys: list[Key] = [key for part in parts for key in part.keys]
        skipped = tuple(bad for part in parts for bad in part.skipped)
        return Scores(np.concatenate([part.scores for part in parts]), keys, skipped)

    def detect(
        self, x: Any, *, explained: Explained = "none", skip_bad: bool = False, watcher: Watcher | None = None
    ) -> Verdicts:
        """Scores, p-values and decisions at the model's threshold; takes and raises what `score` does.

        Args:
            x: the samples.
            explained: which of them come with an `Explanation`: "none", "anomalies" or "all".
            skip_bad: as for `score`.
            watcher: told how far the work is.
        """
        return Verdicts.joined(list(self.stream(x, explained=explained, skip_bad=skip_bad, watcher=watcher)))

    def stream(
        self, x: Any, *, explained: Explained = "none", skip_bad: bool = False, watcher: Watcher | None = None
    ) -> Generator[Verdicts]:
        """`detect`, chunk by chunk, so that memory does not grow with the length of a file."""
        threshold, source = self.threshold, self.open(x, skip_bad=skip_bad)
        parts = examine(self._fitted, source, explained=explained, skip_bad=skip_bad, watcher=watcher)
        with closing(parts):  # so that its stage ends before an error is said
            for keys, scores, skipped, explanations in parts:
                p_values = threshold.p_values(scores)
                if skipped:
                    p_values[np.isnan(scores)] = np.nan
                flags = threshold.flags(scores)
                yield Verdicts(keys, scores, p_values, flags, threshold.value, skipped, explanations)

    def watch(self, x: Any, *, watched: np.ndarray | None = None) -> Iterator[ScoredFrame]:
        """Every frame of videos in order, each with its score and where in it the score comes from.

        Memory does not grow with the length of a video.

        Args:
            x: videos, or a source of them.
            watched: (H, W) bool at the size of the network (`preprocess.height`, `preprocess.width`): False leaves a
                place out of every score. None watches all.

        Raises:
            DataError: no video, or one that cannot be read.
            ConfigError: `watched` of another size, or that leaves nothing to score.
        """
        fitted = self._fitted
        if not isinstance(fitted.preprocess, VideoPreprocess):
            raise DataError("watch takes a model of video; use score, detect or stream with this one")
        yield from scored_frames(fitted, self.open(x), watched)

    def event_threshold(
        self, false_alarms_per_hour: float, rule: Callable[[float], EventRule] = EventRule
    ) -> EventThreshold:
        """The score that begins an event, for a wanted number of false alarms an hour of normal footage.

        Args:
            false_alarms_per_hour: above 0.
            rule: from a threshold to the whole rule of events; see `memae.video.events`.

        Raises:
            MemaeError: not a model of video, or trained with threshold.calibration_share = 0.
        """
        normal = self._fitted.normal_footage
        if not normal:
            raise MemaeError(
                "this model holds no scores of normal footage to set a threshold for events from; train a model of "
                "video with threshold.calibration_share above 0"
            )
        return fit_event_threshold(normal, false_alarms_per_hour, rule)

    def explain(
        self,
        x: Any,
        keys: Collection[Key] | None = None,
        *,
        skip_bad: bool = False,
        watcher: Watcher | None = None,
    ) -> list[Explanation]:
        """Why samples scored as they did, one `Explanation` each, in the order of `x`.

        Args:
            x: samples of the kind that it was trained on.
            keys: only those of these keys, such as the anomalies of `detect`; None is all.
            skip_bad: leave out what cannot be read or encoded.
            watcher: told how far the work is.

        Raises:
            DataError: as `score`, or a key that no sample has.
        """
        return list(self.explanations(x, keys, skip_bad=skip_bad, watcher=watcher))

    def explanations(
        self,
        x: Any,
        keys: Collection[Key] | None = None,
        *,
        skip_bad: bool = False,
        watcher: Watcher | None = None,
    ) -> Generator[Explanation]:
        """`explain`, one by one, so that memory does not grow with the number of samples."""
        unknown, source = set(keys or ()), self.open(x, skip_bad=skip_bad)
        parts = examine(
            self._fitted,
            source,
            explained="all",
            keys=keys,
            skip_bad=skip_bad,
            doing="explaining",
            watcher=watcher,
        )
        with closing(parts):
            for part in parts:
                for explanation in part.explanations:
                    unknown.discard(explanation.key)
                    yield explanation
        if unknown:
            raise DataError(f"no sample has the key {next(iter(unknown))!r}; take keys that score or detect gave")

    def open(self, x: Any, *, skip_bad: bool = False) -> Source:
        """The source behind `x`, read the way this model needs it; the other methods take it in place of `x`.

        Args:
            x: samples of the kind that it was trained on.
            skip_bad: what cannot be read is left out, and is an error else; see `memae.sources.open_source`.

        Raises:
            DataError: nothing that can be read, or of another kind.
        """
        source = open_source(x, expected_by(self.preprocess), skip_bad=skip_bad)
        if source.modality != self._modality:
            raise DataError(
                f"{source.origin}: the model was trained on {_KINDS[self._modality]} and {_THIS[source.modality]}; "
                "take a model of that kind"
            )
        if isinstance(source, VideoSource) and isinstance(self.preprocess, VideoPreprocess):
            source = source.resized(self.preprocess.height, self.preprocess.width)
        return source

    def items(self) -> MemoryItems | None:
        """The memory laid open: use, twins, and each item decoded; None for a plain autoencoder."""
        fitted = self._fitted
        if fitted.model.memory is None:
            return None
        pictures, rows = decode_items(fitted.model, fitted.preprocess)
        return MemoryItems(fitted.uses, duplicate_pairs(fitted.model.memory), pictures, rows)

    def save(self, path: str | Path) -> None:
        """Writes the model directory, whole or not at all; then the checkpoint of its training goes.

        Raises:
            ArtifactError: the place is taken by something else.
            MemaeError: the detector is not fitted.
        """
        save_artifact(self._fitted, Path(path))
        if self._checkpoint:
            forget_training(self._checkpoint)

    @classmethod
    def load(cls, path: str | Path, *, device: Device = "auto") -> Detector:
        """The detector of a model directory.

        Raises:
            ArtifactError: a directory that is missing, damaged, unsafe or of a newer format.
        """
        artifact = load_artifact(Path(path))
        detector = cls(seed=artifact.facts.get("seed", 0), device=device)
        if device == "auto" and torch.accelerator.is_available():
            artifact.model.to(torch.accelerator.current_accelerator())
        detector._artifact = artifact
        return detector

    @property
    def model(self) -> Autoencoder:
        """The trained network."""
        return self._fitted.model

    @property
    def preprocess(self) -> AnyPreprocess:
        """The fitted preprocessing, which is also the schema of a table."""
        return self._fitted.preprocess

    @property
    def config(self) -> Config:
        """Every setting that it was trained with."""
        return self._fitted.config

    @property
    def facts(self) -> dict[str, Any]:
        """What is known about the training: sizes, seconds, seed, health of the memory, versions."""
        return self._fitted.facts

    @property
    def threshold(self) -> Threshold:
        """The decision.

        Raises:
            MemaeError: it was trained with threshold.calibration_share = 0 and has none.
        """
        threshold = self._fitted.threshold
        if threshold is None:
            raise MemaeError(
                "this model has no threshold, as it was trained with threshold.calibration_share = 0; use score, "
                "or train it with a share above 0"
            )
        return threshold

    @property
    def heat_threshold(self) -> float:
        """Heat (see `memae.scoring.heat`) above which a place of an image is unusual.

        So hot is no place in those held-out normal images that are not flagged, but for the wanted share of them. It is
        what maps are drawn by.

        Raises:
            MemaeError: as `threshold`.
        """
        peaks, threshold = self._fitted.peaks, self.threshold
        if not len(peaks):
            return OLD_HEAT * threshold.value
        return Threshold.fit(peaks, threshold.false_alarm_rate).value

    def place_level(self, score: float) -> float:
        """What the worst place of a frame of video reaches where its score is `score`.

        The score of a frame is that of its worst place, unless `video.score` is "mean". Then so many of the held-out
        normal frames have a place above the level as have a score above `score`; beyond all of them it grows as the
        score does.

        Raises:
            MemaeError: as `threshold`.
        """
        normal, peaks = self.threshold.calibration, self._fitted.peaks
        if self.config.video.score == "place" or len(peaks) != len(normal):
            return score
        normal, peaks = np.sort(normal), np.sort(peaks)
        if score > normal[-1] > 0:
            return float(peaks[-1] * score / normal[-1])
        return float(np.interp(score, normal, peaks))

    def _check_settings(self) -> None:
        problems: list[ConfigError] = []
        for modality in get_args(Modality):
            suits = False
            try:
                preset_config(self.preset, modality)
                suits = True
                self._config(modality)
                return
            except ConfigError as error:  # first what is wrong where the preset suits the data
                problems.insert(0 if suits else len(problems), error)
        raise problems[0]

    def _config(self, modality: Modality) -> Config:
        config = override(preset_config(self.preset, modality), self._settings, self._origin)
        preset_config(config.network, modality)  # the settings may name a network for the other kind of data
        return config

    def _expected(self) -> Expected | None:
        """A preset for video reads folders of images as videos; any other takes what the data is."""
        try:
            self._config("video")
        except ConfigError:
            return None
        named = self.preset is not None or "network" in self._settings
        return Expected(modality="video") if named and not self._suits_images() else None

    def _suits_images(self) -> bool:
        try:
            self._config("image")
        except ConfigError:
            return False
        return True

    @property
    def _modality(self) -> Modality:
        return modality_of(self.config.network)

    @property
    def _fitted(self) -> Artifact:
        if self._artifact is None:
            raise MemaeError("this detector is not fitted; call fit(x), or Detector.load(directory)")
        return self._artifact


_KINDS: dict[Modality, str] = {"image": "images", "table": "a table", "video": "video"}
_THIS: dict[Modality, str] = {"image": "these are images", "table": "this is a table", "video": "this is video"}
