"""From normal samples to a model with its threshold: deal, build, warm up, start the memory, train, calibrate."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.artifact import Artifact
from memae.autoencoder import Autoencoder
from memae.batch_limit import BatchLimit
from memae.config import Config
from memae.encoded import Encoded, fitting
from memae.errors import ConfigError
from memae.hold_out import Prepared, prepare
from memae.image.preprocess import ImagePreprocess
from memae.image.source import ImageSource
from memae.image.tiles import OwnSizeImages, Tiles
from memae.memory.base import Fillable, Memory
from memae.memory.starting import starting_items
from memae.memory.usage import use_counts
from memae.presets import build, settled
from memae.progress import Warn, tell
from memae.scoring import JoinedMap, error_maps, hottest, sample_scores
from memae.sources import Source
from memae.stages import Watcher, stage
from memae.threshold import Threshold
from memae.training.checkpoint import Checkpoint, checkpoint_of
from memae.training.history import History, Monitor
from memae.training.loop import Device, local_seed, train
from memae.training.objective import ReconstructionObjective
from memae.video.prepare import score_normal
from memae.video.preprocess import VideoPreprocess
from memae.video.source import VideoSource

__all__ = ["calibrated", "fit_artifact", "forget_training"]

CHECKPOINTS = "warmup", "main"  # the parts of a training that are resumed

INITIAL_SAMPLES = 10_000  # images or rows that the memory is started from
INITIAL_BYTES = 256 << 20  # of input per forward pass for that
INITIAL_CLIPS = 512  # clips or crops of them, each of which makes many queries
CLIP_BATCH = 16  # of these per forward pass


def fit_artifact(
    source: Source,
    config: Config,
    seed: int,
    *,
    dropped: Sequence[str] = (),
    categorical: Sequence[str] = (),
    stream: bool | None = None,
    device: Device = "auto",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    monitor: Monitor | None = None,
) -> tuple[Artifact, History]:
    """A model of the samples of `source`, its threshold set on those of them that no training saw.

    Args and errors are those of `memae.Detector.fit`, which opens the source and makes the config.
    """
    prepared = prepare(
        _sized(source, config, monitor), config, seed, dropped, categorical, stream=stream, watcher=monitor
    )
    started = time.perf_counter()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # manual_seed seeds them all
        torch.manual_seed(local_seed(seed))
        config = settled(config, prepared.preprocess.shape)
        model = build(config, prepared.preprocess.shape, len(prepared.training))
    saved = _checkpoints(checkpoint, config, seed, prepared.training, resume)
    history = _train(model, config, prepared, seed, device, saved, monitor)
    facts = _facts(prepared, seed, time.perf_counter() - started, history, model)
    artifact = Artifact(config, prepared.preprocess, model, None, np.empty(0, dtype=np.int64), facts)
    return calibrated(_looked_over(artifact, prepared.usual, monitor), prepared, monitor), history


def _sized(source: Source, config: Config, monitor: Monitor | None) -> Source:
    """The source at the size that the network takes."""
    if config.preprocess.tile and source.modality != "image":
        raise ConfigError(f"{source.origin}: preprocess.tile is for images, and these are none; leave it out")
    if isinstance(source, VideoSource):
        return source.resized(config.video.height, config.video.width)
    if isinstance(source, ImageSource):
        source = source.own_size() if config.preprocess.tile else source.sized(config.preprocess.image_size)
        for note in source.notes:
            tell(monitor, Warn(note))  # such as another size: before a long training, and not behind it alone
    return source


def _facts(prepared: Prepared, seed: int, seconds: float, history: History, model: Autoencoder) -> dict[str, Any]:
    return {
        # a path of other bytes than UTF-8 has no place in JSON as it is
        "origin": prepared.origin.encode(errors="surrogateescape").decode(errors="backslashreplace"),
        "samples": prepared.counts,
        "skipped": {
            "count": len(prepared.skipped),
            "first": [list(map(str, s)) for s in prepared.skipped[:5]],
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


def _train(
    model: Autoencoder,
    config: Config,
    prepared: Prepared,
    seed: int,
    device: Device,
    saved: tuple[Checkpoint, Checkpoint] | None,
    monitor: Monitor | None,
) -> History:
    """Warms up as a plain autoencoder, starts the memory from the encodings, and trains the whole."""
    memory, settings, training = config.memory, config.train, prepared.training
    objective = ReconstructionObjective(reduction=settings.reduction, noise=settings.noise)
    warm, main = saved or (None, None)

    def start_memory(items: Memory) -> None:
        if memory.initialisation == "uniform" or not isinstance(items, Fillable):
            return  # it starts as it was made
        generator = torch.Generator().manual_seed(local_seed(seed, 2))
        order = torch.randperm(len(training), generator=generator)
        encodings = _encodings(model, training, order, monitor, trained=not memory.trained)
        with stage(monitor, f"starting the memory ({memory.initialisation})", "items"):
            items.initialise(starting_items(encodings, items.num_items, memory.initialisation, generator, monitor))

    if model.memory is not None and not memory.trained:
        history = train(
            Autoencoder(model.encoder, None, model.decoder),
            training,
            prepared.held_out,
            objective=objective,
            settings=settings,
            seed=seed,
            device=device,
            checkpoint=main,
            monitor=monitor,
        )
        model.eval().to(next(model.encoder.parameters()).device)
        start_memory(model.memory)
        return history
    if model.memory is not None and not (main and main.exists()):
        if memory.warmup_epochs and settings.epochs != 0:  # no epochs at all: the untrained network
            brief = {"epochs": memory.warmup_epochs, "patience": 0, "decay_share": 0.0}
            with stage(monitor, "warming up", "epochs", memory.warmup_epochs):
                warmed = train(
                    Autoencoder(model.encoder, None, model.decoder),
                    training,
                    None,
                    objective=objective,
                    settings=settings.model_copy(update=brief),
                    seed=local_seed(seed, 1),
                    device=device,
                    checkpoint=warm,
                    monitor=monitor,
                )
            if warmed.interrupted:
                raise KeyboardInterrupt  # a memory that never started is nothing to keep
        start_memory(model.memory)
    return train(
        model,
        training,
        prepared.held_out,
        objective=objective,
        settings=settings,
        seed=seed,
        device=device,
        revive_epochs=memory.revive_epochs,
        checkpoint=main,
        monitor=monitor,
    )


@torch.no_grad()
def _encodings(
    model: Autoencoder, training: Encoded, order: Tensor, watcher: Watcher | None, *, trained: bool
) -> Tensor:
    """(S, C) the queries that the first samples of `order` make.

    They are as scoring will see them where the model is `trained`; else BatchNorm takes the batch's own statistics, as
    it has no others yet.
    """
    clips = len(training.shape) == 5
    some = order[: INITIAL_CLIPS if clips else INITIAL_SAMPLES]
    device = next(model.parameters()).device
    was_training = model.training
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    model.train(not trained)
    parts = torch.split(some, CLIP_BATCH if clips else min(INITIAL_SAMPLES, fitting(training, INITIAL_BYTES)))
    limit = BatchLimit("starting the memory from", watcher, least=2)
    found = []
    with stage(watcher, "encoding for the memory", "clips" if clips else "samples", len(some)) as done:
        for part in parts:
            found.append(_in_parts(model, training, part, device, limit))
            done(len(part))
    encodings = torch.cat(found) if len(found) > 1 else found[0]  # a copy takes as much memory again
    for name, value in model.named_buffers():
        value.copy_(buffers[name])
    model.train(was_training)
    return encodings


def _in_parts(
    model: Autoencoder, training: Encoded, part: Tensor, device: torch.device, limit: BatchLimit
) -> Tensor:
    """The queries of the samples `part`, at once or, where memory runs out, in equal pieces."""
    while True:
        pieces = part.tensor_split(-(-len(part) // limit.fit(len(part))))
        try:
            found = [
                model.queries(model.encode(training[piece.to(training.device)].to(device))) for piece in pieces
            ]
            return torch.cat(found).flatten(0, 1)
        except (MemoryError, RuntimeError) as error:
            limit.halve(error, len(pieces[0]))


def _looked_over(artifact: Artifact, usual: Encoded, watcher: Watcher | None) -> Artifact:
    """The artifact with what the trained model makes of what it was trained on: uses of items, and the usual error."""
    model, relative = artifact.model, artifact.config.score.relative and len(usual.shape) == 4
    if model.memory is None and not relative:
        return artifact
    device = next(model.parameters()).device
    counts = torch.zeros(
        0 if model.memory is None else model.memory.num_items + 2, dtype=torch.long, device=device
    )
    total = torch.zeros((), dtype=torch.float64)
    doing = "finding the usual error of" if model.memory is None else "counting the use of items by"
    unit = "clips" if len(usual.shape) == 5 else "samples"
    with stage(watcher, doing.rsplit(" ", 1)[0], unit, len(usual)) as done:
        for part in error_maps(model, usual, artifact.measure, BatchLimit(doing, watcher)):
            if part.read is not None:
                counts += use_counts(part.read)
            if relative:
                total = total + part.squares.sum(dim=0, dtype=torch.float64).cpu()
            done(len(part.errors))
    return replace(
        artifact,
        uses=counts[:-2].cpu().numpy(),
        usual_error=(total / len(usual)).float() if relative else None,
    )


def calibrated(artifact: Artifact, prepared: Prepared, watcher: Watcher | None) -> Artifact:
    """The artifact with its threshold, from normal samples that no training saw."""
    rate = artifact.config.threshold.false_alarm_rate
    if isinstance(prepared.calibration, OwnSizeImages):
        return _calibrated_on_tiles(artifact, prepared.calibration, watcher)
    if not isinstance(prepared.calibration, tuple):
        if not len(prepared.calibration):
            return artifact
        with stage(watcher, "setting the threshold", "samples", len(prepared.calibration)) as done:
            limit = BatchLimit("setting the threshold from", watcher)
            scores = sample_scores(artifact.model, prepared.calibration, artifact.measure, done, limit)
        peaks = _peaks(artifact, prepared.calibration, scores, watcher)
        return replace(artifact, threshold=Threshold.fit(scores, rate), peaks=peaks)
    if not prepared.calibration:
        return artifact
    frames = sum(len(piece) for piece in prepared.calibration)
    with stage(watcher, "setting the threshold", "frames", frames) as done:
        assert isinstance(artifact.preprocess, VideoPreprocess)
        normal = score_normal(
            artifact.model, artifact.preprocess, artifact.config.video, prepared.calibration, done
        )
    threshold = Threshold.fit(normal.scores, rate)
    return replace(artifact, normal_footage=normal.series, peaks=normal.maxima, threshold=threshold)


def _calibrated_on_tiles(artifact: Artifact, images: OwnSizeImages, watcher: Watcher | None) -> Artifact:
    if not len(images):
        return artifact
    assert isinstance(artifact.preprocess, ImagePreprocess)
    found, limit = [], BatchLimit("setting the threshold from", watcher)
    with stage(watcher, "setting the threshold", "images", len(images)) as done:
        for pixels in images.images:
            tiles = Tiles.of(pixels, artifact.preprocess, images.origin)
            joined = JoinedMap.of(artifact.model, tiles, artifact.measure, limit)
            found.append((joined.score(artifact.config.score.pool), joined.score("max")))
            done(1)
    scores, peaks = (np.array(values) for values in zip(*found, strict=True))
    return replace(
        artifact, threshold=Threshold.fit(scores, artifact.config.threshold.false_alarm_rate), peaks=peaks
    )


def _peaks(artifact: Artifact, x: Encoded, scores: np.ndarray, watcher: Watcher | None) -> np.ndarray:
    """(S,) float64 the greatest heat in each of the encoded images, which may be their scores; empty for rows."""
    if len(x.shape) != 4:
        return np.empty(0)
    if artifact.config.score.pool == "max":
        return scores
    peaks = []
    with stage(watcher, "setting the scale of maps", "samples", len(x)) as done:
        limit = BatchLimit("setting the scale of maps from", watcher)
        for part in error_maps(artifact.model, x, artifact.measure, limit):
            peaks.append(hottest(part.squares.cpu().numpy()))
            done(len(part.errors))
    return np.concatenate(peaks)


def forget_training(checkpoint: Path) -> None:
    """Removes the state of a training that was saved in `checkpoint`; the directory itself stays."""
    for part in CHECKPOINTS:
        shutil.rmtree(checkpoint / part, ignore_errors=True)


def _checkpoints(
    path: str | Path | None, config: Config, seed: int, training: Encoded, resume: bool
) -> tuple[Checkpoint, Checkpoint] | None:
    """The places of the warm-up's and the main training's state; emptied unless they are to be continued."""
    if path is None:
        if resume:
            raise ConfigError("resume needs the checkpoint directory of the run to continue; pass checkpoint=")
        return None
    run = (config.model_dump(), seed)
    warm, main = (checkpoint_of(Path(path) / part, training, run) for part in CHECKPOINTS)
    if resume and not (warm.exists() or main.exists()):
        raise ConfigError(f"{path}: holds no training to resume; leave `resume=True` out to start one")
    if not resume:
        forget_training(Path(path))
    return warm, main


def _versions() -> dict[str, str]:
    names = ("memae", "torch", "numpy", "safetensors", "accelerate")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}
