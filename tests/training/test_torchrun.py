"""A training that torchrun shares among processes: the losses of one process, also after one of them was killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from memae import training
from memae.progress import EpochRecord, Event
from memae.training.checkpoint import Checkpoint
from memae.training.history import History
from memae.training.objective import BatchLoss
from tests.training.test_loop import OBJECTIVE, ROOT, SETTINGS, numbers, row_model, rows

EPOCHS, STEPS_AN_EPOCH, PROCESSES = 8, 4, 4


def trained(
    checkpoint: Checkpoint | None = None, killed_at_step: int | None = None, progress: Any = None
) -> History:
    """Batches of 16 samples, however many processes share them."""
    steps = 0

    def objective(model: nn.Module, x: Tensor) -> BatchLoss:
        nonlocal steps
        steps += model.training
        if steps == killed_at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        return OBJECTIVE(model, x)

    return training.train(
        row_model(),
        rows(64, 1),
        rows(32, 2),
        objective=objective,
        settings=SETTINGS.model_copy(update={"epochs": EPOCHS}),
        seed=0,
        checkpoint=checkpoint,
        progress=progress,
    )


def worker(out: Path, killed_at_step: int | None) -> None:
    """What each process does; the last one is killed where that is asked for, and has no time to clean up."""
    rank = int(os.environ["RANK"])
    epochs: list[int] = []

    def progress(event: Event) -> None:
        if isinstance(event, EpochRecord):
            epochs.append(event.epoch)

    dies = rank == PROCESSES - 1
    history = trained(Checkpoint(out / "state", "rows"), killed_at_step if dies else None, progress)
    (out / f"{rank}.json").write_text(json.dumps({"records": numbers(history), "trained": epochs}))


def launch(out: Path, killed_at_step: int | None = None) -> int:
    """The exit code of torchrun, which ends all processes where one fails."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    done = subprocess.run(
        [*torchrun, __file__, str(out), str(killed_at_step or "never")],
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
        | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
        check=False,
        timeout=140,
    )
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("killed_in_epoch", [None, 5])
def test_four_processes_have_the_losses_of_one(tmp_path: Path, killed_in_epoch: int | None) -> None:
    if killed_in_epoch:
        assert launch(tmp_path, (killed_in_epoch - 1) * STEPS_AN_EPOCH + 2) != 0
        assert not list(tmp_path.glob("*.json"))
    assert launch(tmp_path) == 0
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(PROCESSES)]
    assert told[0]["trained"] == list(range(killed_in_epoch or 1, EPOCHS + 1))  # the main process alone tells
    wanted = [(record["loss"], record["held_out_loss"]) for record in numbers(trained())]
    assert len(wanted) == EPOCHS
    assert wanted[-1][1] < wanted[0][1]
    for facts in told:
        losses = [(record["loss"], record["held_out_loss"]) for record in facts["records"]]
        assert losses == [pytest.approx(pair, rel=1e-4) for pair in wanted]


if __name__ == "__main__":
    worker(Path(sys.argv[1]), None if sys.argv[2] == "never" else int(sys.argv[2]))
