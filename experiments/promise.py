"""Wanted against measured false alarms on normal data of groups never seen, split by split, one result file each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from experiments.protocols import ped2
from experiments.protocols.promises import SPLITS, Splits
from experiments.records import RESULTS, CellError, provenance, write_result
from memae import Detector
from memae.video.evaluate import VideoEvaluation, evaluate_videos
from memae.video.events import EventRule

__all__ = ["DATA", "PROMISES", "compute_promises", "promise_results"]

PROMISES = RESULTS / "promise"
PED2 = "ped2"
FITTED_VIDEOS = 12  # of 16; the others are measured
FALSE_ALARMS_PER_HOUR = 1.0  # the default of `memae evaluate`
DATA = (*SPLITS, PED2)

Settings = Mapping[str, Mapping[str, Any]]


def compute_promises(
    data: str,
    splits: int,
    settings: Settings | None = None,
    root: Path = PROMISES,
    deadline: float = float("inf"),
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Computes the splits of a data set that have no file yet; gives each as it is done.

    Args:
        data: one of `DATA`.
        splits: how many it should have.
        settings: of the detector; None takes those of the data set.
        root: the folder of the results.
        deadline: `time.time()` after which no split is started.

    Raises:
        CellError: a file that is there was made with other settings.
    """
    own = SPLITS[data].settings if data in SPLITS else {}
    chosen: Settings = json.loads(json.dumps(own if settings is None else settings))
    for split in range(splits):
        path = root / data / f"split-{split:02}.json"
        if path.exists():
            _check(path, chosen)
            continue
        if time.time() > deadline:
            return
        started = time.perf_counter()
        found = _measure_ped2(split, chosen) if data == PED2 else _measure(SPLITS[data], split, chosen)
        result = {
            "data": data,
            "split": split,
            "command": f"python -m experiments promise --data {data}{_as_options(chosen, own)}",
            **provenance(split),
            "settings": chosen,
            **found,
            "seconds": round(time.perf_counter() - started, 1),
        }
        write_result(path, result)
        yield path, result


def promise_results(root: Path = PROMISES) -> dict[str, list[dict[str, Any]]]:
    """The committed results of each data set, split by split."""
    found = {
        data: [json.loads(p.read_text(encoding="utf-8")) for p in sorted((root / data).glob("split-*.json"))]
        for data in DATA
    }
    return {data: results for data, results in found.items() if results}


def _check(path: Path, settings: Settings) -> None:
    was = json.loads(path.read_text(encoding="utf-8"))["settings"]
    if was != settings:
        raise CellError(
            f"{path}: was made with the settings {was}, and not {settings}; remove the files of this data set to "
            "compute it anew"
        )


def _as_options(settings: Settings, own: Settings) -> str:
    if settings == own:
        return ""
    pairs = [f"{section}.{name}={value}" for section, part in settings.items() for name, value in part.items()]
    return "".join(f" --set {pair}" for pair in pairs)


def _measure(splits: Splits, split: int, settings: Settings) -> dict[str, Any]:
    drawn = splits.draw(split)
    detector = Detector(seed=split, settings=settings).fit(drawn.fit, group=drawn.group)
    normal, anomalies = (detector.detect(x, skip_bad=True) for x in (drawn.normal, drawn.anomalies))
    kept = np.isfinite(normal.scores)  # photographs of another shape than the model's have no score
    flags, groups = normal.is_anomaly[kept], drawn.normal_groups[kept]
    found = anomalies.is_anomaly[np.isfinite(anomalies.scores)]
    shares = [flags[groups == group].mean() for group in np.unique(groups)]
    return {
        **_of_detector(detector),
        "fit": {"samples": len(drawn.fit), "groups": drawn.fit_groups},
        "normal": {
            "samples": len(flags),
            "groups": len(shares),
            "left_out": len(normal.skipped),
            "flagged": int(flags.sum()),
            "rate": float(flags.mean()),
            "mean_rate_of_groups": float(np.mean(shares)),
        },
        "anomalies": {
            "samples": len(found),
            "left_out": len(anomalies.skipped),
            "flagged": int(found.sum()),
            "recall": float(found.mean()),
        },
    }


def _of_detector(detector: Detector) -> dict[str, Any]:
    threshold = detector.threshold
    return {
        "wanted": threshold.false_alarm_rate,
        "threshold": {"samples": len(threshold.calibration), "caveat": threshold.caveat},
        "config": detector.config.model_dump(mode="json"),
    }


def _measure_ped2(split: int, settings: Settings) -> dict[str, Any]:
    """Fits on 12 of the 16 training videos, measures the other 4, and finds the anomalies of the 12 test clips."""
    videos = ped2.videos("training")
    order = np.random.default_rng(split).permutation(len(videos))
    fitted, measured = (
        [videos[i] for i in sorted(part)] for part in (order[:FITTED_VIDEOS], order[FITTED_VIDEOS:])
    )
    detector = Detector("video", seed=split, settings=settings).fit(ped2.training(fitted))
    found = detector.event_threshold(FALSE_ALARMS_PER_HOUR)
    rule = EventRule(found.on_threshold, found.off_threshold)

    def evaluated(source: Any, labels: str) -> VideoEvaluation:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "labels.csv"
            path.write_text(f"video,start,end\n{labels}", encoding="utf-8")
            return evaluate_videos(detector, source, path, rule)

    normal = evaluated(ped2.training(measured), "")
    test = evaluated(ped2.testing(), "".join(_segments(ped2.labels())))
    assert normal.normal_frames_flagged and normal.false_events_per_hour and test.anomalous_frames_flagged
    assert normal.normal_time_in_events and normal.normal_hours
    rate = normal.normal_frames_flagged.value
    return {
        **_of_detector(detector),
        "fit": {"samples": sum(len(list(folder.glob("*.jpg"))) for folder in fitted), "groups": len(fitted)},
        "normal": {
            "videos": [video.name for video in measured],
            "samples": normal.frames,
            "groups": normal.videos,
            "flagged": round(rate * normal.frames),
            "rate": rate,
            "hours": normal.normal_hours,
            "time_in_events": normal.normal_time_in_events.value,
            "false_events": normal.false_events,
            "false_events_per_hour": normal.false_events_per_hour.value,
        },
        "anomalies": {"samples": test.anomalous_frames, "recall": test.anomalous_frames_flagged.value},
        "events": {
            "wanted_per_hour": FALSE_ALARMS_PER_HOUR,
            "caveat": found.caveat,
            "held_out_hours": found.normal_hours,
            "clips": test.segments,
            "clips_found": test.segments_found,
            "test": test.figures(),
        },
    }


def _segments(labels: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Lines of a CSV file: one from the first to the last anomalous frame of each run in each video."""
    for video, marks in labels.items():
        steps = np.flatnonzero(np.diff(marks.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        for start, end in steps:
            yield f"{video},{start},{end - 1}\n"
