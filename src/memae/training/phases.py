"""The phases of a training: warm-up as a plain autoencoder, the start of the memory, and the training of the whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.engine.batch_limit import BatchLimit
from memae.errors import ConfigError
from memae.memory.base import Fillable, Memory
from memae.memory.starting import starting_items
from memae.progress import Progress, stage
from memae.training.checkpoint import Checkpoint, checkpoint_of
from memae.training.history import History
from memae.training.loop import Device, local_seed, train
from memae.training.objective import ReconstructionObjective
from memae.types import Encoded, fitting

__all__ = ["forget_training", "train_phases"]

CHECKPOINTS = "warmup", "main"  # the phases that are resumed
INITIAL_BYTES = 256 << 20  # of input per forward pass that the memory is started from


class Initial(NamedTuple):
    """What a memory is started from."""

    samples: int
    batch: int
    """Of these that go through the encoder at once, at most."""


def train_phases(
    model: Autoencoder,
    config: Config,
    training: Encoded,
    validation: Encoded | None,
    seed: int,
    *,
    initial: tuple[int, int],
    small_step: int = 0,
    device: Device = "auto",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> History:
    """Trains a fresh model in place; see `memae.training.loop.train` for what an interruption keeps.

    Args:
        model: fresh, with or without a memory.
        config: sections `memory` and `train`.
        training: (S, ...) encoded samples.
        validation: (V, ...) for early stopping and the log.
        seed: of all randomness.
        initial: how many samples a memory is started from, and how many of these go through the encoder at once.
        small_step: see `memae.training.loop.train`.
        device: "auto" takes the accelerator.
        checkpoint: a directory for the state after every epoch.
        resume: continue from `checkpoint`.
        progress: told how far the work is.

    Raises:
        ConfigError: nothing to resume, or a checkpoint of another run.
        KeyboardInterrupt: before the memory was started.
    """
    saved = _checkpoints(checkpoint, config, seed, training, resume)
    return _Phases(model, config, training, validation, seed, Initial(*initial), device, small_step, progress).run(
        *saved
    )


class _Phases:
    """What the phases of one training share."""

    def __init__(
        self,
        model: Autoencoder,
        config: Config,
        training: Encoded,
        validation: Encoded | None,
        seed: int,
        initial: Initial,
        device: Device,
        small_step: int,
        progress: Progress | None,
    ) -> None:
        self._model, self._memory, self._settings = model, config.memory, config.train
        self._training, self._validation, self._seed, self._initial = training, validation, seed, initial
        self._device, self._small_step, self._progress = device, small_step, progress
        self._objective = ReconstructionObjective(reduction=config.train.reduction, noise=config.train.noise)

    def run(self, warm: Checkpoint | None, main: Checkpoint | None) -> History:
        """All phases; `warm` and `main` are where the state of the two trainings is saved."""
        memory = self._model.memory
        if memory is not None and not self._memory.trained:
            history = self._train(self._plain, main)
            self._model.eval().to(next(self._model.encoder.parameters()).device)
            self._start(memory)
            return history
        if memory is not None and not (main and main.exists()):
            if (
                self._memory.warmup_epochs and self._settings.epochs != 0
            ):  # no epochs at all: the untrained network
                self._warm_up(warm)
            self._start(memory)
        return self._train(self._model, main, revive_epochs=self._memory.revive_epochs)

    @property
    def _plain(self) -> Autoencoder:
        return Autoencoder(self._model.encoder, None, self._model.decoder)

    def _train(self, model: Autoencoder, checkpoint: Checkpoint | None, revive_epochs: int = 0) -> History:
        return train(
            model,
            self._training,
            self._validation,
            objective=self._objective,
            settings=self._settings,
            seed=self._seed,
            device=self._device,
            small_step=self._small_step,
            revive_epochs=revive_epochs,
            checkpoint=checkpoint,
            progress=self._progress,
        )

    def _warm_up(self, checkpoint: Checkpoint | None) -> None:
        epochs = self._memory.warmup_epochs
        brief = {"epochs": epochs, "patience": 0, "decay_share": 0.0}
        with stage(self._progress, "warming up", "epochs", epochs):
            warmed = train(
                self._plain,
                self._training,
                None,
                objective=self._objective,
                settings=self._settings.model_copy(update=brief),
                seed=local_seed(self._seed, 1),
                device=self._device,
                small_step=self._small_step,
                checkpoint=checkpoint,
                progress=self._progress,
            )
        if warmed.interrupted:
            raise KeyboardInterrupt  # a memory that never started is nothing to keep

    def _start(self, items: Memory) -> None:
        """Starts the memory from the queries of training samples; "uniform" leaves it as it was made."""
        how = self._memory.initialisation
        if how == "uniform" or not isinstance(items, Fillable):
            return
        generator = torch.Generator().manual_seed(local_seed(self._seed, 2))
        order = torch.randperm(len(self._training), generator=generator)
        encodings = self._encodings(order[: self._initial.samples])
        with stage(self._progress, f"starting the memory ({how})", "items"):
            items.initialise(starting_items(encodings, items.num_items, how, generator, self._progress))

    @torch.no_grad()
    def _encodings(self, some: Tensor) -> Tensor:
        """(S, C) the queries that some training samples make.

        They are as scoring will see them where the network is trained; else BatchNorm takes the batch's own
        statistics, as it has no others yet.
        """
        model = self._model
        was_training, device = model.training, next(model.parameters()).device
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        model.train(self._memory.trained)
        limit = BatchLimit("starting the memory from", self._progress, least=2)
        found = []
        with stage(self._progress, "encoding for the memory", "samples", len(some)) as done:
            for part in torch.split(some, min(self._initial.batch, fitting(self._training, INITIAL_BYTES))):
                found.append(_in_parts(model, self._training, part, device, limit))
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


def forget_training(checkpoint: Path) -> None:
    """Removes the state of a training that was saved in `checkpoint`; the directory itself stays."""
    for part in CHECKPOINTS:
        shutil.rmtree(checkpoint / part, ignore_errors=True)


def _checkpoints(
    path: str | Path | None, config: Config, seed: int, training: Encoded, resume: bool
) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The places of the warm-up's and the main training's state; emptied unless they are to be continued."""
    if path is None:
        if resume:
            raise ConfigError("resume needs the checkpoint directory of the run to continue; pass checkpoint=")
        return None, None
    run = (config.model_dump(), seed)
    warm, main = (checkpoint_of(Path(path) / part, training, run) for part in CHECKPOINTS)
    if resume and not (warm.exists() or main.exists()):
        raise ConfigError(f"{path}: holds no training to resume; leave `resume=True` out to start one")
    if not resume:
        forget_training(Path(path))
    return warm, main
