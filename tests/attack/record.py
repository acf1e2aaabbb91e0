"""The result of an attack as one committed file, and its figures as a table of the page."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from tests.attack.campaign import OUTCOMES, Campaign, commit

__all__ = ["GOALS", "RESULT", "write_record"]

RESULT = Path(__file__).with_name("result.json")
GOALS = {"inputs": 1_000_000, "videos": 2_000, "kills": 500, "findings": 0}
COMMANDS = ("inputs", "kills", "disks")


def write_record(place: Path) -> Path:
    """Writes what the folder of an attack holds to the result file; its path."""
    campaign = Campaign.at(place)
    kills, disks = (_state(place / f"{name}.json") for name in ("kills", "disks"))
    found = campaign.findings + kills.get("findings", []) + disks.get("findings", [])
    reached = {
        "inputs": sum(sum(row.values()) for row in campaign.counts.values()),
        "videos": sum(campaign.counts.get("video", {}).values()),
        "kills": sum(kills.get("done", {}).values()),
        "findings": len(found),
    }
    result: dict[str, Any] = {
        "commands": [f"python -m tests.attack {name} --place {place}" for name in COMMANDS],
        "commits": campaign.commits,
        "written_at": commit(),
        "machine": {
            "python": platform.python_version(),
            "system": platform.system(),
            "processor": platform.machine(),
        },
        "goals": GOALS,
        "reached": reached,
        "inputs": {
            kind: {outcome: row.get(outcome, 0) for outcome in OUTCOMES} for kind, row in campaign.counts.items()
        },
        "seconds_of_inputs": round(campaign.seconds),
        "kills": kills.get("done", {}),
        "points_of_kills": kills.get("points", {}),
        "disks": disks.get("done", {}),
        "findings": found,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return RESULT


def _state(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found
