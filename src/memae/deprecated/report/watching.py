"""The old way to score videos and write what is wanted of them; it goes with 0.2.0."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from memae.deprecated import renamed_arguments
from memae.progress import Progress
from memae.report.rows import write_verdicts
from memae.video.evaluate import evaluate_videos as _evaluate_videos
from memae.video.events import EventRule
from memae.video.pipeline import Outputs, ScoredVideos, score_videos

__all__ = ["Outputs", "evaluate_videos", "watch_videos"]

evaluate_videos = renamed_arguments(watcher="progress")(_evaluate_videos)


@renamed_arguments(watcher="progress")
def watch_videos(
    detector: Any,
    x: Any,
    rule: EventRule,
    outputs: Outputs,
    *,
    mask: Path | None = None,
    before_s: float = 3.0,
    after_s: float = 3.0,
    progress: Progress | None = None,
) -> ScoredVideos:
    """See `memae.video.pipeline.score_videos`."""
    outputs = replace(outputs, before_s=before_s, after_s=after_s)
    write = partial(write_verdicts, out=outputs.frames)
    return score_videos(detector, x, rule, outputs, write, mask=mask, progress=progress)
