"""The result of an attack: one committed file, and its figures in tables of docs/attack.md."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from typing import Any

from tests.attack.campaign import OUTCOMES, Campaign, commit

__all__ = ["PAGE", "RESULT", "tables", "with_tables", "write_record"]

RESULT = Path(__file__).with_name("result.json")
PAGE = Path(__file__).parents[2] / "docs" / "attack.md"
GOALS = {"inputs": 1_000_000, "videos": 2_000, "kills": 500, "findings": 0}


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
        "commands": [
            f"python -m tests.attack inputs --first {campaign.first_seed} --place {place}",
            *(f"python -m tests.attack {name} --place {place}" for name in ("kills", "disks")),
        ],
        "commits": list(dict.fromkeys((*campaign.commits, *kills.get("commits", []), *disks.get("commits", [])))),
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
        "seeds": [campaign.first_seed, campaign.next_seed],
        "seconds_of_inputs": round(campaign.seconds),
        "kills": kills.get("done", {}),
        "points_of_kills": kills.get("points", {}),
        "disks": disks.get("done", {}),
        "findings": found,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")
    return RESULT


def with_tables(page: str, result: dict[str, Any]) -> str:
    """The page with the tables of a result."""
    begin, end = "<!-- attack:begin -->\n", "<!-- attack:end -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{tables(result)}{end}", page, flags=re.DOTALL)


def tables(result: dict[str, Any]) -> str:
    """What was reached of each goal, what came of the inputs by kind, and what was killed and written on bad disks."""
    lines = ["| | goal | reached |", "|---|---|---|"]
    lines += [f"| {name} | {goal:,} | {result['reached'][name]:,} |" for name, goal in result["goals"].items()]
    lines += ["", "| kind of input | inputs | read | refused | findings |", "|---|---|---|---|---|"]
    for kind, row in sorted(result["inputs"].items()):
        found = sum(row[outcome] for outcome in OUTCOMES[2:])
        lines.append(f"| {kind} | {sum(row.values()):,} | {row['read']:,} | {row['refused']:,} | {found:,} |")
    lines += ["", "| killed, or written on a bad disk | runs |", "|---|---|"]
    lines += [f"| {way} | {count:,} |" for way, count in {**result["kills"], **result["disks"]}.items()]
    commits = ", ".join(f"`{commit}`" for commit in result["commits"])
    return "\n".join([*lines, "", f"Commits: {commits}.", ""])


def _state(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found
