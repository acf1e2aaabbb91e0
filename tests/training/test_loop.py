"""The training loop: learning, seeds, early stopping, interruption and resume, precision, revival, processes.

Run as a script by the launcher of several processes, this file is its own worker: see `worker` at the end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from memae.autoencoder import Autoencoder
from memae.config import TrainConfig
from memae.errors import ArtifactError, ConfigError
from memae.image.networks import ConvLayer, conv_decoder, conv_encoder
from memae.losses import squared_error
from memae.memory.base import LossTerm, MemoryRead
from memae.memory.memae import MemAE
from memae.modality import modality_named
from memae.table.networks import fully_connected
from memae.training import loop as training
from memae.training.checkpoint import Checkpoint, checkpoint_of
from memae.training.history import EpochRecord, History
from memae.training.loop import local_seed
from memae.training.objective import BatchLoss, ReconstructionObjective
from memae.training.steps import usual_batch_size
from memae.video.clips import Windows
from memae.video.dataset import Clips
from memae.video.networks import ClipLayer, clip_decoder, clip_encoder
from memae.video.preprocess import VideoPreprocess
from tests import listening
from tests.moving_squares import squares

train = partial(training.train, device="cpu")  # where results are promised bit for bit

OBJECTIVE = ReconstructionObjective(reduction="sum")
SETTINGS = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-2)

ROOT = Path(__file__).parents[2]


def rows(count: int, seed: int, width: int = 6) -> Tensor:
    """Samples near a plane, so that a code of two numbers can hold them."""
    generator = torch.Generator().manual_seed(seed)
    plane = torch.randn(2, width, generator=torch.Generator().manual_seed(99))
    return torch.randn(count, 2, generator=generator) @ plane + 0.05 * torch.randn(
        count, width, generator=generator
    )


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0, 1, 8)
    return torch.rand(count, 1, 1, 1, generator=generator) * ramp + 0.1 * torch.rand(
        count, 1, 8, 8, generator=generator
    )


def row_model(seed: int = 0, memory: bool = True, width: int = 6) -> Autoencoder:
    """A network without BatchNorm."""
    torch.manual_seed(seed)
    items = MemAE(12, 2, temperature=0.1, shrinkage=1.0) if memory else None
    return Autoencoder(fully_connected((width, 8, 2)), items, fully_connected((2, 8, width)))


def image_model(seed: int = 0) -> Autoencoder:
    """A network with BatchNorm, and a memory sparse enough for dead items."""
    torch.manual_seed(seed)
    layers = (ConvLayer(3, 2, 4), ConvLayer(3, 2, 4))
    return Autoencoder(
        conv_encoder(1, layers),
        MemAE(30, 4, temperature=0.02, shrinkage=4.0),
        conv_decoder(1, layers, 8, 8),
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def loss_of(model: nn.Module, x: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        return float(OBJECTIVE(model, x).loss)


class Listener(listening.Listener):
    """A real callback that writes down what it is told."""

    def __init__(self, stop_at_step: int | None = None, stop_after_epoch: int | None = None) -> None:
        self.stop_at_step, self.stop_after_epoch = stop_at_step, stop_after_epoch
        self.began: tuple[int, int, int] | None = None
        self.steps: list[tuple[int, float]] = []
        self.records: list[EpochRecord] = []
        self.ended = 0

    def begin(self, epochs: int, samples: int, done: int) -> None:
        self.began = epochs, samples, done

    def step(self, samples: int, loss: object) -> None:
        self.steps.append((samples, loss()))
        if len(self.steps) == self.stop_at_step:
            raise KeyboardInterrupt

    def epoch(self, record: EpochRecord) -> None:
        self.records.append(record)
        if record.epoch == self.stop_after_epoch:
            raise KeyboardInterrupt

    def end(self) -> None:
        self.ended += 1


def numbers(history: History) -> list[dict[str, Any]]:
    """The records without what the clock says."""
    return [asdict(replace(record, seconds=0.0, samples_per_second=0.0)) for record in history.records]


@pytest.mark.parametrize("memory", [True, False])
def test_every_parameter_moves_and_the_held_out_loss_falls(memory: bool) -> None:
    model, x, held_out = row_model(memory=memory), rows(200, 1), rows(60, 2)
    before, start = weights(model), loss_of(model, held_out)
    history = train(
        model, x, held_out, objective=OBJECTIVE, settings=SETTINGS.model_copy(update={"epochs": 12}), seed=0
    )
    for name, tensor in model.named_parameters():
        assert not torch.equal(tensor, before[name]), name
    last = history.records[-1].held_out_loss
    assert last < 0.5 * start
    assert last == pytest.approx(loss_of(model, held_out), rel=1e-5)
    assert history.records[-1].loss < history.records[0].loss
    assert (history.kept_epoch, history.interrupted) == (12, False)
    assert [record.epoch for record in history.records] == list(range(1, 13))
    assert not model.training


def test_a_network_with_batchnorm_learns_and_is_judged_by_the_statistics_it_keeps() -> None:
    model, x, held_out = image_model(), images(96, 1), images(32, 2)
    start = loss_of(model, held_out)
    settings = SETTINGS.model_copy(update={"epochs": 8})
    history = train(model, x, held_out, objective=OBJECTIVE, settings=settings, seed=0)
    last = history.records[-1].held_out_loss
    assert last < 0.5 * start
    assert last == pytest.approx(loss_of(model, held_out), rel=1e-5)


def test_the_block_of_all_parameters_learns_what_each_of_them_would(monkeypatch: pytest.MonkeyPatch) -> None:
    x, found, steps = images(100, seed=0), [], []
    plain_step = torch.optim.Adam.step
    monkeypatch.setattr(training, "compiled_gradients", lambda *_: None)

    def counted_step(self: torch.optim.Adam, *args: Any) -> Any:
        steps.append(1)
        return plain_step(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", counted_step)
    for numbers in (training.FLAT_PARAMETERS, 0):
        monkeypatch.setattr(training, "FLAT_PARAMETERS", numbers)
        model = image_model()
        settings = TrainConfig(epochs=3, batch_size=16, patience=0)
        history = train(
            model, x, x[:20], objective=OBJECTIVE, settings=settings, seed=0, device="cpu", revive_epochs=2
        )
        assert all(p.grad is None or not numbers for p in model.parameters())
        found.append((weights(model), [record.loss for record in history.records], len(steps)))
    (mine, losses, none), (its, expected, all_of_them) = found
    assert (none, all_of_them) == (0, 3 * 7)
    assert losses == pytest.approx(expected, rel=1e-5)
    for name, tensor in mine.items():
        assert_close(tensor, its[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("left_alone", ["frozen", "large", "another model", "another objective"])
def test_other_parameters_have_an_adam_each(left_alone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = image_model()
    objective: Any = OBJECTIVE
    assert training._flat(model, objective)
    if left_alone == "frozen":
        model.memory.items.requires_grad_(False)
    elif left_alone == "large":
        monkeypatch.setattr(training, "FLAT_PARAMETERS", sum(p.numel() for p in model.parameters()) - 1)
    elif left_alone == "another model":
        model = nn.Sequential(model.encoder)
    else:
        objective = partial(OBJECTIVE)
    assert not training._flat(model, objective)


def test_the_accelerator_is_taken_where_there_is_one() -> None:
    model = row_model()
    train(model, rows(40, 1), rows(20, 2), objective=OBJECTIVE, settings=SETTINGS, seed=0, device="auto")
    wanted = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    assert {parameter.device.type for parameter in model.parameters()} == {wanted.type}


@pytest.mark.parametrize("patience", [0, 2])
def test_no_epochs_leave_the_network_untrained(patience: int) -> None:
    model = image_model()
    before = weights(model)
    settings = TrainConfig(epochs=0, patience=patience)
    history = train(model, images(40, 1), images(20, 2), objective=OBJECTIVE, settings=settings, seed=0)
    assert history == History((), 0)
    assert same(weights(model), before)
    assert not model.training


def test_an_epoch_shows_every_sample_once_in_equal_batches() -> None:
    seen: list[Tensor] = []

    def watched(model: nn.Module, batch: Tensor) -> BatchLoss:
        seen.append(batch[:, 0].clone())
        return OBJECTIVE(model, batch)

    x = rows(50, 1)
    listener = Listener()
    train(row_model(), x, None, objective=watched, settings=SETTINGS, seed=0, progress=listener)
    assert [len(batch) for batch in seen] == 3 * [13, 13, 12, 12]
    epochs = [torch.cat(seen[4 * epoch : 4 * epoch + 4]) for epoch in range(3)]
    for order in epochs:
        assert torch.equal(order.sort().values, x[:, 0].sort().values)
    assert not torch.equal(epochs[0], epochs[1])  # another order in every epoch


class TwoTerms(MemAE):
    """A memory with a term beside that of the paper."""

    def loss_terms(self, read: MemoryRead) -> tuple[LossTerm, ...]:
        return (*super().loss_terms(read), LossTerm("commitment", 0.1, read.distance.mean()))


def test_the_record_names_what_each_term_of_the_memory_adds_to_the_held_out_loss() -> None:
    model, held_out = row_model(), rows(4500, 2)  # more than go through the model at once
    model.memory = TwoTerms(12, 2, temperature=0.1)
    settings = SETTINGS.model_copy(update={"patience": 2})
    (*_, last) = train(model, rows(50, 1), held_out, objective=OBJECTIVE, settings=settings, seed=0).records
    with torch.no_grad():
        made = model(held_out)
        assert made.read is not None and made.read.entropy is not None
        wanted = {"entropy": float(made.read.entropy.mean()), "commitment": float(made.read.distance.mean())}
        error = float((made.x - held_out).square().sum(dim=1).mean())
    assert last.held_out_terms == pytest.approx(wanted, rel=1e-4)
    assert last.held_out_loss == pytest.approx(
        error + 2e-4 * wanted["entropy"] + 0.1 * wanted["commitment"], rel=1e-5
    )


@pytest.mark.parametrize("memory", [True, False])
def test_without_terms_or_held_out_samples_a_record_names_none(memory: bool) -> None:
    held_out = None if memory else rows(20, 2)
    history = train(
        row_model(memory=memory), rows(50, 1), held_out, objective=OBJECTIVE, settings=SETTINGS, seed=0
    )
    assert history.records[-1].held_out_terms == {}


def test_the_record_is_the_mean_over_samples() -> None:
    # a learning rate that changes nothing: the loss of the epoch is that of the untrained model on all samples
    model, x = row_model(), rows(50, 1)
    wanted = loss_of(model, x)
    settings = TrainConfig(epochs=1, batch_size=16, learning_rate=1e-30)
    history = train(model, x, None, objective=OBJECTIVE, settings=settings, seed=0)
    (record,) = history.records
    assert record.loss == pytest.approx(wanted, rel=1e-5)
    assert record.held_out_loss is None
    assert record.seconds > 0
    assert record.samples_per_second == pytest.approx(50 / record.seconds)
    queries = model(x).read
    assert record.memory.items == 12
    assert record.memory.items_used == int((queries.weights > 0).any(dim=0).sum())
    assert record.memory.items_per_query == pytest.approx(float((queries.weights > 0).sum()) / 50)


def test_the_callback_is_told_of_every_step_and_epoch() -> None:
    listener = Listener()
    history = train(
        row_model(), rows(50, 1), None, objective=OBJECTIVE, settings=SETTINGS, seed=0, progress=listener
    )
    assert listener.began == (3, 50, 0)
    assert sum(samples for samples, _ in listener.steps) == 150
    assert listener.records == list(history.records)
    assert listener.ended == 1
    assert listener.steps[3][1] == pytest.approx(history.records[0].loss, rel=1e-6)


@pytest.mark.parametrize("make", [row_model, image_model])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(make: Callable[[], Autoencoder]) -> None:
    x = rows(64, 1) if make is row_model else images(64, 1)
    objective = ReconstructionObjective(reduction="sum", noise=0.1)
    found: list[Any] = []
    for seed in (5, 5, 6):
        model = make()
        torch.rand(len(found))  # the global state does not matter
        train(model, x, x[:16], objective=objective, settings=SETTINGS, seed=seed, revive_epochs=2)
        found.append(weights(model))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_global_random_state_is_untouched() -> None:
    model = row_model()
    noisy = ReconstructionObjective(reduction="sum", noise=0.5)
    torch.manual_seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    train(model, rows(40, 1), None, objective=noisy, settings=SETTINGS, seed=0, revive_epochs=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


def test_a_local_seed_is_the_same_everywhere() -> None:
    assert local_seed(0, 1) == 3964924996
    assert len({local_seed(seed, epoch) for seed in range(20) for epoch in range(20)}) == 400


def drifting() -> tuple[Autoencoder, Tensor, Tensor]:
    """A held-out loss that falls and then rises: the held-out samples are of another scale."""
    x = rows(64, 1)
    return row_model(memory=False), x, 0.3 * rows(32, 2).flip(1)


def test_patience_stops_and_keeps_the_best_epoch() -> None:
    model, x, held_out = drifting()
    settings = TrainConfig(epochs=100, batch_size=8, learning_rate=1e-2, patience=4)
    history = train(model, x, held_out, objective=OBJECTIVE, settings=settings, seed=0)
    losses: list[Any] = [record.held_out_loss for record in history.records]
    best = int(np.argmin(losses)) + 1
    assert history.kept_epoch == best
    assert 1 < best < 96
    assert len(history.records) == best + 4
    assert loss_of(model, held_out) == pytest.approx(losses[best - 1], rel=1e-5)
    assert losses[-1] > 1.001 * losses[best - 1]
    assert not history.interrupted


def test_without_patience_the_last_epoch_is_kept() -> None:
    model, x, held_out = drifting()
    settings = TrainConfig(epochs=12, batch_size=8, learning_rate=1e-2)
    history = train(model, x, held_out, objective=OBJECTIVE, settings=settings, seed=0)
    losses: list[Any] = [record.held_out_loss for record in history.records]
    assert history.kept_epoch == 12 != int(np.argmin(losses)) + 1
    assert loss_of(model, held_out) == pytest.approx(losses[-1], rel=1e-5)


def test_patience_needs_held_out_samples() -> None:
    with pytest.raises(ConfigError, match=r"train\.patience needs held-out samples.*train\.patience=0"):
        train(
            row_model(),
            rows(20, 1),
            None,
            objective=OBJECTIVE,
            settings=TrainConfig(patience=2),
            seed=0,
        )


def test_an_interrupt_in_the_middle_of_an_epoch_keeps_the_best_weights_so_far() -> None:
    model, x, held_out = drifting()
    settings = TrainConfig(epochs=50, batch_size=8, learning_rate=1e-2)
    listener = Listener(stop_at_step=8 * 20 + 3)  # in epoch 21
    history = train(model, x, held_out, objective=OBJECTIVE, settings=settings, seed=0, progress=listener)
    losses: list[Any] = [record.held_out_loss for record in history.records]
    assert history.interrupted
    assert len(losses) == 20
    assert history.kept_epoch == int(np.argmin(losses)) + 1 < 20
    assert loss_of(model, held_out) == pytest.approx(min(losses), rel=1e-5)
    assert listener.ended == 1
    assert not model.training


def test_an_interrupt_in_the_first_epoch_passes_through() -> None:
    listener = Listener(stop_at_step=2)
    with pytest.raises(KeyboardInterrupt):
        train(row_model(), rows(50, 1), None, objective=OBJECTIVE, settings=SETTINGS, seed=0, progress=listener)
    assert listener.ended == 1


@pytest.mark.parametrize("patience", [0, 4])
@pytest.mark.parametrize("stop", ["in an epoch", "after an epoch"])
def test_a_resumed_run_ends_bit_for_bit_like_one_that_was_never_stopped(
    tmp_path: Path, patience: int, stop: str
) -> None:
    x, held_out = images(64, 1), images(24, 2)
    objective = ReconstructionObjective(reduction="sum", noise=0.2)
    settings = TrainConfig(epochs=7, batch_size=16, learning_rate=2e-2, patience=patience)
    checkpoint = Checkpoint(tmp_path / "state", "this run")

    def run(model: Autoencoder, listener: Listener, checkpoint: Checkpoint | None) -> History:
        return train(
            model,
            x,
            held_out,
            objective=objective,
            settings=settings,
            seed=3,
            revive_epochs=5,
            checkpoint=checkpoint,
            progress=listener,
        )

    whole = image_model()
    wanted = run(whole, Listener(), None)
    assert wanted.records[0].memory.items_dead > 0  # there is something to revive

    where = {"stop_at_step": 4 * 3 + 2} if stop == "in an epoch" else {"stop_after_epoch": 3}
    first = run(image_model(), Listener(**where), checkpoint)
    assert first.interrupted
    assert len(first.records) == 3
    other = image_model(seed=8)  # its own weights do not matter
    listener = Listener()
    resumed = run(other, listener, checkpoint)
    assert listener.began == (7, 64, 3)
    assert [record.epoch for record in listener.records] == [record.epoch for record in wanted.records[3:]]
    assert same(weights(other), weights(whole))
    assert numbers(resumed) == numbers(wanted)
    assert (resumed.kept_epoch, resumed.interrupted) == (wanted.kept_epoch, False)


def test_a_resumed_run_remembers_the_best_loss_of_before(tmp_path: Path) -> None:
    settings = TrainConfig(epochs=100, batch_size=8, learning_rate=1e-2, patience=4)
    checkpoint = Checkpoint(tmp_path / "state", "this run")

    def run(listener: Listener, checkpoint: Checkpoint | None) -> tuple[nn.Module, History]:
        model, x, held_out = drifting()
        history = train(
            model,
            x,
            held_out,
            objective=OBJECTIVE,
            settings=settings,
            seed=0,
            checkpoint=checkpoint,
            progress=listener,
        )
        return model, history

    model, wanted = run(Listener(), None)
    run(Listener(stop_after_epoch=wanted.kept_epoch + 2), checkpoint)
    resumed, history = run(Listener(), checkpoint)
    assert (history.kept_epoch, len(history.records)) == (wanted.kept_epoch, wanted.kept_epoch + 4)
    assert same(weights(resumed), weights(model))


def test_a_finished_run_that_is_resumed_gives_its_result_again(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state", "this run")
    settings = TrainConfig(epochs=60, batch_size=8, learning_rate=1e-2, patience=3)
    results = []
    for seed in (0, 1):
        _, x, held_out = drifting()
        model = row_model(seed, memory=False)
        history = train(model, x, held_out, objective=OBJECTIVE, settings=settings, seed=0, checkpoint=checkpoint)
        results.append((weights(model), history))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def trained_with(checkpoint: Checkpoint, epochs: int = 2) -> History:
    settings = SETTINGS.model_copy(update={"epochs": epochs})
    return train(
        row_model(), rows(40, 1), None, objective=OBJECTIVE, settings=settings, seed=0, checkpoint=checkpoint
    )


def test_a_checkpoint_holds_safetensors_and_json_only(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "runs" / "state", "this run")
    assert not checkpoint.exists()
    trained_with(checkpoint)
    assert checkpoint.exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "runs",
        "state",
        "state.json",
        "state.safetensors",
    ]
    facts = json.loads((checkpoint.path / "state.json").read_text())
    assert [record["epoch"] for record in facts["records"]] == [1, 2]
    assert set(load_file(checkpoint.path / "state.safetensors")) >= {"model.memory.items", "best.memory.items"}
    checkpoint.remove()
    assert not checkpoint.exists()
    checkpoint.remove()  # nothing there is fine


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    trained_with(Checkpoint(tmp_path / "state", "this run"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    with pytest.raises(
        ConfigError, match=r"state: the checkpoint is of a training with other data, settings or seed"
    ):
        trained_with(Checkpoint(tmp_path / "state", "another run"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()} == before


def change_facts(path: Path, change: Callable[[Any], None]) -> None:
    facts = json.loads((path / "state.json").read_text())
    change(facts)
    (path / "state.json").write_text(json.dumps(facts))


def change_tensors(path: Path, value: float) -> None:
    tensors = load_file(path / "state.safetensors")
    tensors["model.memory.items"][0, 0] = value
    save_file(tensors, path / "state.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "state.safetensors").write_bytes((path / "state.safetensors").read_bytes()[:-40]),
        lambda path: (path / "state.safetensors").write_bytes(b""),
        lambda path: (path / "state.safetensors").unlink(),
        lambda path: (path / "state.json").write_text((path / "state.json").read_text()[:-20]),
        lambda path: (path / "state.json").write_text("{}"),
        lambda path: (path / "state.json").write_bytes(b"\xff\xfe\x00"),
        lambda path: (path / "state.json").write_text("[" * 100_000),
        lambda path: (path / "state.json").write_text('{"fingerprint": "this run"}'),
        lambda path: (path / "state.json").write_text('{"fingerprint": "this run", "records": [3]}'),
        lambda path: change_facts(path, lambda facts: facts["records"][0].update(seconds="long")),
        lambda path: change_facts(path, lambda facts: facts["records"][0].update(epoch=7)),
        lambda path: change_facts(path, lambda facts: facts["records"][0].update(memory={"items": None})),
        lambda path: change_facts(path, lambda facts: facts.update(best_loss="low")),
        lambda path: change_facts(path, lambda facts: facts.update(best_loss=10**400)),
        lambda path: change_tensors(path, float("nan")),
        lambda path: change_tensors(path, float("inf")),
        lambda path: save_file({"other.weight": torch.zeros(2)}, path / "state.safetensors"),
        lambda path: save_file({"model.weight": torch.zeros(2)}, path / "state.safetensors"),
    ],
    ids=[
        "cut tensors",
        "no tensors",
        "tensors gone",
        "cut facts",
        "no facts",
        "not text",
        "deep facts",
        "few facts",
        "facts of another kind",
        "text as seconds",
        "another epoch",
        "figures of another kind",
        "text as loss",
        "a loss that no float holds",
        "NaN",
        "infinite",
        "tensors of no part",
        "tensors of another network",
    ],
)
def test_a_damaged_checkpoint_is_told_with_its_cure(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    checkpoint = Checkpoint(tmp_path / "state", "this run")
    trained_with(checkpoint)
    damage(checkpoint.path)
    with pytest.raises(ArtifactError, match=r"this checkpoint cannot be read .* remove it and train anew"):
        trained_with(checkpoint, epochs=3)


def test_bf16_is_float32_on_a_cpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for precision, hardware in (("float32", False), ("bf16", False), ("bf16", True)):
        monkeypatch.setattr("memae.training.accelerator.fast_bfloat16", lambda hardware=hardware: hardware)
        model = row_model()
        settings = SETTINGS.model_copy(update={"precision": precision})
        train(model, rows(64, 1), None, objective=OBJECTIVE, settings=settings, seed=0)
        found[precision, hardware] = weights(model)
    assert same(found["bf16", False], found["float32", False])
    assert not same(found["bf16", True], found["float32", False])


def test_bf16_trains_and_leaves_no_trace_in_the_model_or_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memae.training.accelerator.fast_bfloat16", lambda: True)  # emulated, where it is not
    x, held_out = rows(64, 1), rows(32, 2)

    def run(precision: str) -> tuple[Autoencoder, History]:
        model = row_model()
        settings = TrainConfig(epochs=6, batch_size=16, learning_rate=1e-2, precision=precision)
        return model, train(model, x, held_out, objective=OBJECTIVE, settings=settings, seed=0)

    first, _ = run("float32")
    half, history = run("bf16")
    again, _ = run("float32")
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(half))
    assert history.records[-1].held_out_loss < 0.7 * history.records[0].held_out_loss
    assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.float32}
    # no autocast is left behind: the trained model computes in float32
    made = half(x)
    assert made.x.dtype == torch.float32
    assert torch.equal(made.x, half.decoder(half.read(half.encoder(x))[0]))
    assert half.decoder(half.encoder(x)).dtype == torch.float32


def test_a_loss_that_is_not_finite_is_told_with_its_cure() -> None:
    settings = TrainConfig(epochs=4, batch_size=8, learning_rate=1e18)
    listener = Listener()
    with pytest.raises(
        ConfigError, match=r"diverged: the loss of epoch \d is (nan|inf); lower train\.learning_rate"
    ):
        train(
            row_model(memory=False),
            rows(64, 1),
            None,
            objective=OBJECTIVE,
            settings=settings,
            seed=0,
            progress=listener,
        )
    assert listener.ended == 1


def one_sided() -> tuple[Autoencoder, Tensor, Tensor]:
    """A model that encodes all samples into one half of the plane, with items on both sides; and the dead ones."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(2, 2), nn.Identity())
    with torch.no_grad():
        encoder[0].weight.copy_(torch.eye(2))
        encoder[0].bias.zero_()
    memory = MemAE(8, 2, temperature=0.1, shrinkage=0.5)
    with torch.no_grad():
        angles = torch.linspace(-0.6, 0.6, 4)
        ahead = torch.stack([angles.cos(), angles.sin()], dim=1)
        memory.items.copy_(torch.cat([ahead, -ahead]))
    generator = torch.Generator().manual_seed(1)
    angle = torch.rand(64, generator=generator) - 0.5
    x = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return Autoencoder(encoder, memory, nn.Linear(2, 2)), x, torch.arange(4, 8)


