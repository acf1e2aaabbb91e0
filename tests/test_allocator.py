"""What is free between blocks that stay goes back to the system."""

import subprocess
import sys

import pytest

HOLES = """
from pathlib import Path
from memae.allocator import give_back, keep_large_blocks

def resident_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024

keep_large_blocks()
before = resident_mb()
come_and_go, stay = [], []
for _ in range(1000):
    come_and_go.append(bytearray(b"x" * 100_000))
    stay.append(bytearray(b"x" * 1_000))
come_and_go.clear()
full = resident_mb()
give_back()
print(before, full, resident_mb())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other allocators are left alone")
def test_holes_between_blocks_that_stay_are_given_back():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    before, full, after = map(float, done.stdout.split())
    assert full > before + 90, "freed blocks are kept for the next step"
    assert after < before + 20
