"""The face of the library: `Detector` learns what is normal and says what is not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import torch

from memae.adapt import Adaptation, adapt
from memae.artifact import load_artifact, save_artifact
from memae.deprecated import renamed_arguments
from memae.engine import Engine, check_engine, scoring_form
from memae.errors import ConfigError, DataError
from memae.fit import fit_artifact
from memae.fitted import Fitted
from memae.hub import is_address, load_from_hub
from memae.modality import (
    Artifact,
    ChosenSettings,
    FitOptions,
    Request,
    modality_named,
    open_source,
)
from memae.modality.groups import groups_of, without_group
from memae.predict import explanations, scores, verdicts
from memae.progress import Progress
from memae.teach import Limits, teach, undo_teaching
from memae.teachings import Teaching
from memae.threshold import Threshold
from memae.threshold_moves import at_rate, calibrated_on
from memae.training.history import History
from memae.training.loop import Device
from memae.training.phases import forget_training
from memae.types import Explained, Explanation, Key, Scores, Source, Verdict, Verdicts

__all__ = ["Detector", "Verdict", "Verdicts"]


class Detector(Fitted):
    """Finds anomalies in images, tables or video. Training needs normal samples only.

    `fit` splits the samples into three parts: for training, for early stopping, and for the threshold. Scores are
    reconstruction errors, higher = more anomalous; for video frames see `memae.video.scoring`. Every `x` may be an
    array, a tensor, a pandas, polars or Arrow frame, a path, or a list of paths (see `memae.modality.open_source`).

    Args:
        preset: None decides by the data; else a network ("mnist", "cifar10", "image", "small", "kddcup", "table",
            "video"), a variant ("paper", "released", a memory such as "mnad-paper"), or both ("mnist-paper"); see
            `memae.modality.preset_config`. A network for video reads folders of images as videos.
        seed: of all randomness; the same seed and data give the same model. Global random state does not change.
        settings: changes to the preset, as nested mappings ({"train": {"epochs": 30}}) or the path of a TOML
            file; see `memae.config.Config` for all keys.
        device: "auto" uses an accelerator if there is one, "cpu" does not.
        engine: what scores on a CPU: "torch", "openvino", or "auto" for either; see `memae.engine.choose`.

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
        engine: Engine = "auto",
    ) -> None:
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ConfigError(f"seed = {seed!r}: give a whole number, 0 or more")
        if device not in get_args(Device):
            raise ConfigError(f"device = {device!r}: give {' or '.join(map(repr, get_args(Device)))}")
        check_engine(engine, device)
        self.preset, self.seed, self.device, self.engine = preset, int(seed), device, engine
        self._settings = ChosenSettings(preset, settings)  # a misspelt name fails here, before data has been read
        self._artifact: Artifact | None = None
        self.history: History | None = None
        self._checkpoint: Path | None = None  # of a complete training, which the model makes superfluous

    @renamed_arguments(monitor="progress")
    def fit(
        self,
        x: Any,
        *,
        drop: Sequence[str] = (),
        categorical: Sequence[str] = (),
        group: str | Sequence[Hashable] | None = None,
        category: str | Sequence[Hashable] | None = None,
        skip_bad: bool = False,
        frame_rate: float | None = None,
        stream: bool | None = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Trains on normal samples, and sets the threshold on a held-out part of them.

        A KeyboardInterrupt after the first epoch keeps the best weights so far (`history.interrupted` is set).

        Args:
            x: normal samples; each per cent of anomalies among them costs recall (docs/contamination.md).
            drop: columns to leave out, here and when scoring.
            categorical: columns of numbers that are names of categories, such as codes and ports.
            group: what belongs together and is never divided; see `memae.modality.FitOptions.group`.
            category: which of several kinds of normal a sample is of; see `memae.modality.FitOptions.category`. Each
                gets a threshold of its own.
            skip_bad: leave out samples that cannot be read and count them in `facts["skipped"]`; else an error.
            frame_rate: frames per second of folders of frames; with it, a folder of images is read as video.
            stream: True encodes the rows of a table into a temporary file, False holds them in memory, None decides by
                their size.
            checkpoint: a directory to save the training's state in after every epoch; `save` removes it once the
                training is complete and the model is safe.
            resume: continue from `checkpoint`; on the CPU the result is the same as without the interruption.
            progress: a callback for progress events, such as `memae.progress.ProgressBar`.

        Raises:
            DataError: samples that cannot be used, or too few.
            ConfigError: settings that do not suit the data, such as a false-alarm rate that is too low for the number
                of samples, or a checkpoint of another run.
            MemaeError: this process was forked from one that had fitted with several threads, which would hang; start
                processes with "spawn".
        """
        source = open_source(x, self._settings.kind(), skip_bad=skip_bad, frame_rate=frame_rate)
        drop = [drop] if isinstance(drop, str) else drop
        categorical = [categorical] if isinstance(categorical, str) else categorical
        source = source.without(drop) if drop else source
        self._artifact, self.history = fit_artifact(
            source,
            self._settings.config(source.modality, source),
            self.seed,
            FitOptions(dropped=drop, categorical=categorical, stream=stream, group=group, category=category),
            device=self.device,
            engine=self.engine,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
        )
        self._checkpoint = Path(checkpoint) if checkpoint is not None and not self.history.interrupted else None
        return self

    @renamed_arguments(watcher="progress")
    def score(self, x: Any, *, skip_bad: bool = False, progress: Progress | None = None) -> Scores:
        """Scores of samples.

        Args:
            x: samples of the kind that the model was trained on.
            skip_bad: give a sample that cannot be read the score NaN and name it in `skipped`; False: raise an error.
            progress: a callback for progress events.

        Raises:
            DataError: samples that do not fit the model.
            MemaeError: the detector is not fitted.
        """
        return scores(self._fitted, self.open(x, skip_bad=skip_bad), Request(skip_bad=skip_bad), progress)

    @renamed_arguments(watcher="progress")
    def detect(
        self,
        x: Any,
        *,
        explained: Explained = "none",
        false_alarm_rate: float | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Verdicts:
        """Scores, p-values and decisions at the model's threshold; takes and raises what `score` does.

        Args:
            x: the samples.
            explained: which samples get an `Explanation`: "none", "anomalies" or "all".
            false_alarm_rate: decide at this rate; None is that of the model.
            skip_bad: as for `score`.
            progress: a callback for progress events.

        Raises:
            ConfigError: a rate that the held-out samples cannot promise.
        """
        how: dict[str, Any] = {"explained": explained, "false_alarm_rate": false_alarm_rate}
        return Verdicts.joined(list(self.stream(x, **how, skip_bad=skip_bad, progress=progress)))

    @renamed_arguments(watcher="progress")
    def stream(
        self,
        x: Any,
        *,
        explained: Explained = "none",
        false_alarm_rate: float | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Generator[Verdicts]:
        """`detect`, chunk by chunk, so that memory does not grow with the length of a file."""
        artifact, source = at_rate(self._fitted, false_alarm_rate), self.open(x, skip_bad=skip_bad)
        yield from verdicts(artifact, source, Request(explained, skip_bad=skip_bad), progress)

    def adapt(self, x: Any, *, skip_bad: bool = False, progress: Progress | None = None) -> Adaptation:
        """`detect` with a memory that learns from the stream x: each sample is scored first, and learnt from after.

        It never learns from a sample that it flags. Takes and raises what `score` does; see `memae.adapt.adapting`.
        """
        return adapt(self._fitted, self.open(x, skip_bad=skip_bad), skip_bad=skip_bad, progress=progress)

    def teach(
        self,
        x: Any,
        *,
        old: Any = None,
        anomalies: Any = None,
        limits: Limits = Limits(),  # noqa: B008  frozen
        progress: Progress | None = None,
    ) -> Teaching:
        """Teaches the memory that samples are normal, without a training, and sets the threshold anew.

        See `memae.teach.teach` for what it does, what it refuses and what it raises.

        Args:
            x: normal samples, such as false alarms.
            old: normal samples of the kinds that the model knows; None takes those that it kept at fit.
            anomalies: some that must still be found.
            limits: what the teaching may do at most.
            progress: a callback for progress events.
        """
        others = [None if one is None else self.open(one) for one in (old, anomalies)]
        self._artifact, teaching = teach(
            self._fitted, self.open(x), old=others[0], anomalies=others[1], limits=limits, progress=progress
        )
        return teaching

    def undo_teaching(self) -> None:
        """Takes the last teaching back; see `memae.teach.undo_teaching`."""
        self._artifact = undo_teaching(self._fitted)

    def recalibrate(
        self,
        x: Any,
        *,
        group: str | Sequence[Hashable] | None = None,
        false_alarm_rate: float | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Threshold:
        """Sets the threshold anew on other normal samples, and logs it; `undo_threshold` takes it back.

        Args:
            x: normal samples that no training saw, such as those of the place where the model is to work.
            group: what belongs together, as for `fit`; the rate is then one for new groups.
            false_alarm_rate: wanted; None is that of before.
            skip_bad: leave out samples that cannot be read.
            progress: a callback for progress events.

        Raises:
            ConfigError: so few samples cannot promise the rate.
            DataError: as `score`, or video, whose scores are no samples of their own.
        """
        if self.modality.has_events:
            raise DataError(f"thresholds of {self.modality.plural} come with the training; train again on these")
        source = self.open(x, skip_bad=skip_bad)
        scored = without_group(source, group, self.preprocess)
        found = scores(self._fitted, scored, Request(skip_bad=skip_bad), progress)
        good = np.isfinite(found.values)
        groups = None if group is None else groups_of(source, group, found.keys)[good]
        self._artifact = calibrated_on(
            self._fitted, found.values[good], groups=groups, false_alarm_rate=false_alarm_rate
        )
        return self.threshold

    def watch(self, x: Any, *, watched: np.ndarray | None = None) -> Iterator[Any]:
        """Every frame of videos in order, as a `memae.video.scoring.ScoredFrame`; memory use does not grow.

        Args:
            x: videos, or a source of them.
            watched: (H, W) bool at the size of the network (`preprocess.height`, `preprocess.width`): False excludes a
                place from every score. None excludes nothing.

        Raises:
            DataError: not a model of video, no video, or one that cannot be read.
            ConfigError: `watched` of another size, or that leaves nothing to score.
        """
        yield from self._fitted.modality.watch(self._fitted, lambda: self.open(x), watched)

    def event_threshold(self, false_alarms_per_hour: float, rule: Callable[[float], Any] | None = None) -> Any:
        """The score that begins an event, for a wanted number of false alarms an hour of normal video.

        Args:
            false_alarms_per_hour: above 0.
            rule: from a threshold to the whole rule of events; None is `memae.video.events.EventRule`.

        Raises:
            MemaeError: not a model of video, or trained with threshold.calibration_share = 0.
        """
        return self._fitted.modality.event_threshold(self._fitted, false_alarms_per_hour, rule)

    @renamed_arguments(watcher="progress")
    def explain(
        self,
        x: Any,
        keys: Collection[Key] | None = None,
        *,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> list[Explanation]:
        """One `Explanation` for each sample, in the order of `x`.

        Args:
            x: samples of the kind that the model was trained on.
            keys: explain only these, such as the anomalies of `detect`; None: all.
            skip_bad: leave out samples that cannot be read.
            progress: a callback for progress events.

        Raises:
            DataError: as `score`, or a key that no sample has.
        """
        return list(self.explanations(x, keys, skip_bad=skip_bad, progress=progress))

    @renamed_arguments(watcher="progress")
    def explanations(
        self,
        x: Any,
        keys: Collection[Key] | None = None,
        *,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Generator[Explanation]:
        """`explain`, one by one, so that memory does not grow with the number of samples."""
        yield from explanations(self._fitted, self.open(x, skip_bad=skip_bad), keys, skip_bad, progress)

    def open(self, x: Any, *, skip_bad: bool = False, **options: Any) -> Source:
        """The source behind `x`, read the way this model needs it; the other methods take it in place of `x`.

        Args:
            x: samples of the kind that the model was trained on.
            skip_bad: leave out samples that cannot be read; False: raise an error.
            **options: how to read them; see `memae.modality.open_source`.

        Raises:
            DataError: nothing that can be read, or of another kind.
        """
        modality = self._fitted.modality
        source = open_source(x, modality, self.preprocess, skip_bad=skip_bad, **options)
        if source.modality != modality.name:
            other = modality_named(source.modality)
            raise DataError(
                f"{source.origin}: the model was trained on {modality.plural} and {other.this}; take "
                "a model of that kind"
            )
        read: Source = modality.as_trained(source, self.preprocess)
        return read

    def save(self, path: str | Path) -> None:
        """Writes the model directory atomically, and then removes the checkpoint of its training.

        Raises:
            ArtifactError: something other than a model is there.
            MemaeError: the detector is not fitted.
        """
        save_artifact(self._fitted, Path(path))
        if self._checkpoint:
            forget_training(self._checkpoint)

    @classmethod
    def load(cls, path: str | Path, *, device: Device = "auto", engine: Engine = "auto") -> Detector:
        """Loads a model directory, or a model of the hub; `device` and `engine` are those of a new detector.

        Args:
            path: a directory, or "hf://owner/name@revision"; see `memae.hub.load_from_hub`.
            device: as for a new detector.
            engine: as for a new detector.

        Raises:
            ArtifactError: a model that is missing, damaged, unsafe or of a newer format, or is not reached.
            ConfigError: an unknown device or engine, or OpenVINO on an accelerator.
            MissingExtraError: OpenVINO or the hub is asked for and not installed.
        """
        artifact = load_from_hub(path) if is_address(path) else load_artifact(Path(path))
        detector = cls(seed=artifact.facts.get("seed", 0), device=device, engine=engine)
        if device == "auto" and torch.accelerator.is_available():
            artifact.model.to(torch.accelerator.current_accelerator())
        detector._artifact = replace(artifact, model=scoring_form(artifact.model, engine))
        return detector
