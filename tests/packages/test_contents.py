"""What is in the wheel, and that `make packages` tries each extra."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

from tests.packages.__main__ import ROOT, extras


def test_the_wheel_holds_each_file_of_the_package(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    left_out = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    source = Path(shutil.copytree(ROOT / "src", tmp_path / "src", ignore=left_out))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    environment = os.environ | {"CC": "false", "CXX": "false"}
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with ZipFile(tmp_path / "dist" / done.stdout.splitlines()[-1]) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("memae/")}
    expected = {path.relative_to(source).as_posix() for path in (source / "memae").rglob("*") if path.is_file()}
    assert packed == expected
    assert {
        "memae/serve/static/page.js",
        "memae/report/page/page.css",
        "memae/live/page/templates/index.html",
    } < packed


def test_each_extra_for_users_is_tried_alone() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["project"]["optional-dependencies"]
    assert set(extras()) == named.keys() - {"bench", "dev", "docs"}
