"""The command that trains keeps freed memory for its next step; the library leaves the process as it is."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

KEPT = """
import sys
import numpy as np

def resident_mb():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024

{work}
blocks = [bytearray(b"x" * 1_000_000) for _ in range(200)]
full = resident_mb()
blocks.clear()
print(full - resident_mb())
"""
COMMAND = """
sys.argv = ["memae", "fit", "x.npy", "--out", "x.model", "--set", "train.epochs=1"]
from memae.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""
LIBRARY = """
from memae import Detector
Detector(settings={"train": {"epochs": 1}}).fit("x.npy")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other allocators are left alone")
@pytest.mark.parametrize(("work", "kept"), [(COMMAND, True), (LIBRARY, False)], ids=["command", "library"])
def test_freed_blocks_are_kept_by_the_command_and_given_back_by_the_library(
    work: str, kept: bool, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 6)))
    done = subprocess.run(
        [sys.executable, "-c", KEPT.format(work=work)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    given_back_mb = float(done.stdout)
    assert given_back_mb < 20 if kept else given_back_mb > 150
