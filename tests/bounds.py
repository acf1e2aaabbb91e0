"""Prints pip constraints: the newest or lowest versions that pyproject.toml allows, torch as in constraints.txt.

python tests/bounds.py lowest > bounds.txt
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def bounds(which: str) -> list[str]:
    """Lines for `pip install -c`: "newest" pins torch only, "lowest" also every dependency to its lower bound."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    torch = [pin for pin in pins if pin.startswith("torch==")]
    return torch if which == "newest" else [*torch, *_lowest()]


def _lowest() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    without_extras = (re.sub(r"\[.*\]", "", line) for line in wanted)  # which pip does not take in constraints
    return [re.sub(">=", "==", line) for line in without_extras if not line.startswith("torch>=")]


if __name__ == "__main__":
    print("\n".join(bounds(sys.argv[1])))
