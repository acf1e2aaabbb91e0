"""From normal samples to a model with its threshold: prepare, build, warm up, start the memory, train, calibrate."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.engine import Engine, choose, scoring_form
from memae.modality import Artifact, FitOptions, Prepared, modality_of
from memae.modality.interface import SHOWN_SKIPPED
from memae.progress import Plan, Progress, tell
from memae.training.history import History
from memae.training.loop import Device, local_seed
from memae.training.phases import train_phases
from memae.training.plan import fit_plan
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
    modality = modality_of(config.network)
    tell(progress, Plan())
    prepared = modality.prepare(source, config, seed, options, progress)
    started, shape = time.perf_counter(), prepared.preprocess.shape
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # manual_seed seeds them all
        torch.manual_seed(local_seed(seed))
        config = modality.resolve(config, shape)
        model = modality.build(config, shape, len(prepared.training))
    if progress is not None:
        counts = prepared.counts
        like_whole = len(prepared.whole) * counts["calibration"] / counts["training"]
        progress(fit_plan(model, config, prepared.training, prepared.whole, like_whole, device))
    history = train_phases(
        model,
        config,
        prepared.training,
        prepared.validation,
        seed,
        initial_samples=modality.initial_samples,
        initial_batch=modality.initial_batch,
        small_step=modality.small_step,
        device=device,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    facts = _facts(prepared, seed, time.perf_counter() - started, history, model)
    facts["engine"] = str(choose(model, engine))
    artifact = Artifact(
        config, prepared.preprocess, scoring_form(model, engine), None, np.empty(0, dtype=np.int64), facts
    )
    return modality.calibrate(artifact, prepared, progress), history


def _facts(prepared: Prepared, seed: int, seconds: float, history: History, model: Autoencoder) -> dict[str, Any]:
    return {
        # a path of other bytes than UTF-8 has no place in JSON as it is
        "origin": prepared.origin.encode(errors="surrogateescape").decode(errors="backslashreplace"),
        "samples": prepared.counts,
        "skipped": {
            "count": len(prepared.skipped),
            "first": [list(map(str, s)) for s in prepared.skipped[:SHOWN_SKIPPED]],
        },
        "notes": list(prepared.notes),
        "seed": seed,
        "seconds": round(seconds, 3),
        "kept_epoch": history.kept_epoch,
        "interrupted": history.interrupted,
        "last_epoch": asdict(history.records[-1]) if history.records else None,
        **({"samples_at_once": history.samples_at_once} if history.samples_at_once else {}),
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": str(next(model.parameters()).device),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    names = ("memae", "torch", "numpy", "safetensors", "accelerate")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}
