"""The ranked anomalies: each with its pictures, or its columns by their part of the score, and the items behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from memae.detector import Detector
from memae.memory.shown import MemoryItems
from memae.progress import Progress
from memae.report.page.columns import ColumnShares
from memae.report.page.markup import Markup, Section, name, shortened, tag
from memae.report.page.pictures import item_picture, pictures_of, sample_picture
from memae.report.page.scan import Findings, ShownEvent
from memae.types import Cell, Explanation, ItemUse, Key, Source

__all__ = ["anomalies_section"]

TITLE = "Ranked anomalies"
SAMPLE_COLUMNS: tuple[str, ...] = ("rank", "sample", "score", "p-value", "verdict", "why")
EVENT_COLUMNS: tuple[str, ...] = ("rank", "video", "start, s", "duration, s", "highest score", "part", "why")
SHOWN_CELLS = 8
SHOWN_ITEMS = 3
LARGEST = 3_500_000  # characters of all entries; from there on they come without pictures and columns


def anomalies_section(
    findings: Findings,
    detector: Detector,
    source: Source,
    items: MemoryItems | None,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Section:
    """The list of samples, or of events where the kind of data has these."""
    shares = ColumnShares()
    if findings.events is not None:
        what, total, columns = "events", f"{findings.event_count:,} in all", EVENT_COLUMNS
        entries = _events(findings.events, items)
    else:
        what, total = "samples", f"{int(findings.flags.sum()):,} are flagged"
        columns = SAMPLE_COLUMNS[:-1] + (("label",) if findings.anomalous else ()) + SAMPLE_COLUMNS[-1:]
        entries = _samples(findings, detector, source, items, shares, skip_bad, progress)
    if not entries:
        return Section("anomalies", TITLE, [tag("p", f"There are no {what} to show.")])
    head = [
        tag("th", column, scope="col", data_sort=column != "why", aria_sort="none" if column != "why" else None)
        for column in columns
    ]
    rows = [
        tag("tr", [tag("td", cell, data_value=value) for value, cell in cells], tag("td", why, class_="why"))
        for cells, why in entries
    ]
    caption = tag("caption", f"the {len(rows):,} {what} with the highest scores; {total}")
    made = tag("table", caption, tag("thead", tag("tr", head)), tag("tbody", rows), id="ranked")
    form = tag(
        "div", tag("label", "Filter ", tag("input", type="search", id="filter", autocomplete="off")),
        tag("output", id="matches", for_="filter", aria_live="polite"), class_="filter", hidden=True,
    )  # fmt: skip
    left = sum(why is None for _, why in entries)
    note = f"{left:,} of these come without details, as the file would become too large." if left else None
    wide = tag("div", made, class_="wide", tabindex=0, role="region", aria_label=TITLE)
    parts = [form, tag("p", note, class_="note") if note else None, wide]
    return Section("anomalies", TITLE, [*parts, _columns(detector, source, shares, skip_bad, progress)])


def _columns(
    detector: Detector, source: Source, shares: ColumnShares, skip_bad: bool, progress: Progress | None
) -> Markup | None:
    """The table of the columns, where there are flagged rows."""
    if not shares:
        return None
    modality, artifact = detector.modality, detector.artifact
    all_rows = modality.column_shares(artifact, source, skip_bad=skip_bad, progress=progress)
    return shares.table(all_rows, artifact.facts.get("column_shares"))


Entry = tuple[list[tuple[object, Markup]], Markup | None]
"""The cells, each with the value that it is sorted by, and the details."""


class _Details:
    """Details by rank, of as many of the highest ranks as `LARGEST` leaves room for."""

    def __init__(self) -> None:
        self._by_rank: dict[int, Markup] = {}
        self._size = 0

    def add(self, rank: int, details: Markup) -> None:
        """Keeps the details, or drops those of the lowest ranks."""
        self._by_rank[rank] = details
        self._size += len(details)
        while self._size > LARGEST:
            self._size -= len(self._by_rank.pop(max(self._by_rank)))

    def get(self, rank: int) -> Markup | None:
        """Those of a rank, if they are still there."""
        return self._by_rank.get(rank)


def _samples(
    findings: Findings,
    detector: Detector,
    source: Source,
    items: MemoryItems | None,
    shares: ColumnShares,
    skip_bad: bool,
    progress: Progress | None,
) -> list[Entry]:
    details, keys = _Details(), [findings.keys[row] for row in findings.shown]
    rank = {key: place for place, key in enumerate(keys, 1)}
    flagged = {findings.keys[row] for row in findings.shown if findings.flags[row]}
    for found in detector.explanations(source, keys, skip_bad=skip_bad, progress=progress) if keys else ():
        original = detector.modality.original(source, found.key) if found.x is not None else None
        details.add(rank[found.key], _why(found, detector, original, items))
        if found.key in flagged:
            shares.add(found.cells)
    entries: list[Entry] = []
    for place, row in enumerate(findings.shown, 1):
        key, score, p_value = findings.keys[row], float(findings.scores[row]), float(findings.p_values[row])
        is_flagged = key in flagged
        cells: list[tuple[object, Markup]] = [
            (place, tag("b", place)),
            (_order(key), name(key)),
            (score, tag("span", f"{score:.6g}")),
            (p_value, tag("span", f"{p_value:.3g}")),
            (
                int(is_flagged),
                tag("span", "anomaly" if is_flagged else "normal", class_="alarm" if is_flagged else None),
            ),
        ]
        if findings.anomalous:
            said = {True: "anomalous", False: "normal", None: "none"}[findings.anomalous.get(key)]
            cells.append((said, tag("span", said)))
        entries.append((cells, details.get(place)))
    return entries


def _order(key: Key) -> object:
    """What a list is sorted by: a number stays one."""
    return key if isinstance(key, int | np.integer) else shortened(key)


def _why(found: Explanation, detector: Detector, original: np.ndarray | None, items: MemoryItems | None) -> Markup:
    pictures = pictures_of(found, original, lambda: detector.map_threshold)
    return tag(
        "div", tag("div", pictures, class_="pictures") if pictures else None, _cells(found, items),
        _items(found.items, items),
    )  # fmt: skip


def _cells(found: Explanation, items: MemoryItems | None) -> Markup | None:
    if not found.cells:
        return None
    total = sum(cell.error for cell in found.cells) or 1.0
    item = found.items[0].item if found.items else None
    row = items.rows[item] if item is not None and items is not None and items.rows else None
    samples = items.samples[item] if row and item is not None and items is not None and items.samples else ()
    beside: list[tuple[str, Mapping[str, float | str]]] = [(f"item {item}", row)] if row else []
    beside += [(f"training sample {shortened(one.key)}", one.row) for one in samples[:1] if one.row]
    heads = ("column", "seen", "expected", *(title for title, _ in beside), "share of the score")
    rows = []
    for cell in found.cells[:SHOWN_CELLS]:
        stored = [tag("td", name(_value(values.get(cell.column, "")))) for _, values in beside]
        rows.append(
            tag(
                "tr", tag("th", name(cell.column), scope="row"), tag("td", name(_value(cell.seen))),
                tag("td", name(_value(cell.expected))), stored, tag("td", _bar(cell, total)),
            )
        )  # fmt: skip
    more = len(found.cells) - len(rows)
    left = tag("p", f"{more:,} more column{' has' if more == 1 else 's have'} smaller shares.") if more else None
    head = tag("tr", [tag("th", column, scope="col") for column in heads])
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_="cells"), left)


def _bar(cell: Cell, total: float) -> Markup:
    share = cell.error / total
    return tag("span", tag("meter", min=0, max=1, value=f"{share:.4f}", aria_hidden="true"), f" {share:.1%}")


def _items(uses: Sequence[ItemUse], items: MemoryItems | None) -> Markup | None:
    if not uses:
        return None
    shown = []
    for use in uses[:SHOWN_ITEMS]:
        pictures = None if items is None else items.pictures
        picture = None if pictures is None else item_picture(pictures[use.item], use.item)
        shown.append(tag("li", picture, f"item {use.item}: {use.weight:.0%}", _nearest(use.item, items)))
    return tag("div", tag("p", "rebuilt from memory items"), tag("ul", shown, class_="items"))


def _nearest(item: int, items: MemoryItems | None) -> Markup | None:
    """The training samples nearest to an item."""
    samples = items.samples[item] if items is not None and items.samples else ()
    shown = [
        tag(
            "span",
            None if one.picture is None else sample_picture(one.picture, one.key),
            name(one.key or "unnamed"),
        )
        for one in samples
    ]
    apart = [part for one in shown for part in (" ", one)]
    return tag("div", "nearest training samples", apart, class_="nearest") if shown else None


def _events(events: Sequence[ShownEvent], items: MemoryItems | None) -> list[Entry]:
    details, entries = _Details(), []
    for place, event in enumerate(events, 1):
        details.add(place, tag("div", event.picture, _items(event.items, items)))
    for place, event in enumerate(events, 1):
        facts = event.facts
        start, end, peak = facts["start_s"], facts["end_s"], facts["peak_score"]
        cells: list[tuple[object, Markup]] = [
            (place, tag("b", place)),
            (shortened(facts["video"]), name(facts["video"])),
            (start, tag("span", f"{start:.2f}")),
            (end - start, tag("span", f"{end - start:.2f}")),
            (peak, tag("span", "not finite" if peak is None else f"{peak:.6g}")),
            (facts["part"], tag("span", facts["part"])),
        ]
        entries.append((cells, details.get(place)))
    return entries


def _value(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else shortened(value)
