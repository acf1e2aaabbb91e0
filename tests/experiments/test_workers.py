import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.records import Cell
from experiments.runner import Job
from experiments.workers import run_in_processes

FOREVER = float("inf")


def jobs(*names: str) -> list[Job]:
    return [Job(Cell("data", name, 0), ("all",), "command") for name in names]


def pretend(job: Any, root: Any, deadline: Any, say: Any) -> Any:
    """Stands for `runner.compute`; a spawned process imports it from here. What it does is the name of the method."""
    import torch

    match job.cell.method:
        case "fails":
            raise ValueError("no luck")
        case "dies":
            os._exit(7)
        case "sleeps":
            (root / "sleeping").write_text(str(os.getpid()))
            time.sleep(600)
        case "spent":
            return False
    (root / job.cell.method).write_text(f"{os.getpid()} {torch.get_num_threads()} {os.environ['OMP_NUM_THREADS']}")
    say(f"did {job.cell.method}")
    return True


def test_jobs_are_shared_by_two_processes_of_one_thread_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    said: list[Any] = []
    names = "abcdef"
    assert run_in_processes(jobs(*names), tmp_path, FOREVER, said.append, 2, pretend) == []
    done = [(tmp_path / name).read_text().split() for name in names]
    assert sorted(said) == [f"did {name}" for name in names]
    assert 1 <= len({process for process, *_ in done}) <= 2
    assert str(os.getpid()) not in {process for process, *_ in done}
    assert {(torch, omp) for _, torch, omp in done} == {("1", "1")}
    assert os.environ["OMP_NUM_THREADS"] == "4"
    assert multiprocessing.active_children() == []


def test_failed_and_killed_jobs_are_named_and_the_others_go_on_until_the_budget_is_spent(tmp_path: Path) -> None:
    said: list[Any] = []
    names = ("fails", "a", "dies", "b", "spent", "c")
    failed = run_in_processes(jobs(*names), tmp_path, FOREVER, said.append, 1, pretend)
    assert len(failed) == 2
    assert failed[0].startswith("data fails seed 0: ValueError: no luck (test_workers.py:")
    assert failed[1] == "data dies seed 0: its process ended with 7"
    spent = "budget spent; 1 parts are not begun"
    assert said == [f"FAILED {failed[0]}", "did a", f"FAILED {failed[1]}", "did b", spent]
    assert not (tmp_path / "c").exists()


def test_no_jobs_are_no_processes(tmp_path: Path) -> None:
    assert run_in_processes([], tmp_path, FOREVER, print, 2, pretend) == []


def test_ctrl_c_ends_the_processes_at_once(tmp_path: Path) -> None:
    sleeping, until = tmp_path / "sleeping", time.monotonic() + 60

    def press() -> None:
        while not (sleeping.exists() and sleeping.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)  # another thread would hear of it first

    pressing = threading.Thread(target=press)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        run_in_processes(jobs("sleeps", "a"), tmp_path, FOREVER, print, 1, pretend)
    pressing.join()
    assert time.monotonic() < until
    assert multiprocessing.active_children() == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(sleeping.read_text()), 0)
    assert [path.name for path in tmp_path.iterdir()] == ["sleeping"]


def test_the_parts_of_one_cell_are_shared_too(tmp_path: Path) -> None:
    cell = Job(Cell("data", "keep", 0), tuple("abcdef"), "command")
    said: list[Any] = []
    assert run_in_processes([cell], tmp_path, FOREVER, said.append, 2, add_part) == []
    assert sorted(said) == [f"did {part}" for part in "abcdef"]
    assert cell.cell.parts(tmp_path) == set("abcdef")


def add_part(job: Any, root: Any, deadline: Any, say: Any) -> Any:
    """Adds the one part that it is given, as `runner.compute` would, next to another process that does the same."""
    (part,) = job.parts
    job.cell.add(root, part, job.command, {}, {})
    say(f"did {part}")
    return True