def distance(items: Tensor, encodings: Tensor) -> Tensor:
    """From each item to the nearest encoding."""
    return torch.cdist(items, encodings, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1).values


def test_dead_items_stay_where_they_are_without_revival() -> None:
    model, x, dead = one_sided()
    before = model.memory.items[dead].detach().clone()
    settings = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-3)
    history = train(model, x, None, objective=OBJECTIVE, settings=settings, seed=0)
    assert [record.memory.items_dead for record in history.records] == [4, 4, 4]
    assert torch.equal(model.memory.items[dead], before)


def test_dead_items_are_revived_as_encodings_after_the_first_epochs() -> None:
    model, x, dead = one_sided()
    settings = TrainConfig(epochs=1, batch_size=16, learning_rate=1e-3)
    train(model, x, None, objective=OBJECTIVE, settings=settings, seed=0, revive_epochs=1)
    nearest = distance(model.memory.items, model.queries(model.encoder(x)).flatten(0, 1))
    assert (nearest[dead] < 1e-6).all()
    assert (nearest[:4] > 0.1).all()  # the living ones learn on
    assert len(torch.unique(model.memory.items[dead], dim=0)) == 4

    model, x, dead = one_sided()
    settings = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-3)
    history = train(model, x, None, objective=OBJECTIVE, settings=settings, seed=0, revive_epochs=1)
    assert [record.memory.items_dead for record in history.records] == [4, 0, 0]


