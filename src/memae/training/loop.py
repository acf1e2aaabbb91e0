"""One training loop for every modality and every method; the objective is its only seam.

Data is cut into batches by index: on a tensor, or on clips that are made when they are asked for. All
randomness of an epoch comes from (seed, epoch), so a run that was stopped and resumed meets the same numbers as one
that was not.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from memae.autoencoder import Autoencoder
from memae.config import TrainConfig
from memae.deprecated import renamed_arguments
from memae.engine import available_threads, one_thread
from memae.engine.batch_limit import BatchLimit
from memae.errors import ConfigError, WriteError
from memae.files.atomic import unwritten
from memae.memory.base import Editable, Memory, MemoryRead
from memae.memory.starting import random_items
from memae.memory.usage import memory_health, use_counts
from memae.progress import Done, Progress, Warn, stage, tell
from memae.training.accelerator import Device, accelerator_for
from memae.training.checkpoint import Checkpoint, TrainingState, restore, save
from memae.training.compiled_gradients import compiled_gradients
from memae.training.flat_adam import FlatAdam
from memae.training.history import EpochRecord, History
from memae.training.interrupt import Interrupt
from memae.training.objective import Objective, ReconstructionObjective
from memae.training.steps import epochs_of, few_threads, learning_rate, learns_from_one, steps_of, usual_batch_size
from memae.types import Encoded, fitting

__all__ = ["Device", "local_seed", "train"]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
FLAT_PARAMETERS = 400_000  # up to so many, Adam's calls take longer than to add gradients up in one vector
VALIDATION_SAMPLES, VALIDATION_BYTES = 4096, 8 << 20  # of input per forward pass of the held-out loss
VALIDATION_LOGGED = 2_000  # samples of the held-out loss where it is logged and ends nothing
REVIVAL_BYTES = 64 << 20  # of input: clips are large
REVIVAL_SAMPLES = 4096  # samples whose encodings dead items are replaced from


def local_seed(*place: int) -> int:
    """A seed for one place of a run, such as (seed, epoch): well mixed, and equal on every machine."""
    return int(np.random.SeedSequence(place).generate_state(1)[0])


@renamed_arguments(monitor="progress", held_out="validation")
def train(
    model: nn.Module,
    x: Encoded,
    validation: Encoded | None,
    *,
    objective: Objective,
    settings: TrainConfig,
    seed: int,
    device: Device = "auto",
    revive_epochs: int = 0,
    small_step: int = 0,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> History:
    """Trains `model` in place, on the accelerator if there is one, and in all processes of a launch.

    With `settings.patience` the weights of the best epoch by held-out loss are kept, else those of the last. A
    KeyboardInterrupt after the first epoch ends the training with the best weights so far and `interrupted` set;
    before that it passes through. An existing `checkpoint` is continued from, bit for bit on the CPU.

    Where memory runs out, a batch goes through the model in parts from then on, each half as large as what did not
    fit; their gradients add up to that of the batch, so a step stays a step. BatchNorm then sees each part alone. A
    launch of several processes fails instead: the others would wait for gradients of parts that they do not have.

    Args:
        model: with its output what `objective` takes. An attribute `memory` is watched over and revived.
        x: (S, ...) training samples, on any device.
        validation: (V, ...) normal samples for early stopping and the log, or None; in a random order, as without
            patience only the first 2,000 are looked at.
        objective: the loss.
        settings: epochs, batch size, learning rate, patience, precision. A CPU that has no bfloat16 in hardware takes
            float32 in its place.
        seed: of the order of the samples and of everything random in the objective; global state is untouched.
        device: "auto" takes the accelerator.
        revive_epochs: after each of the first so many epochs, dead items become encodings drawn at random.
        small_step: parameters times samples of the least step that is worth more than one thread.
        checkpoint: where to save the state after every epoch.
        progress: who is told.

    Raises:
        ConfigError: patience without held-out samples, a checkpoint of another run, or a loss that is not finite.
        OutOfMemoryError: there is no room for the least part of a batch.
    """
    if settings.patience and validation is None:
        raise ConfigError(
            "train.patience needs held-out samples: raise train.validation_share, or set train.patience=0"
        )
    accelerator = accelerator_for(settings.precision, device)
    cuda = [accelerator.device] if accelerator.device.type == "cuda" else []
    batch = min(len(x), settings.batch_size or usual_batch_size(len(x)))
    settings = settings.model_copy(update={"epochs": epochs_of(settings, len(x))})
    threads = available_threads()
    with torch.random.fork_rng(devices=cuda), few_threads(model, batch, small_step), Interrupt() as interrupt:
        told = progress if accelerator.is_main_process else None
        return _Loop(
            accelerator, model, x, validation, objective, settings, seed, revive_epochs, checkpoint, told, threads,
            interrupt,
        ).run()  # fmt: skip


@dataclass(eq=False)
class _Loop:
    """One call of `train`: its arguments, and what every epoch shares."""

    accelerator: Any
    model: nn.Module
    x: Encoded
    validation: Encoded | None
    objective: Objective
    settings: TrainConfig
    seed: int
    revive_epochs: int
    checkpoint: Checkpoint | None
    progress: Progress | None
    threads: int
    interrupt: Interrupt

    def __post_init__(self) -> None:
        model, accelerator = self.model, self.accelerator
        norms = any(isinstance(part, BATCH_NORMS) for part in model.modules())  # one sample has no statistics
        self.limit = BatchLimit("training on", self.progress, least=2 if norms else 1)
        self.judging = BatchLimit("finding the held-out loss of", self.progress)
        model.to(accelerator.device)
        self.x = self.x.to(accelerator.device)
        if self.validation is not None:
            self.validation = self.validation.to(accelerator.device)
            if not self.settings.patience and len(self.validation) > VALIDATION_LOGGED:
                self.validation = self.validation[:VALIDATION_LOGGED]
        self.memory: Memory | None = getattr(model, "memory", None)
        self.reads: list[MemoryRead] = []  # of this step, for a memory that learns from them
        # alone and in float32 there is nothing to wrap; to see that takes Accelerate two seconds of imports
        self.plain = accelerator.num_processes == 1 and accelerator.mixed_precision == "no"
        self.wrapped = model if self.plain else accelerator.prepare(model)
        # Not prepared: Accelerate's wrapper is for loss scaling and accumulated gradients, of which there are none
        # here, and it searches the import path at every step, for a quarter of the time of a step on a table.
        parameters, rate, shape = model.parameters(), self.settings.learning_rate, tuple(self.x.shape[1:])
        self.compiled = compiled_gradients(model, self.objective, shape, self.threads) if self.plain else None
        flat = self.compiled or (self.plain and _flat(model, self.objective))
        self.optimizer = FlatAdam(parameters, rate) if flat else torch.optim.Adam(parameters, lr=rate, fused=True)
        self.state = TrainingState()

    def run(self) -> History:
        """All epochs, or those that an interruption or patience leaves; the model then has the weights to keep."""
        if self.checkpoint and self.checkpoint.exists():
            self.state = restore(self.checkpoint, self.model, self.optimizer, self.accelerator.device)
        state, samples, epochs = self.state, len(self.x), self.settings.epochs or 0
        interrupted = False
        before = len(state.records) * samples
        try:
            with stage(self.progress, "training", "samples", epochs * samples, done=before, epochs=epochs) as done:
                while len(state.records) < epochs and not self._stale():
                    self._epoch(done)
                    if self._anyone(self.interrupt.asked):
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            if not state.records:
                raise
            interrupted = True
        finally:
            self._hand_back()
        keep_best = bool(state.best) and (bool(self.settings.patience) or interrupted)
        if keep_best:
            self.model.load_state_dict(state.best)
        self.model.eval()
        kept = state.best_epoch if keep_best else len(state.records)
        return History(tuple(state.records), kept, interrupted, self.limit.most)

    def _hand_back(self) -> None:
        """Leaves the model as it came: a module of its own, with memory of its own."""
        if not self.plain:
            self.accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=False)
        if isinstance(self.optimizer, FlatAdam):
            self.optimizer.release()

    def _epoch(self, done: Done) -> None:
        epoch = len(self.state.records) + 1
        torch.manual_seed(local_seed(self.seed, epoch, self.accelerator.process_index))
        started = time.perf_counter()
        # torch's threads stay awake between two operations, and would take the cores from the compiled gradients
        with one_thread() if self.compiled else nullcontext():
            loss, counts = self._pass_over(epoch, done)
        self._share_buffers()
        seconds = time.perf_counter() - started
        if not np.isfinite(loss):
            raise ConfigError(
                f"training diverged: the loss of epoch {epoch} is {loss}; lower train.learning_rate "
                f"(now {self.settings.learning_rate:g}) or look for extreme values in the data"
            )
        held_out_loss, held_out_terms = self._validation_loss()
        counts = None if counts is None else self.accelerator.reduce(counts, "sum")
        record = EpochRecord(
            epoch=epoch,
            loss=loss,
            held_out_loss=held_out_loss,
            seconds=seconds,
            samples_per_second=len(self.x) / seconds,
            memory=memory_health(self.memory, counts) if self.memory and counts is not None else None,
            held_out_terms=held_out_terms,
        )
        self._keep_best(record)
        if counts is not None and epoch <= self.revive_epochs:
            self._revive(counts[:-2], epoch)
        try:  # the log first: a resume can cut lines beyond the checkpoint, and not add a missing one
            tell(self.progress, record)
        finally:
            self._save(epoch)

    def _keep_best(self, record: EpochRecord) -> None:
        state = self.state
        state.records.append(record)
        loss = record.loss if record.held_out_loss is None else record.held_out_loss
        if loss < state.best_loss or not state.best:
            state.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            state.best_loss, state.best_epoch = loss, record.epoch

    def _save(self, epoch: int) -> None:
        """Writes the checkpoint; where that fails there is a warning, as the training itself is worth more."""
        if not (self.checkpoint and self.accelerator.is_main_process):
            return
        try:
            save(self.checkpoint, self.model, self.optimizer, self.state)
        except (OSError, SafetensorError, WriteError) as error:
            why = str(error) if isinstance(error, WriteError) else unwritten(self.checkpoint.path, error)
            tell(self.progress, Warn(f"no checkpoint of epoch {epoch}: {why}; the training goes on"))

    def _pass_over(self, epoch: int, done: Done) -> tuple[float, Tensor | None]:
        """The mean loss of an epoch, and the `use_counts` of this process."""
        self.model.train()
        total: Tensor | float = 0.0
        seen, world = 0, self.accelerator.num_processes
        counts: Tensor | None = None
        for place, index in enumerate(orders := self._batches(epoch)):
            size = index.numel()  # len() of a tensor takes its time
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.settings, epoch - 1 + place / len(orders))
            loss, used = self._gradients(index, size)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self._observe()
            total += loss * size
            seen += size
            if used is not None:
                counts = used if counts is None else counts.add_(used)
            done(size * world, None, partial(_mean, total, seen))
            if world == 1:  # of several, one that left would be waited for until the epoch ends
                self.interrupt.check()
        return _mean(self.accelerator.reduce(torch.as_tensor(total), "sum"), seen * world), counts

    def _gradients(self, index: Tensor, size: int) -> tuple[Tensor | float, Tensor | None]:
        """Loss and `use_counts` of a batch, its gradients left in the parameters; in parts where memory runs out."""
        while True:
            most = self.limit.fit(size)
            try:
                if most == size:
                    return self._part(index, 1.0)
                # rounded down, so that no part is smaller than the least
                parts = index.tensor_split(max(-(-size // most), 2))
                losses, used = zip(*(self._part(part, len(part) / size) for part in parts), strict=True)
                return sum(losses), None if used[0] is None else torch.stack(used).sum(dim=0)
            except (MemoryError, RuntimeError) as error:
                self.optimizer.zero_grad(set_to_none=True)
                self.reads.clear()
                if self.accelerator.num_processes > 1:
                    raise
                self.limit.halve(error, most)

    def _part(self, index: Tensor, share: float) -> tuple[Tensor | float, Tensor | None]:
        batch = _take(self.x, index.to(self.x.device))
        if self.compiled:
            return self.compiled(batch, share)
        with self.accelerator.autocast():
            terms = self.objective(self.wrapped, batch)
        loss = terms.loss if share == 1 else terms.loss * share
        self.accelerator.backward(loss)
        if terms.read is None:
            return loss.detach(), None
        if self.memory is not None and self.memory.learns_by_observing:
            self.reads.append(terms.read)
        return loss.detach(), use_counts(terms.read)

    def _observe(self) -> None:
        """Lets a memory learn from the reads of this step: one, or several where a batch went through in parts."""
        reads, self.reads = self.reads, []
        if self.memory is not None:
            for read in reads:
                self.memory.observe(read)

    def _share_buffers(self) -> None:
        """Gives every process the main one's buffers: each has kept BatchNorm statistics of its own batches."""
        from accelerate.utils import broadcast

        for buffer in self.model.buffers():
            broadcast(buffer)

    def _batches(self, epoch: int) -> list[Tensor]:
        """This process's part of every batch of an epoch: equal batches, equal parts, in a seeded order.

        Where a batch would be a single sample, and BatchNorm finds no statistics in one, there are fewer, larger ones.
        """
        samples = len(self.x)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(local_seed(self.seed, epoch)))
        steps = steps_of(samples, self.settings)
        if samples // steps < 2 * world and not learns_from_one(self.model, self.x):
            steps = max(1, samples // (2 * world))
        return [
            batch[: len(batch) // world * world][rank::world] if len(batch) >= world else batch
            for batch in order.tensor_split(steps)  # equal sizes: no last batch of one sample for BatchNorm
        ]

    @torch.no_grad()
    def _validation_loss(self) -> tuple[float | None, dict[str, float]]:
        """The mean loss, and that of each term of the memory by its name."""
        if (validation := self.validation) is None:
            return None, {}
        self.model.eval()
        sums = defaultdict[str, Tensor](partial(torch.zeros, (), device=validation.device))
        start, wanted = 0, min(VALIDATION_SAMPLES, fitting(validation, VALIDATION_BYTES))
        while start < len(validation):
            size = min(self.judging.fit(wanted), len(validation) - start)
            batch = validation[start : start + size]
            try:
                with self.accelerator.autocast():
                    found = self.objective(self.model, batch)
            except (MemoryError, RuntimeError) as error:
                self.judging.halve(error, size)
                continue
            for name, value in (("loss", found.loss), *((term.name, term.value) for term in found.terms)):
                sums[name] += value * size
            start += size
        # a random objective gives each process another loss, and all must stop at the same epoch
        means = {n: float(self.accelerator.reduce(total, "mean")) / len(validation) for n, total in sums.items()}
        return means.pop("loss"), means

    @torch.no_grad()
    def _revive(self, uses: Tensor, epoch: int) -> None:
        """Replaces items that no query of the epoch has read by encodings drawn at random."""
        dead = (uses == 0).nonzero().squeeze(1)
        if not isinstance(self.memory, Editable) or not len(dead):
            return
        generator = torch.Generator().manual_seed(local_seed(self.seed, epoch, 0xDEAD))
        count = min(REVIVAL_SAMPLES, fitting(self.x, REVIVAL_BYTES))
        some = torch.randperm(len(self.x), generator=generator)[:count].to(self.x.device)
        self.model.eval()
        assert isinstance(self.model, Autoencoder), "a memory lies in an autoencoder"
        queries = self.model.queries(self.model.encode(self.x[some])).flatten(0, 1)
        self.memory.replace(dead, random_items(queries, len(dead), generator))
        moments = self.optimizer.state.get(self.memory.items, {})  # none for items that no gradient moves
        for moment in moments.keys() & {"exp_avg", "exp_avg_sq"}:  # a new item has none of the old one's momentum
            moments[moment][dead] = 0

    def _anyone(self, wish: bool) -> bool:
        """Whether any process of a launch wishes it, so that all do the same."""
        if self.accelerator.num_processes == 1:
            return wish
        wishes = torch.tensor(float(wish), device=self.accelerator.device)
        return bool(self.accelerator.reduce(wishes, "sum"))

    def _stale(self) -> bool:
        patience = self.settings.patience
        return bool(patience) and len(self.state.records) - self.state.best_epoch >= patience


def _flat(model: nn.Module, objective: Objective) -> bool:
    """Whether one Adam step of all parameters as one vector is that of each, and faster: all learn at every step."""
    own = list(model.parameters())
    return (
        type(model) is Autoencoder
        and isinstance(objective, ReconstructionObjective)
        and sum(p.numel() for p in own) <= FLAT_PARAMETERS
        and all(p.requires_grad and p.device.type == "cpu" and p.dtype == torch.float32 for p in own)
    )


def _take(x: Encoded, index: Tensor) -> Tensor:
    """x[index], which of a tensor takes five times as long."""
    return x.index_select(0, index) if isinstance(x, Tensor) else x[index]


def _mean(total: Tensor | float, count: int) -> float:
    return float(total) / count
