"""Says that torch cannot work in a process that was forked after torch had worked with several threads."""

from __future__ import annotations

import os

import torch

from memae.errors import MemaeError

__all__ = ["check_not_forked"]

_WORKED_IN: set[int] = set()
"""Processes in which this library let torch work with several threads; a forked process has a copy of it."""


def check_not_forked() -> None:
    """Notes that torch works here, or raises an error where it would wait for threads that a fork did not copy.

    Raises:
        MemaeError: another process, from which this one was forked, has worked with several threads.
    """
    if torch.get_num_threads() == 1:
        return
    if _WORKED_IN and os.getpid() not in _WORKED_IN:
        raise MemaeError(
            "this process was forked from one in which torch has used its threads, and it would wait for them forever; "
            "start processes with multiprocessing.get_context('spawn'), or call torch.set_num_threads(1) in this one"
        )
    _WORKED_IN.add(os.getpid())
