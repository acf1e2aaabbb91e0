"""The face of the library: `Detector` learns what is normal and says what is not."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args

import numpy as np
import torch
from torch import Tensor

from memae.artifact import Artifact, load_artifact, save_artifact
from memae.config import Config, override, read_toml
from memae.data.preprocess import ImagePreprocess, TablePreprocess, fit_preprocess
from memae.data.samples import Images, Key, Samples, Table
from memae.data.sources import Source, collect, expected_by, open_source
from memae.errors import ConfigError, DataError, MemaeError
from memae.explain import Explanation, MemoryItems, decode_items, items_used
from memae.memory import HealthMeter
from memae.models.autoencoder import Autoencoder
from memae.models.presets import build, preset_config
from memae.scoring import Scores, error_maps, sample_scores
from memae.threshold import Threshold, reachable_rate
from memae.train import Checkpoint, Device, History, Monitor, local_seed, reconstruction_objective, train

__all__ = ["Detector", "Verdict", "Verdicts"]

CHUNK_SAMPLES = 65_536  # samples read, scored and given back at a time
INITIAL_SAMPLES = 10_000  # encodings that the memory is started from


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
    """(S,) float64; higher = more anomalous."""
    p_values: np.ndarray
    """(S,) float64."""
    is_anomaly: np.ndarray
    """(S,) bool: the score is above the threshold."""
    threshold: float

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Verdict]:
        for key, score, p_value, flag in zip(
            self.keys, self.scores.tolist(), self.p_values.tolist(), self.is_anomaly.tolist(), strict=True
        ):
            yield Verdict(key, score, p_value, flag)


class Detector:
    """Finds anomalies in images or tables after seeing normal samples only.

    It splits what it is given three ways: to train on, to stop early on, and to set the threshold on. Scores are
    mean squared reconstruction errors, higher = more anomalous. Wherever data goes in, it may be an array, a
    tensor, a pandas, polars or Arrow frame, or a path (see `memae.data.sources.open_source`).

    Args:
        preset: None chooses by the data; else a network ("mnist", "cifar10", "image", "kddcup", "table"), a
            variant ("paper", "released"), or both ("mnist-paper"); see `memae.models.presets`.
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
        # a misspelt name or key should fail here, not after the data has been read
        self._check_settings()

    def fit(
        self,
        x: Any,
        *,
        drop: Sequence[str] = (),
        checkpoint: str | Path | None = None,
        resume: bool = False,
        monitor: Monitor | None = None,
    ) -> Self:
        """Learns from normal samples, and sets the threshold on held-out ones of them.

        A KeyboardInterrupt after the first epoch keeps the best weights so far (`history.interrupted` is set).

        Args:
            x: normal samples; a few anomalies among them do little harm, many do.
            drop: columns to leave out, now and whenever they are met later.
            checkpoint: a directory to save the training's state in after every epoch; gone once it is complete.
            resume: continue from `checkpoint`; the result is, on the CPU, the very same as without the stop.
            monitor: who is told of steps and epochs, such as `memae.progress.ProgressBar`.

        Raises:
            DataError: samples that cannot be used, or too few.
            ConfigError: settings that do not suit the data, such as a false-alarm rate that so few samples
                cannot promise, or a checkpoint of another run.
        """
        source = open_source(x)
        drop = [drop] if isinstance(drop, str) else drop
        if drop:
            source = source.without(drop)
        samples = collect(source)
        config = self._config("image" if isinstance(samples, Images) else "table")
        split = _split(len(samples), config, self.seed, samples.origin)
        preprocess = fit_preprocess(
            _take(samples, split.train),
            image_scale=config.preprocess.image_scale,
            number_scale=config.preprocess.number_scale,
            dropped=tuple(drop),
        )
        encoded = preprocess.encode(samples)
        training, held_out = encoded[split.train], encoded[split.held_out] if len(split.held_out) else None
        started = time.perf_counter()
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # manual_seed seeds them all
            torch.manual_seed(local_seed(self.seed))
            model = build(config, preprocess.shape)
        saved = _checkpoints(checkpoint, config, self.seed, encoded, resume)
        history = self._train(model, config, training, held_out, saved, monitor)
        threshold = None
        if len(split.calibration):
            scores = sample_scores(model, encoded[split.calibration])
            threshold = Threshold.fit(scores, config.threshold.false_alarm_rate)
        facts = {
            # a path of other bytes than UTF-8 has no place in JSON as it is
            "origin": samples.origin.encode(errors="surrogateescape").decode(errors="backslashreplace"),
            "samples": {
                "training": len(training),
                "held_out": len(split.held_out),
                "calibration": len(split.calibration),
            },
            "seed": self.seed,
            "seconds": round(time.perf_counter() - started, 3),
            "kept_epoch": history.kept_epoch,
            "interrupted": history.interrupted,
            "last_epoch": asdict(history.records[-1]) if history.records else None,
            "parameters": sum(p.numel() for p in model.parameters()),
            "device": str(next(model.parameters()).device),
            "versions": _versions(),
        }
        self._artifact = Artifact(config, preprocess, model, threshold, _uses(model, training), facts)
        self.history = history
        if saved and not history.interrupted:
            for part in saved:
                part.remove()
        return self

    def score(self, x: Any) -> Scores:
        """The scores of samples of the kind that it was trained on.

        Raises:
            DataError: samples that do not fit the model.
            MemaeError: the detector is not fitted.
        """
        parts = [(sample_scores(self.model, encoded), samples.keys) for samples, encoded in self._encoded(x)]
        keys: list[Key] = [key for _, some in parts for key in some]
        return Scores(np.concatenate([values for values, _ in parts]) if parts else np.empty(0), keys)

    def detect(self, x: Any) -> Verdicts:
        """Scores, p-values and decisions at the model's threshold; raises as `score`."""
        parts = list(self.stream(x))
        return Verdicts(
            keys=[key for part in parts for key in part.keys],
            scores=np.concatenate([part.scores for part in parts]),
            p_values=np.concatenate([part.p_values for part in parts]),
            is_anomaly=np.concatenate([part.is_anomaly for part in parts]),
            threshold=self.threshold.value,
        )

    def stream(self, x: Any) -> Iterator[Verdicts]:
        """`detect`, chunk by chunk, so that memory does not grow with the length of a file."""
        threshold = self.threshold
        for samples, encoded in self._encoded(x):
            scores = sample_scores(self.model, encoded)
            yield Verdicts(
                samples.keys, scores, threshold.p_values(scores), threshold.flags(scores), threshold.value
            )

    def explain(self, x: Any, keys: Collection[Key] | None = None) -> list[Explanation]:
        """Why samples scored as they did, one `Explanation` each, in the order of `x`.

        Args:
            x: samples of the kind that it was trained on.
            keys: only those of these keys, such as the anomalies of `detect`; None is all.

        Raises:
            DataError: as `score`, or a key that no sample has.
        """
        wanted = None if keys is None else set(keys)
        found: list[Explanation] = []
        for samples, encoded in self._encoded(x):
            if wanted is None:
                found += self._explained(samples, encoded)
                continue
            rows = torch.tensor([row for row, key in enumerate(samples.keys) if key in wanted], dtype=torch.long)
            if len(rows):
                found += self._explained(_take(samples, rows), encoded[rows])
        if wanted is not None and (unknown := wanted - {explanation.key for explanation in found}):
            raise DataError(f"no sample has the key {next(iter(unknown))!r}; take keys that score or detect gave")
        return found

    def open(self, x: Any) -> Source:
        """The source behind `x`, read the way this model needs it; the other methods take it in place of `x`.

        Raises:
            DataError: nothing that can be read.
        """
        return open_source(x, expected_by(self.preprocess))

    def items(self) -> MemoryItems | None:
        """The memory laid open: use, twins, and each item decoded; None for a plain autoencoder."""
        fitted = self._fitted
        if fitted.model.memory is None:
            return None
        pictures, rows = decode_items(fitted.model, fitted.preprocess)
        return MemoryItems(fitted.uses, fitted.model.memory.twins(), pictures, rows)

    def save(self, path: str | Path) -> None:
        """Writes the model directory, whole or not at all.

        Raises:
            ArtifactError: the place is taken by something else.
            MemaeError: the detector is not fitted.
        """
        save_artifact(self._fitted, Path(path))

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
    def preprocess(self) -> ImagePreprocess | TablePreprocess:
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

    def _train(
        self,
        model: Autoencoder,
        config: Config,
        training: Tensor,
        held_out: Tensor | None,
        saved: tuple[Checkpoint, Checkpoint] | None,
        monitor: Monitor | None,
    ) -> History:
        """Warms up as a plain autoencoder, starts the memory from the encodings, and trains the whole."""
        memory, settings = config.memory, config.train
        objective = reconstruction_objective(
            alpha=settings.entropy_weight, reduction=settings.reduction, noise=settings.noise
        )
        warm, main = saved or (None, None)
        if model.memory is not None and not (main and main.exists()):
            if memory.warmup_epochs and settings.epochs:  # no epochs at all: the untrained network
                warmed = train(
                    Autoencoder(model.encoder, None, model.decoder),
                    training,
                    None,
                    objective=objective,
                    settings=settings.model_copy(update={"epochs": memory.warmup_epochs, "patience": 0}),
                    seed=local_seed(self.seed, 1),
                    device=self.device,
                    checkpoint=warm,
                    monitor=monitor,
                )
                if warmed.interrupted:
                    raise KeyboardInterrupt  # a memory that never started is nothing to keep
            generator = torch.Generator().manual_seed(local_seed(self.seed, 2))
            some = training[torch.randperm(len(training), generator=generator)[:INITIAL_SAMPLES]]
            model.memory.initialise(_encodings(model, some), memory.initialisation, generator)
        return train(
            model,
            training,
            held_out,
            objective=objective,
            settings=settings,
            seed=self.seed,
            device=self.device,
            revive_epochs=memory.revive_epochs,
            checkpoint=main,
            monitor=monitor,
        )

    def _encoded(self, x: Any) -> Iterator[tuple[Samples, Tensor]]:
        preprocess = self._fitted.preprocess
        source = self.open(x)
        empty = True
        for samples in source.chunks(CHUNK_SAMPLES):
            if len(samples):
                empty = False
                yield samples, preprocess.encode(samples)
        if empty:
            raise DataError(f"{source.origin}: holds no samples")

    def _explained(self, samples: Samples, encoded: Tensor) -> Iterator[Explanation]:
        threshold = self._fitted.threshold
        row = 0
        for part in error_maps(self.model, encoded):
            scores = part.scores
            p_values: list[float | None] = (
                threshold.p_values(scores).tolist() if threshold else [None] * len(scores)
            )
            items = items_used(part.read, len(scores)) if part.read else [()] * len(scores)
            reconstructions, errors = part.reconstruction.cpu(), part.errors.cpu()
            for place, score in enumerate(scores.tolist()):
                yield Explanation(
                    key=samples.keys[row],
                    score=score,
                    p_value=p_values[place],
                    items=items[place],
                    **self._detail(samples, row, encoded[row], reconstructions[place], errors[place]),
                )
                row += 1

    def _detail(
        self, samples: Samples, row: int, x: Tensor, reconstruction: Tensor, errors: Tensor
    ) -> dict[str, Any]:
        preprocess = self._fitted.preprocess
        if isinstance(preprocess, TablePreprocess):
            cells = preprocess.cells(samples, row, reconstruction, errors / errors.numel())
            return {"cells": tuple(cells), "x": None, "reconstruction": None, "error_map": None}
        return {
            "cells": (),
            "x": x.numpy(),
            "reconstruction": reconstruction.numpy(),
            "error_map": errors.mean(dim=0).numpy(),
        }

    def _check_settings(self) -> None:
        problems: list[ConfigError] = []
        for modality in ("image", "table"):
            suits = False
            try:
                preset_config(self.preset, modality)
                suits = True
                self._config(modality)
                return
            except ConfigError as error:  # first what is wrong where the preset suits the data
                problems.insert(0 if suits else len(problems), error)
        raise problems[0]

    def _config(self, modality: str) -> Config:
        config = override(preset_config(self.preset, modality), self._settings, self._origin)
        preset_config(config.network, modality)  # the settings may name a network for the other kind of data
        return config

    @property
    def _fitted(self) -> Artifact:
        if self._artifact is None:
            raise MemaeError("this detector is not fitted; call fit(x), or Detector.load(directory)")
        return self._artifact


