"""Builds sdist and wheel in dist/, installs them in fresh virtual environments, and uses each there; takes minutes.

python -m tests.packages               without extras, without a compiler, and with each extra alone
python -m tests.packages plain video   these alone

torch and the other dependencies are installed once, in a base environment. Each environment has the base on its path
and adds memae with one extra to it, so an extra that leaves out a package fails here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "packages"
USES = Path(__file__).parent / "uses"
PLAIN, COMPILED, NO_COMPILER = "plain", "compiled", "no_compiler"


def extras() -> list[str]:
    """The extras that have a file in `uses`."""
    return sorted({path.stem for path in USES.glob("*.py")} - {PLAIN, COMPILED, NO_COMPILER})


class Environment:
    """A fresh virtual environment, which may stand on another one."""

    def __init__(self, name: str, base: Environment | None = None) -> None:
        self.folder = BUILD / name
        venv.EnvBuilder(clear=True, with_pip=True).create(self.folder)
        self.python = str(self.folder / ("Scripts" if os.name == "nt" else "bin") / "python")
        self.packages = Path(self.ask("import sysconfig; print(sysconfig.get_path('purelib'))"))
        if base is not None:
            (self.packages / "base.pth").write_text(f"{base.packages}\n", encoding="utf-8")

    def ask(self, code: str) -> str:
        done = subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def install(self, *words: str, **environment: str) -> None:
        command = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        constraints = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([*command, *constraints, *words], check=True, env=os.environ | environment)

    def check(self) -> None:
        """Makes sure that all packages are there which others need, in versions that they take."""
        subprocess.run([self.python, "-m", "pip", "check"], check=True, stdout=subprocess.DEVNULL)

    def use(self, name: str) -> None:
        """Runs a file of `uses` in a folder of its own; neither that of the file nor PYTHONPATH is searched."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        subprocess.run([self.python, "-P", str(USES / f"{name}.py")], check=True, cwd=work, env=environment)


def build() -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    place = ROOT / "dist"
    for old in place.glob("memae-*"):
        old.unlink()
    command = [sys.executable, "-m", "build", "--outdir", str(place), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(place.glob("*.tar.gz")), next(place.glob("*.whl"))


def main(asked: list[str]) -> None:
    """Prints a line for each environment; a failure ends it with the message of what failed."""
    sdist, wheel = build()
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    base = Environment("base")
    base.install(*dependencies)
    for name in asked or [PLAIN, NO_COMPILER, *extras()]:
        start = time.perf_counter()
        environment = Environment(name, base)
        if name == NO_COMPILER:
            environment.install(str(sdist), CC="false", CXX="false")
        else:
            environment.install(str(wheel) if name == PLAIN else f"{wheel}[{name}]")
        environment.check()
        environment.use(PLAIN)
        if name != PLAIN:
            environment.use(name)
        elif shutil.which("c++"):
            environment.use(COMPILED)
        print(f"{name}: installed and used in {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
