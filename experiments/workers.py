"""Several parts of cells at a time, each in a process of its own with one thread."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from experiments.runner import Job, Say, compute, failure

__all__ = ["run_in_processes"]

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_PATIENCE_S = 10.0  # from asking a worker to end until it is ended

Compute = Callable[[Job, Path, float, Say], bool]


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None


def run_in_processes(
    jobs: Sequence[Job],
    root: Path,
    deadline: float,
    say: Say,
    processes: int,
    compute: Compute = compute,
) -> list[str]:
    """Computes jobs in spawned processes, part by part; the failed parts, each with its error. Others go on.

    On Ctrl-C, or any other end of this function, the processes are ended, and no file of theirs is left half written.
    """
    waiting = [replace(job, parts=(part,)) for job in jobs for part in job.parts]
    failed, spent = [], False
    workers: dict[Connection, _Worker] = {}
    try:
        for _ in range(min(processes, len(waiting))):
            worker = _start(root, deadline, compute)
            workers[worker.pipe] = worker
        for worker in workers.values():
            _give(worker, waiting)
        while any(worker.job for worker in workers.values()):
            for pipe in wait([w.pipe for w in workers.values() if w.job]):
                assert isinstance(pipe, Connection)
                worker = workers[pipe]
                assert worker.job is not None
                try:
                    kind, text = pipe.recv()
                except EOFError:  # killed, for its memory or by hand
                    worker.process.join()
                    kind, text = "failed", f"{worker.job.cell}: its process ended with {worker.process.exitcode}"
                    del workers[pipe]
                    worker = _start(root, deadline, compute)
                    workers[worker.pipe] = worker
                if kind == "said":
                    say(text)
                    continue
                if kind == "failed":
                    failed.append(text)
                    say(f"FAILED {text}")
                if kind == "spent":
                    spent = True
                worker.job = None
                if not spent:
                    _give(worker, waiting)
        if spent:
            say(f"budget spent; {len(waiting)} parts are not begun")
    finally:
        _end([worker.process for worker in workers.values()])
    return failed


def _give(worker: _Worker, waiting: list[Job]) -> None:
    if waiting:
        worker.job = waiting.pop(0)
        worker.pipe.send(worker.job)


def _start(root: Path, deadline: float, compute: Compute) -> _Worker:
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_work, args=(there, root, deadline, compute), daemon=True)
    with _environment(_ONE_THREAD):  # the libraries read it when the process loads them
        process.start()
    there.close()
    return _Worker(process, here)


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _end(processes: Sequence[SpawnProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_PATIENCE_S)
        if process.is_alive():  # inside a long call of a library that does not come back to Python
            process.kill()
            process.join()


def _work(pipe: Connection, root: Path, deadline: float, compute: Compute) -> None:
    """What a worker does: jobs from the pipe, until it is ended."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the parent alone, which then ends this process
    signal.signal(signal.SIGTERM, _exit)

    import torch

    torch.set_num_threads(1)

    def say(text: str) -> None:
        _check_parent()
        pipe.send(("said", text))

    while True:
        try:
            job = pipe.recv()
        except EOFError:  # the parent is gone
            return
        try:
            finished = compute(job, root, deadline, say)
        except Exception as error:
            pipe.send(("failed", failure(job, error)))
        else:
            pipe.send(("done" if finished else "spent", ""))


def _exit(*_: Any) -> None:
    raise SystemExit(1)


def _check_parent() -> None:
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit(1)