class _Split(NamedTuple):
    train: Tensor
    held_out: Tensor
    calibration: Tensor


def _split(samples: int, config: Config, seed: int, origin: str) -> _Split:
    """Three disjoint parts in a seeded order; fails before any training if the threshold cannot be promised."""
    shares, wanted = config.threshold.calibration_share, config.threshold.false_alarm_rate
    calibration = round(samples * shares)
    held_out = round(samples * config.train.validation_share)
    training = samples - calibration - held_out
    least_held_out = bool(config.train.patience)
    if least_held_out and not config.train.validation_share:
        raise ConfigError(
            "train.patience needs held-out samples: raise train.validation_share, or set train.patience=0"
        )
    if training < 2 or (shares and not calibration) or held_out < least_held_out:
        raise DataError(
            f"{origin}: holds {samples} sample{'s' * (samples != 1)}, too few to train on, stop early on and "
            "set a threshold on; give at least 20, better 200 normal ones"
        )
    if calibration:
        reachable_rate(calibration, wanted)
    elif wanted is not None:
        raise ConfigError(
            f"threshold.false_alarm_rate = {wanted:g} needs held-out samples: raise "
            "threshold.calibration_share above 0"
        )
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(local_seed(seed, 0)))
    return _Split(*torch.split(order, [training, held_out, calibration]))


