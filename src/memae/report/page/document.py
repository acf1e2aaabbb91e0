"""The whole file: one HTML document that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path

from memae.detector import Detector
from memae.files.atomic import atomic_file
from memae.progress import Progress
from memae.report.page.anomalies import anomalies_section
from memae.report.page.markup import Markup, Section, name, tag
from memae.report.page.scan import Findings
from memae.report.page.sections import (
    about_section,
    memory_section,
    quality_section,
    scores_section,
    training_section,
)
from memae.types import Source

__all__ = ["write_report"]

STYLE, SCRIPT = (Path(__file__).with_name(file).read_text(encoding="utf-8") for file in ("page.css", "page.js"))


def write_report(
    findings: Findings,
    detector: Detector,
    source: Source,
    out: Path,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> None:
    """Writes the report; it appears when it is complete.

    Args:
        findings: of `scan`.
        detector: fitted.
        source: the same as was scanned.
        out: the .html file.
        skip_bad: as for `scan`.
        progress: a callback for progress events.

    Raises:
        DataError: samples that can no longer be read.
        WriteError: the file cannot be written.
    """
    items = detector.items()
    sections = [
        scores_section(findings, detector),
        anomalies_section(findings, detector, source, items, skip_bad=skip_bad, progress=progress),
        quality_section(findings),
        memory_section(detector, items),
        training_section(detector),
        about_section(findings, detector),
    ]
    page = _document(findings.origin, [section for section in sections if section is not None])
    with atomic_file(out) as part:
        part.write_text(page, encoding="utf-8")


def _document(origin: str, sections: list[Section]) -> str:
    # the page may load nothing, and run no script but this one, whatever stands in a name
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"Anomalies in {origin}"), tag("style", Markup(STYLE)),
    )  # fmt: skip
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    links = [tag("li", tag("a", section.title, href=f"#{section.place}")) for section in sections]
    parts = [
        tag("section", tag("h2", title, id=f"{place}-title"), content, id=place, aria_labelledby=f"{place}-title")
        for place, title, content in sections
    ]
    body = tag(
        "body", tag("a", "Skip to the anomalies", href="#anomalies", class_="skip"),
        tag(
            "header", tag("h1", "Anomalies in ", name(origin)), tag("p", f"A report of memae, {made}"),
            tag("button", "Dark or light", type="button", id="theme", hidden=True),
            tag("nav", tag("ul", links), aria_label="Sections"),
        ),
        tag("main", parts),
        tag("dialog", tag("form", tag("button", "Close"), method="dialog"), tag("div", id="enlarged"), id="zoom",
            aria_label="Enlarged"),
        tag("script", Markup(SCRIPT)),
    )  # fmt: skip
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"
