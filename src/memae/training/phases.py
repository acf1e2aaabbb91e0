"""The phases of a training: warm-up as a plain autoencoder, the start of the memory, and the training of the whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.engine.batch_limit import BatchLimit
from memae.errors import ConfigError
from memae.files.parts import recover, remove
from memae.memory.base import Fillable, Memory
from memae.memory.starting import starting_items
from memae.progress import Progress, stage
from memae.training.checkpoint import Checkpoint, checkpoint_of
from memae.training.history import History
from memae.training.loop import Device, local_seed, train
from memae.training.objective import ReconstructionObjective
from memae.types import Encoded, fitting

__all__ = ["fold_place", "forget_training", "holds_training", "train_phases"]

CHECKPOINTS = "warmup", "main"  # the phases that are resumed
ENCODED_BYTES = 512 << 20  # of encodings that it is started from
INITIAL_BYTES = 256 << 20  # of input per forward pass that the memory is started from


def train_phases(
    model: Autoencoder,
    config: Config,
    training: Encoded,
    validation: Encoded | None,
    seed: int,
    *,
    initial_samples: int,
    initial_batch: int,
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
        initial_samples: how many samples a memory is started from, at most.
        initial_batch: how many of these go through the encoder at once, at most.
        small_step: see `memae.training.loop.train`.
        device: "auto" takes the accelerator.
        checkpoint: a directory for the state after every epoch.
        resume: continue from `checkpoint`.
        progress: told how far the work is.

    Raises:
        ConfigError: nothing to resume, or a checkpoint of another run.
        KeyboardInterrupt: before the memory was started.
    """
    warm, main = _checkpoints(checkpoint, config, seed, training, resume)
    memory, plain = model.memory, model.without_memory()
    objective = ReconstructionObjective(reduction=config.train.reduction, noise=config.train.noise)
    run = partial(train, objective=objective, device=device, small_step=small_step, progress=progress)
    run_main = partial(run, x=training, validation=validation, settings=config.train, seed=seed, checkpoint=main)

    def start(memory: Memory) -> None:
        """Starts the memory from the queries of training samples; "uniform" leaves it as it was made."""
        how = config.memory.initialisation
        if how == "uniform" or not isinstance(memory, Fillable):
            return
        generator = torch.Generator().manual_seed(local_seed(seed, 2))
        some = torch.randperm(len(training), generator=generator)[:initial_samples]
        encodings = _encodings(model, training, some, initial_batch, config.memory.trained, progress)
        with stage(progress, f"starting the memory ({how})", "items"):
            memory.initialise(starting_items(encodings, memory.num_items, how, generator, progress))

    if memory is not None and not config.memory.trained:
        learns = next(plain.parameters(), None) is not None  # an encoder that another runtime runs has none
        history = run_main(plain) if learns else History((), 0)
        model.eval().to(next(iter(model.encoder.state_dict().values())).device)
        start(memory)
        return history
    if memory is not None and not (main and main.exists()):
        warmup_epochs = config.memory.warmup_epochs
        if warmup_epochs and config.train.epochs != 0:  # no epochs at all: the untrained network
            brief = config.train.model_copy(update={"epochs": warmup_epochs, "patience": 0, "decay_share": 0.0})
            with stage(progress, "warming up", "epochs", warmup_epochs):
                warmed = run(plain, training, None, settings=brief, seed=local_seed(seed, 1), checkpoint=warm)
            if warmed.interrupted:
                raise KeyboardInterrupt  # a memory that never started is nothing to keep
        start(memory)
    return run_main(model, revive_epochs=config.memory.revive_epochs)


@torch.no_grad()
def _encodings(
    model: Autoencoder, training: Encoded, some: Tensor, batch: int, trained: bool, progress: Progress | None
) -> Tensor:
    """(S, C) the queries that some training samples make, `batch` of them at once.

    They are as scoring will see them where the network is trained before its memory starts; else, where the two
    are `trained` together, BatchNorm takes the batch's own statistics, as it has no others yet.
    """
    was_training, device = model.training, next(model.parameters()).device
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    model.train(trained)
    limit = BatchLimit("starting the memory from", progress, least=2)
    found, room = list[Tensor](), ENCODED_BYTES
    with stage(progress, "encoding for the memory", "samples", len(some)) as done:
        for part in torch.split(some, min(batch, fitting(training, INITIAL_BYTES))):
            if room > 0:  # a map of features may take more than its image; the samples are in a random order
                found.append(_in_parts(model, training, part, device, limit))
                room -= found[-1].nbytes
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
            queries = torch.cat(found).flatten(0, 1)
            return queries[queries.any(dim=1)] if model.target == "encoding" else queries  # others are of no image
        except (MemoryError, RuntimeError) as error:
            limit.halve(error, len(pieces[0]))


def forget_training(checkpoint: Path) -> None:
    """Removes the states of trainings that were saved in `checkpoint`, also of folds; the directory itself stays."""
    for place in (checkpoint / part for part in CHECKPOINTS):
        remove(place)
    for place in checkpoint.glob(fold_place("*")):
        remove(place)


def fold_place(number: object) -> str:
    """The folder below a checkpoint for the training of a fold."""
    return f"fold_{number}"


def holds_training(checkpoint: Path) -> bool:
    """Whether the state of a training was saved there; not of one of its folds."""
    places = [checkpoint / part for part in CHECKPOINTS]
    for place in places:
        recover(place)
    return any((place / "state.json").exists() for place in places)


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
    if resume and not any([warm.exists(), main.exists()]):  # both, as each looks for leftovers
        raise ConfigError(f"{path}: holds no training to resume; leave `resume=True` out to start one")
    if not resume:
        warm.remove()
        main.remove()
    return warm, main