def test_revival_sees_the_encodings_that_scoring_will_see() -> None:
    model, x = image_model(), images(64, 1)
    settings = TrainConfig(epochs=1, batch_size=16, learning_rate=2e-2)
    history = train(model, x, None, objective=OBJECTIVE, settings=settings, seed=0, revive_epochs=1)
    nearest = distance(model.memory.items, model.queries(model.encoder(x)).flatten(0, 1))
    dead = history.records[0].memory.items_dead
    assert dead > 0
    assert int((nearest < 1e-5).sum()) == dead


def test_a_reborn_item_starts_without_the_momentum_of_its_predecessor(tmp_path: Path) -> None:
    model, x, _ = one_sided()

    class Killer(Listener):
        def epoch(self, record: EpochRecord) -> None:
            if record.epoch == 1:  # the item was used and has momentum; from now on no query finds it
                with torch.no_grad():
                    model.memory.items[0] = torch.tensor([-1.0, 0.0])

    place = [name for name, _ in model.named_parameters()].index("memory.items")
    checkpoint = Checkpoint(tmp_path / "state", "this run")
    settings = TrainConfig(epochs=2, batch_size=16, learning_rate=1e-3)
    moments = []
    for revive_epochs in (0, 2):
        model, x, _ = one_sided()
        checkpoint.remove()
        train(
            model,
            x,
            None,
            objective=OBJECTIVE,
            settings=settings,
            seed=0,
            revive_epochs=revive_epochs,
            checkpoint=checkpoint,
            progress=Killer(),
        )
        state = load_file(checkpoint.path / "state.safetensors")
        moments.append([state[f"adam.{place}.{moment}"] for moment in ("exp_avg", "exp_avg_sq")])
    for without, revived in zip(*moments, strict=True):
        assert (without[0] != 0).any()
        assert (revived[0] == 0).all()
        assert (revived[1] != 0).any()  # one that lives keeps its own