def _take(samples: Samples, index: Tensor) -> Samples:
    rows = index.numpy()
    keys = [samples.keys[row] for row in rows]
    if isinstance(samples, Images):
        return Images(samples.pixels[rows], keys, samples.origin)
    return Table(samples.columns.take(rows), keys, samples.origin)


@torch.no_grad()
def _encodings(model: Autoencoder, x: Tensor) -> Tensor:
    """Encodings with the batch's own statistics: those that BatchNorm keeps mean nothing before training."""
    was_training = model.training
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    model.train()
    encodings: Tensor = model.encoder(x.to(next(model.parameters()).device))
    for name, value in model.named_buffers():
        value.copy_(buffers[name])
    model.train(was_training)
    return encodings


def _uses(model: Autoencoder, training: Tensor) -> np.ndarray:
    if model.memory is None:
        return np.empty(0, dtype=np.int64)
    meter = HealthMeter(model.memory)
    for part in error_maps(model, training):
        assert part.read is not None
        meter.update(part.read)
    return meter.uses.cpu().numpy()


def _checkpoints(
    path: str | Path | None, config: Config, seed: int, encoded: Tensor, resume: bool
) -> tuple[Checkpoint, Checkpoint] | None:
    """The places of the warm-up's and the main training's state; emptied unless they are to be continued."""
    if path is None:
        if resume:
            raise ConfigError("resume needs the checkpoint directory of the run to continue; pass checkpoint=")
        return None
    run = json.dumps([config.model_dump(), seed, list(encoded.shape)]).encode()
    fingerprint = hashlib.sha256(run + encoded.numpy().tobytes()).hexdigest()
    places = Checkpoint(Path(path) / "warmup", fingerprint), Checkpoint(Path(path) / "main", fingerprint)
    if resume and not any(place.exists() for place in places):
        raise ConfigError(f"{path}: holds no training to resume; leave --resume out to start one")
    if not resume:
        for place in places:
            place.remove()
    return places


def _versions() -> dict[str, str]:
    names = ("memae", "torch", "numpy", "safetensors", "accelerate")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}
