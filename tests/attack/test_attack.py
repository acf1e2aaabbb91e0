"""A little of the attack: some seeds of each kind of input, what was found before, kills and bad disks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.attack.campaign import Campaign
from tests.attack.corpus import entries
from tests.attack.guard import OUTCOMES

pytestmark = [
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="needs fork, /proc and the C library of Linux"
    ),
    pytest.mark.timeout(900),  # of a busy machine; alone they take half a minute
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the attacks of these tests share their originals."""
    return tmp_path_factory.mktemp("attack")


def attack(place: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The attack in a process of its own: this one has used torch's threads, and must not fork."""
    command = [sys.executable, "-m", "tests.attack", *map(str, words), "--place", str(place), "--budget", "10m"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])


def state(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


SLOW = pytest.mark.slow


@pytest.mark.parametrize("most", [400, pytest.param(1000, marks=SLOW)])
def test_hostile_inputs_are_read_or_refused_and_nothing_else(place: Path, most: int) -> None:
    done = attack(place, "inputs", "--most", most)
    assert done.returncode == 0, done.stderr
    found = state(place / "state.json")
    assert found["findings"] == []
    assert sum(sum(row.values()) for row in found["counts"].values()) == most
    for kind in ("csv", "parquet", "arrow", "npy", "npz", "idx", "image"):
        assert min(found["counts"][kind][outcome] for outcome in OUTCOMES[:2]) > 0, (kind, found["counts"])
    assert found["counts"]["video"]["read"] + found["counts"]["video"]["refused"] > 0


def test_a_new_attack_begins_at_the_seed_that_is_asked_for_and_goes_on_where_it_was(tmp_path: Path) -> None:
    new = Campaign.at(tmp_path, 2_000_000)
    assert (new.next_seed, new.read) == (2_000_000, 0)
    new.next_seed += 5
    new.save()
    again = Campaign.at(tmp_path)
    assert (again.first_seed, again.read) == (2_000_000, 5)


def test_what_was_found_once_is_not_found_again(place: Path) -> None:
    assert {entry.kind for entry in entries()} >= {"arrow", "model", "npy", "npz", "parquet", "settings", "truth"}
    assert all((entry.folder / entry.opened).exists() for entry in entries())
    done = attack(place, "corpus")
    assert (done.returncode, done.stdout) == (0, f"{len(entries())} inputs, 0 findings\n"), done.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("most", [8, pytest.param(24, marks=SLOW)])
def test_a_kill_leaves_the_old_or_the_new_and_a_training_goes_on(place: Path, most: int) -> None:
    done = attack(place, "kills", "--most", most)
    assert done.returncode == 0, done.stderr
    found = state(place / "kills.json")
    assert found["findings"] == []
    assert sum(found["done"].values()) == most
    assert any(way.startswith("fit") for way in found["done"])
    assert min(found["points"].values()) >= 3  # at least: write, flush, put in place


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_full_closed_or_slow_disk_and_two_at_once_leave_nothing_torn(place: Path) -> None:
    done = attack(place, "disks", "--most", 1)
    assert done.returncode == 0, done.stderr
    found = state(place / "disks.json")
    assert found["findings"] == []
    assert found["done"] == dict.fromkeys(("full", "closed", "slow", "two at once"), 1)
