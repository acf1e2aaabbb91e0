"""What stands in a report, a function for each section."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from memae.detector import Detector
from memae.fitted import category_lines, model_facts
from memae.memory.shown import MemoryItems
from memae.metrics import ResultTable
from memae.report.page.charts import Axis, Line, Mark, histogram, lines
from memae.report.page.markup import Markup, Section, facts_list, name, shortened, tag
from memae.report.page.scan import Findings

__all__ = ["about_section", "memory_section", "quality_section", "scores_section", "table", "training_section"]

IN_ORDER = 500  # points of the scores in the order of the source
SHOWN_SKIPPED = 20
SHOWN_COLUMNS = 200


def scores_section(findings: Findings, detector: Detector) -> Section:
    """How the scores lie, and how many are above the threshold."""
    threshold, scores = detector.threshold, findings.scores[np.isfinite(findings.scores)]
    flagged = int(findings.flags.sum())
    facts: list[tuple[str, object]] = [
        ("samples", f"{len(scores):,}"),
        ("anomalies", f"{flagged:,} ({flagged / max(1, len(scores)):.2%})"),
        ("threshold", f"score {threshold.value:.6g}"),
        ("wanted false-alarm rate", f"{threshold.false_alarm_rate:.3g}"),
    ]
    alone = threshold.categories is None  # else each category has a rate of its own
    if alone and findings.judged is not None and (ranking := findings.judged.ranking) is not None:
        normal = ranking.scores[~ranking.anomalous]
        facts.append(("measured false-alarm rate", f"{float((normal > threshold.value).mean()):.4g}"))
    notes = [*findings.notes, *([findings.drift.note] if findings.drift and findings.drift.note else [])]
    notes += [threshold.caveat] if threshold.caveat else []
    notes += category_lines(detector.artifact)
    return _section(
        "scores", "Scores", facts_list(facts), [tag("p", note, class_="note") for note in notes],
        _distribution(findings, detector), _in_order(findings, detector), _skipped(findings),
    )  # fmt: skip


def _distribution(findings: Findings, detector: Detector) -> Markup:
    value, scores = detector.threshold.value, findings.scores
    ranking = findings.judged.ranking if findings.judged else None
    finite = scores[np.isfinite(scores)]
    if ranking is not None:
        normal, anomalous = ranking.scores[~ranking.anomalous], ranking.scores[ranking.anomalous]
        parts = [("labelled normal", "main", normal), ("labelled anomalous", "alarm", anomalous)]
    else:
        flagged = findings.flags[np.isfinite(scores)]
        parts = [("not flagged", "main", finite[~flagged]), ("flagged", "alarm", finite[flagged])]
    parts = [part for part in parts if len(part[2])]
    marks = [Mark("threshold", value)] if np.isfinite(value) else []
    about = (
        f"{len(finite):,} scores, median {np.median(finite):.4g}, highest {finite.max():.4g}; "
        f"{int((finite > value).sum()):,} are above the threshold {value:.4g}. Each step upwards is ten times as many."
    )
    return histogram("Distribution of the scores", about, parts, marks)


def _in_order(findings: Findings, detector: Detector) -> Markup:
    scores, value = findings.scores, detector.threshold.value
    edges = np.linspace(0, len(scores), min(IN_ORDER, len(scores)) + 1).astype(int)
    spans = list(pairwise(edges))
    highest = np.array([np.max(scores[a:b], where=np.isfinite(scores[a:b]), initial=-np.inf) for a, b in spans])
    highest[np.isneginf(highest)] = np.nan
    known = np.array([value] if np.isfinite(value) else [])
    y = Axis.of("score", highest, known)
    line = Line("", edges[:-1].astype(float), highest)
    about = f"The highest score of each of {len(highest):,} stretches of the samples, in the order of the source."
    marks = [Mark("threshold", value, across=True)] if np.isfinite(value) else []
    return lines("Scores in their order", about, Axis("sample", 0, max(1, len(scores))), y, [line], marks)


def _skipped(findings: Findings) -> Markup | None:
    if not findings.skipped:
        return None
    rows = [(name(bad.key), shortened(bad.reason)) for bad in findings.skipped[:SHOWN_SKIPPED]]
    head = f"{len(findings.skipped):,} samples could not be read"
    return tag("details", tag("summary", head), table("the first of them", ("sample", "why"), rows))


def quality_section(findings: Findings) -> Section | None:
    """What labels say; None without labels."""
    if findings.judged is None:
        return None
    result, ranking = findings.judged.result, findings.judged.ranking
    charts: list[Markup] = []
    if ranking is not None:
        roc, precision = ranking.roc, ranking.precision_recall
        unit = Axis("false-alarm rate", 0, 1)
        about = "The band is the 95 % interval at each false-alarm rate."
        line = Line("", roc.x, roc.y, roc.low, roc.high)
        charts.append(lines("ROC: recall over the false-alarm rate", about, unit, Axis("recall", 0, 1), [line]))
        about = "The band is the 95 % interval at each recall. Chance is the dashed line."
        line, share = Line("", precision.x, precision.y, precision.low, precision.high), ranking.anomalous.mean()
        axes = Axis("recall", 0, 1), Axis("precision", 0, 1)
        charts.append(lines("Precision over recall", about, *axes, [line], [Mark("chance", share, across=True)]))
    notes = [tag("p", note, class_="note") for note in findings.judged.notes]
    return _section("quality", "Compared with labels", list(_tables(result.table())), charts, notes)


def _tables(result: ResultTable) -> Iterator[Markup]:
    rows = [(name(row[0]), *row[1:]) for row in result.rows]
    yield table(result.title, result.columns, rows)
    if result.caption:
        yield tag("p", result.caption)
    for further in result.below:
        yield from _tables(further)


def memory_section(detector: Detector, items: MemoryItems | None) -> Section:
    """How the items of the memory are used."""
    if items is None:
        return _section("memory", "Memory", tag("p", "This model has no memory: it is a plain autoencoder."))
    counts, found = np.sort(items.usage_counts)[::-1], items.counts
    facts: list[tuple[str, object]] = [
        ("items", f"{found.items:,}"),
        ("used by training samples", f"{found.used:,}"),
        ("dead", f"{found.dead:,}"),
        ("with a duplicate", f"{found.duplicate:,}"),
    ]
    last = (detector.facts.get("last_epoch") or {}).get("memory") or {}
    facts += [(label, f"{last[key]:.3g}") for key, label in READS.items() if last.get(key) is not None]
    share = counts / max(1, counts.sum())
    about = f"Share of the reads that each item took part in, the most used first; {found.dead:,} items had none."
    line = Line("", np.arange(1.0, len(share) + 1), share)
    axes = Axis("item", 1, max(2, len(share))), Axis.of("share of reads", share, 0.0, logarithmic=False)
    help_line = tag("p", items.help) if items.help else None
    chart = lines("Use of the memory items", about, *axes, [line])
    return _section("memory", "Memory", facts_list(facts), help_line, chart)


READS = {"items_per_query": "items in a read, mean", "fallback_share": "share of reads of the nearest item alone"}


def training_section(detector: Detector) -> Section | None:
    """The losses of the epochs; None where the model does not hold them."""
    losses = detector.facts.get("losses")
    if not losses or len(losses["training"]) < 2:
        return None
    drawn = [("training", "main"), ("held_out", "second")]
    epochs = np.arange(1.0, len(losses["training"]) + 1)
    series = [
        Line(key.replace("_", "-"), epochs, np.array(losses[key], dtype=float), colour=colour)
        for key, colour in drawn
        if any(value is not None for value in losses[key])
    ]
    about = f"Loss of each epoch; the weights are those of epoch {detector.facts['kept_epoch']}."
    axes = Axis("epoch", 1, len(epochs)), Axis.of("loss", *(line.y for line in series))
    chart = lines(
        "Loss of the training", about, *axes, series, [Mark("kept", float(detector.facts["kept_epoch"]))]
    )
    return _section("training", "Training", chart)


def about_section(findings: Findings, detector: Detector) -> Section:
    """The data and the model."""
    facts, described = detector.facts, detector.modality.describe(detector.artifact)
    told: list[tuple[str, object]] = [("data", name(findings.origin))]
    for key, fact in model_facts(detector.artifact).items():
        told.append((key, [f"{fact} of ", name(facts["origin"])] if key == "trained on" else shortened(fact, 500)))
    told += [
        ("threshold from", f"{facts['samples']['calibration']:,} held-out normal {detector.modality.sample}s"),
        ("memae", facts.get("versions", {}).get("memae", "unknown")),
    ]
    told += [("note of the training", shortened(note, 1000)) for note in facts.get("notes", ())]
    rows = [
        (name(column["name"]), column["kind"], f"{column['missing']:.1%}", shortened(column["rule"]))
        for column in described.columns[:SHOWN_COLUMNS]
    ]
    columns = table("columns", ("column", "kind", "missing", "what the network sees"), rows) if rows else None
    more = len(described.columns) - len(rows)
    left = tag("p", f"{more:,} more columns are not listed.") if more > 0 else None
    return _section("about", "Data and model", facts_list(told), columns, left)


def table(caption: object, columns: tuple[str, ...], rows: Any, *, sortable: bool = False) -> Markup:
    """A table; its first column names the row, and the names of a sortable one become buttons."""
    head = [tag("th", column, scope="col", data_sort=sortable) for column in columns]
    body = [tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]]) for row in rows]
    made = tag("table", tag("caption", caption), tag("thead", tag("tr", head)), tag("tbody", body))
    return tag("div", made, class_="wide", tabindex=0, role="region", aria_label=caption)


def _section(place: str, title: str, *content: object) -> Section:
    return Section(place, title, content)
