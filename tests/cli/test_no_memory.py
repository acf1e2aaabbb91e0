"""Memory that really runs out under a command: processes with a limit on their address space."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import Done

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")

# what a command imports and starts is not what the limit is about: so much more than that it may take
LIMITED = """
import resource, sys
import accelerate, safetensors.torch, sklearn.metrics, torch
import memae.detector, memae.engine.scoring, memae.cli.fit, memae.cli.score
from memae.cli import main
from memae.modality import modalities
modalities()
torch.nn.Linear(2, 2)(torch.ones(1, 2)).sum().backward()
memae.engine.scoring.WEIGHT_BYTES = int(sys.argv.pop(1)) * 2**20
pages = int(open("/proc/self/statm").read().split()[0])
top = pages * resource.getpagesize() + int(sys.argv.pop(1)) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (top, -1))
sys.argv[0] = "memae"
main()
"""

MANY_ITEMS = ("--preset", "table-paper", "--set", "memory.num_items=20000", "--set", "train.epochs=1")


def limited(megabytes: int, *words: str, at_once: int = 64) -> subprocess.CompletedProcess[str]:
    """The command line in a process that may take so many MB more than it starts with; rows go through `at_once`."""
    command = [sys.executable, "-c", LIMITED, str(at_once), str(megabytes), *map(str, words)]
    env = os.environ | {"COLUMNS": "200", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    env["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # its own reserves 1 GiB of addresses, of which it uses little
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=280)


def warnings(done: subprocess.CompletedProcess[str], doing: str) -> list[tuple[int, ...]]:
    """(tried, now) of each time that a batch was halved."""
    said = re.findall(rf"warning: out of memory while {doing} ([\d,]+) samples at once; now ([\d,]+)", done.stderr)
    return [tuple(int(number.replace(",", "")) for number in pair) for pair in said]


@pytest.fixture
def flows(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.normal(size=(6000, 8)), columns=list("abcdefgh")).to_csv("flows.csv", index=False)
    return folder


def test_explaining_takes_fewer_rows_at_once_and_finds_the_same(flows: Path, memae: Callable[..., Done]) -> None:
    assert memae("fit", "flows.csv", "--out", "flows.model", *MANY_ITEMS).code == 0
    words = ("score", "flows.model", "flows.csv", "--out", "scores.csv", "--explain")
    assert memae(*words, "wanted.jsonl").code == 0
    done = limited(300, *words, "found.jsonl", at_once=10_000)
    assert done.returncode == 0, done.stderr
    assert warnings(done, "explaining") or warnings(done, "scoring")
    found, wanted = (
        [json.loads(line) for line in (flows / name).read_text().splitlines()]
        for name in ("found.jsonl", "wanted.jsonl")
    )
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in wanted], rel=1e-5)


def test_a_training_takes_fewer_rows_at_once(flows: Path) -> None:
    done = limited(500, "fit", "flows.csv", "--out", "flows.model", *MANY_ITEMS, "--set", "train.batch_size=5000")
    assert done.returncode == 0, done.stderr
    assert warnings(done, "training on")
    assert (flows / "flows.model").exists()
