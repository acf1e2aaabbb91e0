"""python -m tests.attack inputs --budget 2h: attacks; may be stopped, and goes on where it was.

inputs: hostile files. corpus: those that were found once. kills: processes killed while they write. disks: full, closed
and slow ones. record: writes the result of all to tests/attack/result.json.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from pathlib import Path

from tests.attack.all_kinds import KINDS
from tests.attack.campaign import Campaign, originals_in
from tests.attack.faults import again_with, build, is_loaded
from tests.attack.kinds import Known
from tests.attack.record import write_record


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found:
        raise argparse.ArgumentTypeError("give a number and s, m or h, such as 90m")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.attack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["inputs", "corpus", "kills", "disks", "record"])
    parser.add_argument("--budget", type=_seconds, default=3600.0, metavar="90m", help="time to take")
    parser.add_argument("--most", type=int, help="so many in all, with those of before")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="of the inputs of a new place")
    parser.add_argument("--place", type=Path, default=Path("build/attack"), help="where it goes on")
    parser.add_argument("--kinds", nargs="*", help="only these")
    wanted = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    wanted.place.mkdir(parents=True, exist_ok=True)
    if wanted.what in ("kills", "disks") and not is_loaded():
        sys.exit(again_with(build(wanted.place), *sys.argv[1:]).returncode)
    {"inputs": _inputs, "corpus": _corpus, "record": _record, "kills": _kills, "disks": _disks}[wanted.what](
        wanted
    )


def _inputs(wanted: argparse.Namespace) -> None:
    kinds = tuple(kind for kind in KINDS if not wanted.kinds or kind.name in wanted.kinds)
    campaign = Campaign.at(wanted.place, wanted.first)
    try:
        campaign.run(wanted.budget, wanted.most, kinds)
    except KeyboardInterrupt:
        campaign.save()
    for kind, counts in campaign.counts.items():
        print(f"{kind:>10}", *(f"{outcome} {number}" for outcome, number in counts.items() if number))
    print(f"{campaign.read:,} inputs in {campaign.seconds:,.0f} s")


def _corpus(wanted: argparse.Namespace) -> None:
    from tests.attack.corpus import entries, findings

    found = list(findings(Known(originals_in(wanted.place))))
    for entry, what in found:
        print(f"{entry.kind}/{entry.name}: {what.outcome}, {what.why}")
    print(f"{len(entries())} inputs, {len(found)} findings")
    sys.exit(bool(found))


def _record(wanted: argparse.Namespace) -> None:
    print(write_record(wanted.place))


def _kills(wanted: argparse.Namespace) -> None:
    from tests.attack.kills import Kills, scenarios

    kills = Kills.at(wanted.place, originals_in(wanted.place))
    with contextlib.suppress(KeyboardInterrupt):
        kills.run(wanted.most or 500, wanted.budget, scenarios())
    for way, count in kills.done.items():
        print(f"{count:>5} {way}")
    print(f"{kills.total} kills, {len(kills.findings)} findings")


def _disks(wanted: argparse.Namespace) -> None:
    from tests.attack.disks import Disks
    from tests.attack.kills import scenarios

    disks = Disks.at(wanted.place, originals_in(wanted.place))
    with contextlib.suppress(KeyboardInterrupt):
        disks.run(wanted.most or 50, wanted.budget, scenarios())
    print(*(f"{count} {way}" for way, count in disks.done.items()), f"{len(disks.findings)} findings", sep=", ")


if __name__ == "__main__":
    main()