class Outputs(NamedTuple):
    x: Tensor
    mean: Tensor
    log_variance: Tensor


class VariationalAutoencoder(nn.Module):
    """No model of memae: no encoder, memory or decoder attribute, and other outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 4), nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Outputs:
        mean, log_variance = self.enter(x).chunk(2, dim=1)
        return Outputs(self.leave(mean + torch.randn_like(mean) * (log_variance / 2).exp()), mean, log_variance)


def variational(model: nn.Module, x: Tensor) -> BatchLoss:
    made = model(x)
    divergence = 0.5 * (made.mean.square() + made.log_variance.exp() - 1 - made.log_variance).sum(dim=1)
    return BatchLoss((squared_error(x, made.x).sum(dim=1) + 0.01 * divergence).mean(), None)


def test_another_method_trains_early_stops_and_resumes_by_the_same_loop(tmp_path: Path) -> None:
    x, held_out = rows(64, 1), rows(64, 2)
    settings = TrainConfig(epochs=20, batch_size=16, learning_rate=1e-2, patience=18)

    def run(listener: Listener, checkpoint: Checkpoint | None) -> tuple[nn.Module, History]:
        torch.manual_seed(0)
        model = VariationalAutoencoder()
        history = train(
            model,
            x,
            held_out,
            objective=variational,
            settings=settings,
            seed=0,
            revive_epochs=3,  # nothing to revive
            checkpoint=checkpoint,
            progress=listener,
        )
        return model, history

    model, history = run(Listener(), None)
    assert history.records[-1].held_out_loss < 0.5 * history.records[0].held_out_loss
    assert {record.memory for record in history.records} == {None}
    checkpoint = Checkpoint(tmp_path / "state", "this run")
    run(Listener(stop_at_step=4 * 7 + 1), checkpoint)
    resumed, again = run(Listener(), checkpoint)
    assert same(weights(resumed), weights(model))
    assert numbers(again) == numbers(history)


def sampled_when_held_out(model: nn.Module, x: Tensor) -> BatchLoss:
    """An objective that is random outside training, too, as that of a variational autoencoder is."""
    terms = OBJECTIVE(model, x)
    return terms if model.training else terms._replace(loss=terms.loss * (1 + 2 * torch.rand(())))


def train_rows() -> tuple[nn.Module, History]:
    model = row_model()
    # of its own accord, without a word about the device, as `memae fit` does
    history = training.train(model, rows(64, 1), rows(32, 2), objective=OBJECTIVE, settings=SETTINGS, seed=0)
    return model, history


def train_images(seed: int = 0, *, checkpoint: Checkpoint) -> tuple[nn.Module, History]:
    model = image_model(seed)
    settings = TrainConfig(epochs=40, batch_size=16, learning_rate=2e-2, patience=2)
    return model, train(
        model,
        images(64, 1),
        images(24, 2),
        objective=sampled_when_held_out,
        settings=settings,
        seed=0,
        revive_epochs=6,
        checkpoint=checkpoint,
        progress=Listener(),
    )


def worker(out: Path) -> None:
    """What each process of the launch does: trainings, with the weights and records of each into its own files."""
    rank = int(os.environ["RANK"])
    assert int(os.environ["WORLD_SIZE"]) == 2
    checkpoint = Checkpoint(out / "state", "images")
    runs = {
        "rows": train_rows,
        "images": partial(train_images, checkpoint=checkpoint),
        "resumed": partial(train_images, seed=1, checkpoint=checkpoint),
    }
    for name, run in runs.items():
        model, history = run()
        assert PartialState().num_processes == 2, "the processes did not find together"
        assert not hasattr(model, "module")
        save_file(weights(model), out / f"{name}-{rank}.safetensors")
        facts = {"records": numbers(history), "kept": history.kept_epoch}
        (out / f"{name}-{rank}.json").write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two real processes, joined by gloo on this machine, wrote their results into."""
    out = tmp_path_factory.mktemp("launched")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `accelerate launch --cpu --num_processes 2` starts one process only, where there is no MPI
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*launcher, "--master-addr", "127.0.0.1", "--master-port", str(port), __file__, str(out)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
        | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
    )
    try:
        _, errors = process.communicate(timeout=120)
    finally:
        process.terminate()  # processes that wait for each other: the launcher ends its workers
        process.wait(60)
    assert process.returncode == 0, errors[-4000:]
    return out


