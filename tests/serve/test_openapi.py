"""/openapi.json says what the service does: schemathesis makes requests of it, and looks at each answer."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from memae import Detector
from memae.web import Limits
from tests.serve.served import TOKEN, serving

SCHEMATHESIS = Path(sys.executable).with_name("st")
# no schema says which rows fit a model that was trained on others, so a request that is valid by it may be refused
UNKNOWABLE = "positive_data_acceptance"


def check(models: Mapping[str, Detector], folder: Path, *options: str) -> None:
    with serving(models, Limits(body_bytes=1 << 20), TOKEN) as client:
        command = [
            str(SCHEMATHESIS), "run", f"{client.url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}",
            "--checks", "all", "--exclude-checks", UNKNOWABLE, "--seed", "1", "--continue-on-failure", *options,
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Operations:       12 selected / 12 total" in done.stdout


needs_schemathesis = pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is not installed")


@needs_schemathesis
def test_a_few_requests_of_each_route_are_answered_as_it_says(
    models: Mapping[str, Detector], tmp_path: Path
) -> None:
    check(models, tmp_path, "--phases", "fuzzing", "--max-examples", "4")


@pytest.mark.slow
@needs_schemathesis
def test_many_requests_of_each_route_are_answered_as_it_says(
    models: Mapping[str, Detector], tmp_path: Path
) -> None:
    check(models, tmp_path, "--max-examples", "50")
