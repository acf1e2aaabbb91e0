"""`VideoEvaluation`: what an evaluation of video found, for JSON and as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from memae.deprecated import renamed_attribute
from memae.metrics.intervals import Estimate
from memae.metrics.samples import figures_of
from memae.metrics.tables import ResultTable, rows_of

__all__ = ["VideoEvaluation"]


@dataclass(frozen=True)
class VideoEvaluation:
    """Figures of scores, anomaly maps, regions and events of video; a figure that cannot be computed is None.

    The interval of each estimate is the 95 % percentile bootstrap over videos: 1,000 times as many videos as there
    are are drawn with replacement, and each comes with all its frames. A resample that leaves a figure undefined
    (no anomalous frame, say) does not count for it. RBDC and TBDC take fewer resamples, and at least 200, where
    there are tens of thousands of regions. `Estimate.groups` is the number of videos that bear on a figure, such as
    those with a normal frame; with fewer than five the ends are NaN.
    """

    videos: int
    frames: int
    """That were scored; the figures are about these."""
    anomalous_frames: int
    """Of the scored ones."""
    unscored_frames: int
    """That are labelled and were never given a score."""

    frame_auroc_micro: Estimate | None
    """Of all frames of all videos in one ranking."""
    frame_auroc_micro_min_max: Estimate | None
    """The same after `per_video_min_max`, the paper's protocol."""
    frame_auroc_macro: Estimate | None
    """Mean of the AUROC within each video that has both kinds of frames. The min-max of a video keeps the order of
    its frames, so this figure is the same with it and without it."""
    macro_videos: int
    """That have both kinds of frames."""

    masked_videos: int
    """That have pixel masks; pixel AUROC, RBDC and TBDC are about these."""
    regions: int
    tracks: int
    derived_tracks: bool
    """Whether the tracks were made by linking regions, because the masks hold no ids."""
    pixel_auroc: Estimate | None
    rbdc: Estimate | None
    tbdc: Estimate | None

    segments: int
    """Maximal runs of anomalous frames."""
    events: int | None = None
    event_precision: Estimate | None = None
    """Share of the events that overlap an anomalous segment."""
    event_recall: Estimate | None = None
    """Share of the anomalous segments that some event overlaps."""
    event_f1: Estimate | None = None
    """Harmonic mean of the two."""
    segments_found: int | None = None
    """That some event overlaps."""
    onset_error_s: Estimate | None = None
    """Median over the found segments of where the first event that overlaps one begins, minus where the segment
    begins: negative is early. An event that lasts for the whole video begins early."""
    worst_onset_error_s: float | None = None
    """The one farthest from 0. The bootstrap gives no interval for an extreme."""
    normal_time_in_events: Estimate | None = None
    """Share of the seconds of normal frames that lie inside events; None where the frames have no times."""
    false_events: int | None = None
    """That overlap no anomalous segment."""
    false_events_per_hour: Estimate | None = None
    """These per hour of normal video; None where the frames have no times. Where there are none, the upper end is
    that of a Poisson rate, 3.69 / `normal_hours`."""
    normal_hours: float | None = None
    """Of the frames that are not anomalous."""

    normal_frames_flagged: Estimate | None = None
    """Share of the scored normal frames that the threshold of single frames flags: the measured false-alarm rate."""
    anomalous_frames_flagged: Estimate | None = None
    """The same share of the anomalous frames: the recall at that threshold."""
    wanted_false_alarm_rate: float | None = None
    """That this threshold was set for."""

    on_threshold: float | None = None
    """The score from which on a frame begins an event; None where the events did not come from a rule."""
    off_threshold: float | None = None
    """The score below which an event ends."""

    stretches = renamed_attribute("segments")

    def figures(self) -> dict[str, Any]:
        """All fields, ready for JSON; until 0.2.0 `segments` also under its old name."""
        return figures_of(self) | {"stretches": self.segments}

    def table(self) -> ResultTable:
        """A table with one row for each figure: value, 95 % interval, and how many videos stand behind it."""
        rows = [*self._ranking_rows(), *self._frame_rows(), *self._event_rows()]
        title = (
            f"{self.frames:,} frames of {self.videos} video{'s' * (self.videos != 1)}, {self.anomalous_frames:,} of "
            f"them anomalous, in {self.segments} segment{'s' * (self.segments != 1)}; {self.events or 0} "
            f"event{'s' * (self.events != 1)}"
        )
        caption = (
            "An event is true if it overlaps an anomalous segment. Fewer than 5 videos give no interval. Every figure: "
            "docs/video.md"
        )
        if self.on_threshold is not None:
            rule = f"An event begins at score {self.on_threshold:.4g} and ends below {self.off_threshold:.4g}."
            caption = f"{rule} {caption}"
        return ResultTable(title, ("figure", "value", "95 % over videos", "videos"), rows, caption)

    def _ranking_rows(self) -> list[tuple[str, ...]]:
        unmasked = "" if self.masked_videos else " (needs masks)"
        names = {
            "frame_auroc_micro": "frame AUROC, micro: all frames in one ranking",
            "frame_auroc_micro_min_max": "  scaled to 0..1 per video (sees the future)",
            "frame_auroc_macro": "frame AUROC, macro, scaled or not",
            "pixel_auroc": f"pixel AUROC{unmasked}",
            "rbdc": f"RBDC: regions found{unmasked}",
            "tbdc": f"TBDC: tracks found{' (derived from the masks)' * self.derived_tracks}{unmasked}",
        }
        return rows_of(self, names, behind=True)

    def _frame_rows(self) -> list[tuple[str, ...]]:
        if self.wanted_false_alarm_rate is None:
            return []
        names = {
            "normal_frames_flagged": f"normal frames flagged (wanted {self.wanted_false_alarm_rate:.3g})",
            "anomalous_frames_flagged": "anomalous frames flagged",
        }
        return rows_of(self, names, behind=True)

    def _event_rows(self) -> list[tuple[str, ...]]:
        if self.events is None:
            return []
        true, hours = self.events - (self.false_events or 0), self.normal_hours or math.nan
        shares = {
            "event_recall": f"event recall: {self.segments_found} of {self.segments} segments found",
            "event_precision": f"event precision: {true} of {self.events} events true",
            "event_f1": "event F1",
            "normal_time_in_events": "normal seconds inside events",
        }
        of = f"{self.false_events} in {hours:.3g} h of normal video"
        rates = {"false_events_per_hour": f"false events per hour: {of}"}
        seconds = {"onset_error_s": "onset error, s: median (negative = early)"}
        worst = "-" if self.worst_onset_error_s is None else f"{self.worst_onset_error_s:.1f}"
        return [
            *rows_of(self, shares, behind=True),
            *rows_of(self, rates, digits=1, behind=True),
            *rows_of(self, seconds, digits=1, behind=True),
            ("  the worst of these", worst, "-", "-"),
        ]
