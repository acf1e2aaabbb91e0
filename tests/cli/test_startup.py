"""What needs no data loads nothing heavy, or help would take as long as torch."""

import os
import subprocess
import sys

import pytest

HEAVY = (
    "torch", "numpy", "pydantic", "rich", "narwhals", "pyarrow", "PIL", "scipy", "sklearn", "accelerate", "safetensors",
    "matplotlib", "av", "tensorboard", "pandas", "polars", "asyncio", "importlib.metadata",
)  # fmt: skip
CODE = """
import sys
sys.argv = ["memae", *{words!r}]
from memae.cli import main
try:
    main()
except SystemExit as exit:
    code = exit.code
print("\\nloaded:", *sys.modules)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 2),
        *(([verb, "--help"], 0) for verb in ("fit", "score", "evaluate", "inspect", "demo")),
        (["fit", "x.csv", "--nonsense"], 2),
        (["fitt"], 2),
    ],
)
def test_help_version_and_a_wrong_command_line_load_nothing_heavy(words: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(words=words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    loaded = done.stdout.partition("\nloaded: ")[2].split()
    assert "memae.cli" in loaded
    assert not set(HEAVY) & set(loaded)


def test_help_keeps_examples_as_they_are_and_has_a_heading_for_video() -> None:
    command = [sys.executable, "-m", "memae", "score", "--help"]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"}
    ).stdout
    assert (
        "      memae score camera.model clip.mp4 --out frames.csv --events events.jsonl --overlay overlay.mp4\n"
        in shown
    )
    assert "\nVideo:\n  --events FILE.jsonl" in shown
    assert max(map(len, shown.splitlines())) <= 100