@pytest.mark.parametrize("name", ["rows", "images"])
def test_two_processes_end_with_the_same_weights_and_records(launched: Path, name: str) -> None:
    first, second = (load_file(launched / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert same(first, second)
    facts = [json.loads((launched / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
    assert facts[0] == facts[1]
    if name == "images":  # early stopping and revival did take place
        assert len(facts[0]["records"]) < 40
        assert facts[0]["records"][0]["memory"]["items_dead"] > 0
        assert facts[0]["kept"] > 1


def test_two_processes_resume_together(launched: Path) -> None:
    wanted = load_file(launched / "images-0.safetensors")
    assert all(same(load_file(launched / f"resumed-{rank}.safetensors"), wanted) for rank in (0, 1))


def test_two_processes_give_the_weights_of_one(launched: Path) -> None:
    model, history = train_rows()
    parallel = load_file(launched / "rows-0.safetensors")
    untrained = weights(row_model())
    for name, tensor in weights(model).items():
        assert_close(parallel[name], tensor, rtol=1e-3, atol=1e-5)
        assert (untrained[name] - tensor).abs().max() > 1e-2
    told = json.loads((launched / "rows-0.json").read_text())["records"]
    for record, wanted in zip(told, numbers(history), strict=True):
        for figures in ("memory", "held_out_terms"):
            assert record.pop(figures) == pytest.approx(wanted.pop(figures), rel=1e-4)
        assert record == pytest.approx(wanted, rel=1e-4)


class Scale(nn.Module):
    """One number. Where its gradient never changes, each step of Adam is as long as the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros((), dtype=torch.float64))


def learning_rates(settings: TrainConfig, checkpoint: Checkpoint | None = None, **listens: int) -> list[float]:
    """That of every step of a training on 50 samples."""
    numbers: list[float] = []

    def objective(model: Any, x: Tensor) -> BatchLoss:
        numbers.append(model.number.item())
        return BatchLoss(-1e6 * model.number, None)

    model = Scale()
    listener = Listener(**listens)
    train(
        model,
        rows(50, 1),
        None,
        objective=objective,
        settings=settings,
        seed=0,
        checkpoint=checkpoint,
        progress=listener,
    )
    numbers.append(model.number.item())
    return np.diff(numbers).tolist()


@pytest.mark.parametrize(
    ("decay_share", "falling"),
    [(0.0, 0), (0.25, 5), (0.5, 10), (1.0, 20)],
    ids=["never", "quarter", "half", "all"],
)
def test_the_learning_rate_falls_in_a_line_to_zero(decay_share: float, falling: int) -> None:
    settings = TrainConfig(epochs=4, batch_size=10, learning_rate=0.03, decay_share=decay_share)
    found = learning_rates(settings)
    assert len(found) == 20
    assert found[: 20 - falling] == pytest.approx([0.03] * (20 - falling), rel=1e-6)
    # as much is left as is left of the training: 1 before the fall, and one step of it before the last
    left = [step / falling for step in range(falling, 0, -1)]
    assert found[20 - falling :] == pytest.approx([0.03 * part for part in left], rel=1e-6)
    assert min(found) > 0


@pytest.mark.parametrize("stop", [{"stop_at_step": 13}, {"stop_after_epoch": 2}])
def test_a_resumed_training_goes_on_with_the_learning_rate_that_it_had(
    tmp_path: Path, stop: dict[str, int]
) -> None:
    settings = TrainConfig(epochs=4, batch_size=10, learning_rate=0.03, decay_share=0.75)
    whole = learning_rates(settings)
    checkpoint = Checkpoint(tmp_path / "state", "this run")
    first = learning_rates(settings, checkpoint, **stop)
    assert first[:10] == whole[:10]
    again = learning_rates(settings, checkpoint)
    assert again == whole[10:]


def clip_model(seed: int = 0) -> Autoencoder:
    """A network for clips of 4 frames, with BatchNorm, and a memory sparse enough for dead items."""
    torch.manual_seed(seed)
    layers = (ClipLayer((2, 2, 2), 4), ClipLayer((1, 2, 2), 4))
    return Autoencoder(
        clip_encoder(layers, 1),
        MemAE(30, 4, temperature=0.02, shrinkage=4.0),
        clip_decoder(layers, 1, (4, 8, 8)),
    )


def clips(seed: int = 0, count: int = 40, crops: int = 2) -> Clips:
    pixels = squares(count, 16, 24, seed=seed)
    frames = torch.from_numpy(Windows(4, 2).training_clips([(0, count)]))
    preprocess = VideoPreprocess(clip_length=4, height=16, width=24, input="differences")
    whole = Clips(torch.from_numpy(pixels), frames, preprocess)
    return whole.crops(8, crops, torch.Generator().manual_seed(seed))


CLIP_SETTINGS = TrainConfig(epochs=5, batch_size=8, learning_rate=2e-2, decay_share=0.6)


def train_clips(training_clips: Any, held_out: Any, **how: Any) -> tuple[Autoencoder, History]:
    model = clip_model()
    given: dict[str, Any] = {"settings": CLIP_SETTINGS, "revive_epochs": 2} | how
    return model, train(model, training_clips, held_out, objective=OBJECTIVE, seed=0, **given)


def test_clips_train_like_the_tensor_of_all_of_them() -> None:
    x, held_out = clips(), clips(1)
    lazily, history = train_clips(x, held_out)
    at_once, same_history = train_clips(x[:], held_out[:])
    assert same(weights(lazily), weights(at_once))
    assert numbers(history) == numbers(same_history)
    assert history.records[-1].held_out_loss < history.records[0].held_out_loss
    assert history.records[0].memory.items_dead > 0


@pytest.mark.parametrize("stop", [{"stop_at_step": 5 * 3 + 2}, {"stop_after_epoch": 1}, {"stop_after_epoch": 4}])
@pytest.mark.parametrize("patience", [0, 2])
def test_a_training_on_clips_that_was_stopped_ends_bit_for_bit_like_one_that_was_not(
    tmp_path: Path, stop: dict[str, int], patience: int
) -> None:
    settings = CLIP_SETTINGS.model_copy(update={"patience": patience})
    whole, history = train_clips(clips(), clips(1), settings=settings)
    checkpoint = checkpoint_of(tmp_path / "state", clips(), {"seed": 0})
    _, stopped = train_clips(
        clips(), clips(1), settings=settings, checkpoint=checkpoint, progress=Listener(**stop)
    )
    assert stopped.interrupted
    again = checkpoint_of(tmp_path / "state", clips(), {"seed": 0})
    resumed, resumed_history = train_clips(clips(), clips(1), settings=settings, checkpoint=again)
    assert same(weights(resumed), weights(whole))
    assert numbers(resumed_history) == numbers(history)


def test_the_held_out_loss_of_clips_does_not_depend_on_how_many_fit_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, together = train_clips(clips(), clips(1), revive_epochs=0)
    monkeypatch.setattr(training, "VALIDATION_BYTES", 4 * 4 * 8 * 8 * 3)  # three clips
    _, apart = train_clips(clips(), clips(1), revive_epochs=0)
    for one, other in zip(together.records, apart.records, strict=True):
        assert one.held_out_loss == pytest.approx(other.held_out_loss, rel=1e-5)


@pytest.mark.parametrize("make", [clips, lambda: clips()[:], lambda: rows(40, 1)])
def test_a_checkpoint_is_of_one_run(tmp_path: Path, make: Callable[[], Any]) -> None:
    run = ({"train": {"epochs": 3}}, 0)
    first = checkpoint_of(tmp_path, make(), run)
    assert first == checkpoint_of(tmp_path, make(), run)
    assert first.fingerprint != checkpoint_of(tmp_path, make(), (run[0], 1)).fingerprint
    assert first.fingerprint != checkpoint_of(tmp_path, make()[:10], run).fingerprint


def test_the_fingerprint_of_clips_sees_all_of_the_footage() -> None:
    x = clips(count=400, crops=1)
    of_it = checkpoint_of(Path("state"), x, 0).fingerprint
    for frames in (slice(0, 60), slice(170, 230), slice(340, 400)):
        other = replace(x, pixels=x.pixels.clone())
        other.pixels[frames] = 255 - other.pixels[frames]
        other.pixels[frames][::2] = 7
        assert checkpoint_of(Path("state"), other, 0).fingerprint != of_it
    moved = replace(x, corners=x.corners.roll(1, dims=0))
    assert checkpoint_of(Path("state"), moved, 0).fingerprint != of_it


@pytest.mark.parametrize(("small_step", "threads"), [(0, 2), (10**9, 1)])
def test_a_small_step_takes_one_thread_and_any_other_all(small_step: int, threads: int) -> None:
    seen: list[int] = []

    def objective(model: nn.Module, x: Tensor) -> BatchLoss:
        seen.append(torch.get_num_threads())
        return OBJECTIVE(model, x)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        settings = TrainConfig(epochs=1, batch_size=64)
        train(clip_model(), clips(), None, objective=objective, settings=settings, seed=0, small_step=small_step)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {threads}


def test_a_step_on_clips_uses_all_threads() -> None:
    assert modality_named("video").small_step == 0


if __name__ == "__main__":
    worker(Path(sys.argv[1]))


@pytest.mark.parametrize(
    ("samples", "size"), [(2, 32), (1000, 32), (1400, 32), (2048, 64), (10_000, 256), (200_000, 2048)]
)
def test_an_unset_batch_size_follows_the_data(samples: int, size: int) -> None:
    assert usual_batch_size(samples) == size


@pytest.mark.parametrize(("width", "threads"), [(4, 1), (4096, 2)])
def test_a_tiny_step_uses_one_thread_and_the_setting_comes_back(width: int, threads: int) -> None:
    seen: list[int] = []

    def objective(model: nn.Module, x: Tensor) -> BatchLoss:
        seen.append(torch.get_num_threads())
        return BatchLoss((model(x) - x).square().mean(), None)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        x = torch.zeros(64, width)
        settings = TrainConfig(epochs=1, batch_size=64)
        training.train(
            nn.Linear(width, width),
            x,
            None,
            objective=objective,
            settings=settings,
            seed=0,
            device="cpu",
            small_step=100_000_000,
        )
        assert seen == [threads]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_waits_for_the_end_of_the_step_and_a_second_one_does_not(twice: bool) -> None:
    went_on: list[int] = []

    class CtrlC(Listener):
        def step(self, samples: int, loss: object) -> None:
            if len(self.records) == 2:
                for _ in range(1 + twice):
                    os.kill(os.getpid(), signal.SIGINT)
                    went_on.append(samples)

    model = row_model()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        x, held_out = rows(64, 1), rows(32, 2)
        history = train(model, x, held_out, objective=OBJECTIVE, settings=SETTINGS, seed=0, progress=CtrlC())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.interrupted
    assert len(history.records) == 2
    assert len(went_on) == 1  # behind the first Ctrl-C, and not behind the second


def test_a_batch_of_one_is_made_larger_where_batchnorm_has_one_value_a_channel() -> None:
    """3 samples in batches of 2 would leave one alone, whose encoding of 1 x 1 has no statistics."""
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    settings = TrainConfig(epochs=2, batch_size=2, patience=0)

    def trained(*layers: nn.Module) -> list[int]:
        sizes = []

        def objective(model: nn.Module, batch: Tensor) -> BatchLoss:
            sizes.append(len(batch))
            return BatchLoss((model(batch) - 1).square().mean(), None)

        train(nn.Sequential(*layers), x, None, objective=objective, settings=settings, seed=0, device="cpu")
        return sizes

    assert trained(nn.Conv2d(1, 2, 4), nn.BatchNorm2d(2)) == [3, 3]
    assert trained(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2)) == [2, 1, 2, 1]  # more values a channel: as it was
    assert trained(nn.Conv2d(1, 2, 4)) == [2, 1, 2, 1]
