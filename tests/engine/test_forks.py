"""Training in a forked process after torch has used its threads would hang; it says so instead."""

import os
import subprocess
import sys

import pytest

FIT_TWICE = """
import os, sys
import numpy as np, torch
from memae import Detector
from memae.errors import MemaeError

torch.set_num_threads(int(sys.argv[1]))
rows = np.random.default_rng(0).random((4000, 12))
settings = {"train": {"epochs": 1, "batch_size": 2048}}
fit = lambda: Detector("table-paper", settings=settings, device="cpu").fit(rows)
fit()
for threads in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        torch.set_num_threads(int(threads))
        try:
            fit()
            print("fitted", flush=True)
        except MemaeError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked there")
@pytest.mark.parametrize(("parent", "children"), [("2", ("2", "1")), ("1", ("1",))])
def test_a_fit_that_would_hang_in_a_forked_process_says_so(parent: str, children: tuple[str, ...]) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FIT_TWICE, parent, *children]
    environment = {**os.environ, "MEMAE_COMPILED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    said = done.stdout.splitlines()
    assert said[-1] == "fitted"  # in a child of one thread
    for line in said[:-1]:
        assert "it would wait for them forever; start processes with multiprocessing.get_context('spawn')" in line
    assert len(said) == len(children)
