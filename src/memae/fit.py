"""From normal samples to a model with its threshold: prepare, build, warm up, start the memory, train, calibrate."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memae.autoencoder import Autoencoder
from memae.categories import HeldOutCategories
from memae.config import Config
from memae.drift import item_use
from memae.engine import Engine, check_convertible, choose, scoring_form
from memae.engine.forks import check_not_forked
from memae.memory.base import Editable, Streaming
from memae.memory.usage import ItemCounts
from memae.memory_help import memory_help
from memae.modality import Artifact, FitOptions, Modality, NormalScores, Prepared, modality_of
from memae.modality.held_out import HeldOut
from memae.modality.interface import SHOWN_SKIPPED
from memae.progress import Plan, Progress, fold_name, tell, within
from memae.recogniser import Recogniser
from memae.threshold import highest
from memae.training.history import History
from memae.training.loop import Device, local_seed
from memae.training.phases import fold_place, forget_training, holds_training, train_phases
from memae.training.plan import cross_fit_plan, fit_plan, trimmed_plan
from memae.training.steps import as_many_steps
from memae.training.trimming import chosen, first_training, halves, left_out, suspects
from memae.types import Source

__all__ = ["fit_artifact"]

NO_OPTIONS = FitOptions()


def fit_artifact(
    source: Source,
    config: Config,
    seed: int,
    options: FitOptions = NO_OPTIONS,
    *,
    device: Device = "auto",
    engine: Engine = "auto",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> tuple[Artifact, History]:
    """A model of the samples of `source`, its threshold set on those of them that no training saw.

    Args and errors are those of `memae.Detector.fit`, which opens the source and makes the config.
    """
    check_not_forked()
    modality = modality_of(config.network)
    tell(progress, Plan())
    prepared = modality.prepare(source, config, seed, options, progress)
    place = Path(checkpoint) if checkpoint is not None else None
    run = _Run(modality, config, device, engine, place, resume, progress)
    run.check_engine(prepared, seed)
    return run.whole(prepared, seed) if not prepared.folds else run.cross_fitted(prepared, seed)


@dataclass(frozen=True)
class _Run:
    """One call of `fit_artifact`: what every training of it shares."""

    modality: Modality
    config: Config
    device: Device
    engine: Engine
    checkpoint: Path | None
    resume: bool
    progress: Progress | None

    def check_engine(self, prepared: Prepared, seed: int) -> None:
        """Raises an error, before any training, if the engine cannot score what is to be trained."""
        if self.engine == "openvino":
            check_convertible(self._built(prepared, seed)[1], prepared.preprocess.shape)

    def whole(self, prepared: Prepared, seed: int) -> tuple[Artifact, History]:
        """A model whose threshold comes from a held-out part."""
        if self.progress is not None:
            self.progress(self._plan(prepared, seed))
        artifact, history = self._trained(prepared, seed)
        return self._calibrated(artifact, prepared), history

    def cross_fitted(self, prepared: Prepared, seed: int) -> tuple[Artifact, History]:
        """A model of all samples, whose threshold comes from models of the folds.

        Where another training is interrupted before it has a model to keep, the model of the first fold, with the
        threshold of its own held-out part, is the best so far.
        """
        folds, started = len(prepared.folds), time.perf_counter()
        if self.progress is not None:
            self.progress(cross_fit_plan(self._plan(prepared, seed), folds))
        if self.checkpoint and not self.resume:
            forget_training(self.checkpoint)
        first: tuple[Artifact, History] | None = None
        normal: list[NormalScores] = []
        groups: list[np.ndarray] = []
        categories: list[HeldOutCategories] = []
        for number, prepare in enumerate(prepared.folds, 1):
            run, interrupted = self._fold(number, folds), False
            try:
                fold = prepare()
                config = as_many_steps(self.config, len(fold.training), len(prepared.training))
                run = replace(run, config=config)
                artifact, history = run._trained(fold, local_seed(seed, 5, number))
                interrupted = history.interrupted
                if first is None or not interrupted:
                    normal.append(self.modality.normal_scores(artifact, fold.calibration, run.progress))
                    groups += [] if fold.calibration_groups is None else [fold.calibration_groups]
                    categories += _held_out_categories(artifact, fold)
            except KeyboardInterrupt:
                if first is None:
                    raise
                interrupted = True
            first = first or (artifact, history)
            if interrupted:
                return self._kept(*first, normal, groups, categories, seed, fold_name(number, folds))
        assert first is not None, "a cross-fit has folds"
        try:
            artifact, history = replace(self, resume=self._resumes(self.checkpoint))._trained(prepared, seed)
        except KeyboardInterrupt:
            return self._kept(*first, normal, groups, categories, seed, "the last training")
        artifact.facts.update(seconds=round(time.perf_counter() - started, 3), folds=folds)
        held_out = np.concatenate(groups) if groups else None
        return self._with_threshold(artifact, normal, held_out, categories), history

    def _kept(
        self,
        artifact: Artifact,
        history: History,
        normal: Sequence[NormalScores],
        groups: Sequence[np.ndarray],
        categories: Sequence[HeldOutCategories],
        seed: int,
        place: str,
    ) -> tuple[Artifact, History]:
        """The model of the first fold, where a cross-fit was interrupted at this place."""
        artifact.facts.update(seed=seed, interrupted=True, interrupted_in=place)
        artifact = self._with_threshold(artifact, normal[:1], groups[0] if groups else None, categories[:1])
        return artifact, replace(history, interrupted=True)

    def _fold(self, number: int, folds: int) -> _Run:
        """The run of one fold."""
        place = self.checkpoint / fold_place(number) if self.checkpoint else None
        told = within(self.progress, fold_name(number, folds))
        return replace(self, checkpoint=place, resume=self._resumes(place), progress=told)

    def _resumes(self, place: Path | None) -> bool:
        """Whether a training continues: those of a run that was interrupted have not all begun."""
        if not (self.resume and place and self.checkpoint):
            return self.resume
        begun = holds_training(self.checkpoint) or any(self.checkpoint.glob(f"{fold_place('*')}/*/state.json"))
        return holds_training(place) or not begun  # without any the training says so

    def _trained(self, prepared: Prepared, seed: int) -> tuple[Artifact, History]:
        """A trained model, examined, without a threshold."""
        started, samples, key_of = time.perf_counter(), len(prepared.training), prepared.key_of
        prepared, suspect = self._trimmed(prepared, seed)
        artifact, history = self._optimised(prepared, seed)
        if given := prepared.categories:
            recogniser = Recogniser.fit(artifact.model, prepared.training, given)
            artifact = replace(artifact, recogniser=recogniser)
        artifact.facts["seconds"] = round(time.perf_counter() - started, 3)
        if self.config.train.contamination:
            artifact.facts["left_out"] = {"training": left_out(suspect, samples, key_of)}
        return artifact, history

    def _optimised(self, prepared: Prepared, seed: int) -> tuple[Artifact, History]:
        """A model of all training samples, examined."""
        started, modality = time.perf_counter(), self.modality
        config, model = self._built(prepared, seed)
        history = train_phases(
            model,
            config,
            prepared.training,
            prepared.validation,
            seed,
            initial_samples=modality.initial_samples,
            initial_batch=modality.initial_batch,
            small_step=modality.small_step,
            device=self.device,
            checkpoint=self.checkpoint,
            resume=self.resume,
            progress=self.progress,
        )
        facts = _facts(prepared, seed, time.perf_counter() - started, history, model)
        facts["engine"] = str(choose(model, self.engine))
        model = scoring_form(model, self.engine)
        artifact = Artifact(config, prepared.preprocess, model, None, np.empty(0, dtype=np.int64), facts)
        artifact = modality.examine(artifact, prepared.whole, self.progress)
        if artifact.item_samples:
            named = artifact.item_samples.named(prepared.whole_key_of or prepared.key_of)
            artifact = replace(artifact, item_samples=named)
        if model.memory is not None:
            facts["memory"] = ItemCounts.of(model.memory, artifact.uses)._asdict()
        return artifact, history

    def _trimmed(self, prepared: Prepared, seed: int) -> tuple[Prepared, np.ndarray]:
        """The training part without what may be anomalies, and the numbers of these; see `training.trimming`."""
        share, samples = self.config.train.contamination, prepared.training
        untrained = self.config.train.epochs == 0 and self.config.memory.trained
        if not highest(len(samples), share) or untrained:
            return prepared, np.empty(0, dtype=np.int64)
        scores, parts = np.empty(len(samples)), halves(len(samples))
        for number, (seen, unseen) in enumerate((parts, parts[::-1]), 1):
            told = within(self.progress, f"looking for anomalies, half {number} of 2")
            run = replace(self, config=first_training(self.config), checkpoint=None, resume=False, progress=told)
            some = chosen(samples, seen)
            half = replace(prepared, training=some, whole=some, validation=None)
            artifact, history = run._optimised(half, local_seed(seed, 6, number))
            if history.interrupted:
                raise KeyboardInterrupt  # which of the samples to train on is not known yet
            scores[unseen.numpy()] = self.modality.training_scores(artifact, chosen(samples, unseen), told)
        suspect = suspects(scores, share)
        kept = np.setdiff1d(np.arange(len(samples)), suspect)
        training = chosen(samples, torch.from_numpy(kept))
        if prepared.categories:
            prepared = replace(prepared, categories=prepared.categories.take(kept))
        if prepared.whole is not samples:
            return replace(prepared, training=training), suspect
        key_of = prepared.key_of
        named = key_of and (lambda number: key_of(int(kept[number])))
        return replace(prepared, training=training, whole=training, key_of=named), suspect

    def _calibrated(self, artifact: Artifact, prepared: Prepared) -> Artifact:
        """The artifact with the threshold of the held-out part, if there is one."""
        if not len(prepared.calibration):
            return artifact
        normal = self.modality.normal_scores(artifact, prepared.calibration, self.progress)
        categories = _held_out_categories(artifact, prepared)
        found = self._with_threshold(artifact, [normal], prepared.calibration_groups, categories)
        if measured := memory_help(found, prepared.calibration):
            found.facts["memory_help"] = measured.facts
        if self.config.memory.keep_samples and isinstance(found.model.memory, Editable):
            found = replace(found, held_out=HeldOut.of(prepared.calibration, prepared.calibration_groups))
        return replace(found, item_use=item_use(len(normal.scores), normal.item_shares))

    def _with_threshold(
        self,
        artifact: Artifact,
        normal: Sequence[NormalScores],
        groups: np.ndarray | None,
        categories: Sequence[HeldOutCategories],
    ) -> Artifact:
        if share := self.config.threshold.contamination:
            scores = sum(len(part.scores) for part in normal)
            counts = {"count": highest(scores, share), "samples": scores}
            artifact.facts["left_out"] = {**artifact.facts.get("left_out", {}), "calibration": counts}
        held_out = HeldOutCategories.joined(categories)
        artifact, memory = self.modality.calibrate(artifact, normal, groups, held_out), artifact.model.memory
        if isinstance(memory, Streaming) and artifact.threshold:  # its scores are its distances
            memory.calibrate(torch.from_numpy(artifact.threshold.calibration))
        return artifact

    def _built(self, prepared: Prepared, seed: int) -> tuple[Config, Autoencoder]:
        """A fresh model, and the config with what the preset left open."""
        shape = prepared.preprocess.shape
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # manual_seed seeds them all
            torch.manual_seed(local_seed(seed))
            config = self.modality.resolve(self.config.with_own(**prepared.decided), shape)
            model = self.modality.build(config, shape, len(prepared.training))
            self.modality.pretrain(model)
            return config, model

    def _plan(self, prepared: Prepared, seed: int) -> Plan:
        config, model = self._built(prepared, seed)
        counts = prepared.counts
        like_whole = len(prepared.whole) * counts["calibration"] / counts["training"]
        plan = fit_plan(model, config, prepared.training, prepared.whole, like_whole, self.device)
        return trimmed_plan(plan) if config.train.contamination else plan


def _held_out_categories(artifact: Artifact, prepared: Prepared) -> list[HeldOutCategories]:
    """Of the held-out part; empty without categories."""
    if artifact.recogniser is None or prepared.calibration_categories is None:
        return []
    return [artifact.recogniser.held_out(artifact.model, prepared.calibration, prepared.calibration_categories)]


def _facts(prepared: Prepared, seed: int, seconds: float, history: History, model: Autoencoder) -> dict[str, Any]:
    return {
        # a path of other bytes than UTF-8 has no place in JSON as it is
        "origin": prepared.origin.encode(errors="surrogateescape").decode(errors="backslashreplace"),
        "samples": prepared.counts,
        **({"groups": dict(prepared.groups)} if prepared.groups else {}),
        "skipped": {
            "count": len(prepared.skipped),
            "first": [list(map(str, s)) for s in prepared.skipped[:SHOWN_SKIPPED]],
        },
        "notes": list(prepared.notes),
        "seed": seed,
        "seconds": round(seconds, 3),
        "kept_epoch": history.kept_epoch,
        "interrupted": history.interrupted,
        "losses": {
            "training": [record.loss for record in history.records],
            "held_out": [record.held_out_loss for record in history.records],
        },
        "last_epoch": asdict(history.records[-1]) if history.records else None,
        **({"samples_at_once": history.samples_at_once} if history.samples_at_once else {}),
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": str(next(model.parameters()).device),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    names = ("memae", "torch", "numpy", "safetensors", "accelerate")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}
