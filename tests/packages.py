"""Installs the wheel and the sdist of memae into fresh environments, each extra alone, and scores there.

python tests/packages.py dist build/packages [EXTRA ...]

Without names it takes every extra but those that only work on memae itself needs. The sdist is installed where no
compiler is found. An environment is removed once it has passed.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOR_WORK_ON_MEMAE = {"bench", "dev", "docs"}
NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}
SCORE = """
import numpy as np
import memae
from memae import Detector

assert "site-packages" in memae.__file__, memae.__file__  # and no working tree
rows = np.random.default_rng(0).random((60, 4))
Detector(settings={"train": {"epochs": 1}, "memory": {"num_items": 8}}, device="cpu").fit(rows).save("tiny.model")
scores = Detector.load("tiny.model", device="cpu").score(rows).values
assert scores.shape == (60,) and np.isfinite(scores).all()
"""


def extras() -> list[str]:
    """The extras that users install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted(project["optional-dependencies"].keys() - FOR_WORK_ON_MEMAE)


def check(package: Path, extra: str, folder: Path, variables: dict[str, str]) -> None:
    """Installs a package, with one extra or with none, and trains, saves, loads and scores a tiny model with it."""
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = folder.resolve() / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = f"{package.resolve()}[{extra}]" if extra else str(package.resolve())
    constraints = str(ROOT / "constraints.txt")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    for words in (
        ["-m", "pip", "install", "--quiet", "-c", constraints, wanted],
        ["-m", "pip", "check"],
        ["-c", SCORE],
    ):
        subprocess.run([python, *words], cwd=folder, env=environment, check=True)
    shutil.rmtree(folder)


def main(dist: Path, folder: Path, chosen: list[str]) -> None:
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    for extra in chosen or ["", *extras()]:
        check(wheel, extra, folder / (extra or "plain"), {})
        print(f"{wheel.name}[{extra}]: installs and scores", flush=True)
    check(sdist, "", folder / "sdist", NO_COMPILER)
    print(f"{sdist.name} without a compiler: installs and scores", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
