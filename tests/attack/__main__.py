"""python -m tests.attack inputs --budget 2h: reads hostile input; may be stopped, and goes on where it was."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from tests.attack.all_kinds import KINDS
from tests.attack.campaign import Campaign


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found:
        raise argparse.ArgumentTypeError("give a number and s, m or h, such as 90m")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("what", choices=["inputs"])
    parser.add_argument("--budget", type=_seconds, default=3600.0, metavar="90m", help="time to take")
    parser.add_argument("--most", type=int, help="inputs in all, with those of before")
    parser.add_argument("--place", type=Path, default=Path("build/attack"), help="where it goes on")
    parser.add_argument("--kinds", nargs="*", help="only these")
    wanted = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    kinds = tuple(kind for kind in KINDS if not wanted.kinds or kind.name in wanted.kinds)
    campaign = Campaign.at(wanted.place)
    try:
        campaign.run(wanted.budget, wanted.most, kinds)
    except KeyboardInterrupt:
        campaign.save()
    for kind, counts in campaign.counts.items():
        print(f"{kind:>10}", *(f"{outcome} {number}" for outcome, number in counts.items() if number))
    print(f"{campaign.next_seed:,} inputs in {campaign.seconds:,.0f} s")


if __name__ == "__main__":
    main()
