"""Two real processes, joined by gloo: rules see the queries of both, and gradients are those of one process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, multiprocessing, nn
from torch import distributed as dist
from torch.testing import assert_close

from memae.autoencoder import Autoencoder
from memae.config import TrainConfig
from memae.memory import MEMTO, MNAD
from memae.training.loop import train
from memae.training.objective import ReconstructionObjective

MEMORIES: dict[str, Callable[[], Any]] = {
    "mnad": partial(MNAD, 4, 3),
    "mnad-released": partial(MNAD, 4, 3, variant="released"),
    "mnad-decay": partial(MNAD, 4, 3, decay=0.8),
    "memto": partial(MEMTO, 4, 3),
}


def learnt(name: str, queries: Tensor) -> dict[str, Tensor]:
    """The state of a memory after two steps on queries, and the gradients of its parameters at the last."""
    torch.manual_seed(3)
    memory = MEMORIES[name]().train()
    for step in queries:
        memory.zero_grad()
        read = memory.read(step)
        loss = read.values.square().sum(dim=2).mean() + sum(term.value for term in memory.loss_terms(read))
        if list(memory.parameters()):
            loss.backward()
        memory.observe(read)
    gradients = {f"gradient of {key}": p.grad for key, p in memory.named_parameters()}
    return {**memory.state_dict(), **gradients}


def all_queries() -> Tensor:
    """(steps, G, T, C)."""
    return torch.randn(2, 6, 5, 3, generator=torch.Generator().manual_seed(0))


def trained(name: str) -> dict[str, Tensor]:
    """The state of a small model after a training, of which each process takes its share of every batch."""
    torch.manual_seed(4)
    memory = MEMORIES[name]()
    model = Autoencoder(nn.Linear(6, 3), memory, nn.Linear(memory.out_dim, 6))
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(5))
    settings = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-2)
    objective = ReconstructionObjective(reduction="mean")
    train(model, x, None, objective=objective, settings=settings, seed=0, device="cpu")
    return {key: part.clone() for key, part in model.state_dict().items()}


def of_process(rank: int, out: str, port: int) -> None:
    """What each process does with its samples."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()} | {"GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo")
    share = all_queries()[:, rank * 3 : rank * 3 + 3]
    for name in MEMORIES:
        for what, found in (("learnt", learnt(name, share)), ("trained", trained(name))):
            save_file({key: part.contiguous() for key, part in found.items()}, f"{out}/{what} {name} {rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("launched")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(of_process, (str(out), port), nprocs=2)  # type: ignore[attr-defined,no-untyped-call]
    return out


@pytest.mark.parametrize("name", MEMORIES)
def test_both_processes_have_the_items_of_one_that_saw_all(launched: Path, name: str) -> None:
    wanted = learnt(name, all_queries())
    first, second = (load_file(launched / f"learnt {name} {rank}") for rank in (0, 1))
    for key, part in wanted.items():
        if key.startswith("gradient"):  # which the trainer averages over the processes
            assert_close((first[key] + second[key]) / 2, part)
        else:
            assert_close(first[key], second[key], rtol=0, atol=1e-7)
            assert_close(first[key], part)


@pytest.mark.parametrize("name", MEMORIES)
def test_both_processes_train_the_model_that_one_trains(launched: Path, name: str) -> None:
    wanted = trained(name)
    first, second = (load_file(launched / f"trained {name} {rank}") for rank in (0, 1))
    for key, part in wanted.items():
        assert torch.equal(first[key], second[key])
        assert_close(first[key], part, rtol=1e-3, atol=1e-5)
