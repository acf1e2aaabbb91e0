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
child = os.fork()
if child == 0:
    torch.set_num_threads(int(sys.argv[2]))
    try:
        fit()
        print("fitted", flush=True)
    except MemaeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked there")
@pytest.mark.parametrize(("parent", "child", "hangs"), [(2, 2, True), (2, 1, False), (1, 1, False)])
def test_a_fit_that_would_hang_in_a_forked_process_says_so(parent: int, child: int, hangs: bool) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FIT_TWICE, str(parent), str(child)]
    environment = {**os.environ, "MEMAE_COMPILED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    if hangs:
        assert (
            "it would wait for them forever; start processes with multiprocessing.get_context('spawn')"
            in done.stdout
        )
    else:
        assert done.stdout == "fitted\n"
