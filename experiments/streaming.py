"""MemStream's memory under a shift: frozen, learning and learning by chance, by tenths of a stream.

For each stream, way and seed there is one result. A detector is fitted on normal samples from before the shift; all
ways go on from the same one.

- kddcup99-families: the class "normal" is the anomaly, as in the paper. 3,000 rows of denial of service are fitted; the
  stream brings others of these, then probes, then break-ins, with a fifth of anomalies spread over all of it.
- rescaled tables: half of the normal rows are fitted. From the middle of the stream on, one column, which the seed
  draws, has twice its values.
- ped2-ramp: every fourth training frame is fitted, as an image of its own. The light of the test frames falls evenly,
  from all of it to a half, over the videos in their order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from experiments.markdown import markdown
from experiments.protocols import ped2, small_tables
from experiments.records import RESULTS, Cell
from memae import Detector, datasets
from memae.memory import MemStream
from memae.metrics import auroc

__all__ = ["STREAMS", "WAYS", "measure_streaming", "streaming_table"]

ROOT = RESULTS / "streaming"
COMMAND = "python -m experiments streaming"
SEEDS = (0, 1, 2)
TENTHS = 10
FITTED, ANOMALIES = 3000, 0.2
FAMILIES = {
    "denial of service": ("back", "land", "neptune", "pod", "smurf", "teardrop"),
    "probes": ("ipsweep", "nmap", "portsweep", "satan"),
    "break-ins": ("ftp_write", "guess_passwd", "imap", "multihop", "phf", "spy", "warezclient", "warezmaster",
                  "buffer_overflow", "loadmodule", "perl", "rootkit"),
}  # fmt: skip
MOST_OF_A_FAMILY = 4000
FRAME_PX = (40, 60)  # height and width
DARKEST = 0.5


@dataclass(frozen=True)
class Stream:
    """What a detector is fitted on, and what comes after."""

    fit: Any
    samples: Any
    labels: np.ndarray
    """(S,) bool of the samples, in their order; True = anomaly."""


def _families(_: str, seed: int) -> Stream:
    rows, names = datasets.kddcup99()
    rng = np.random.default_rng(seed)
    known, *later = (rng.permutation(np.flatnonzero(np.isin(names, family))) for family in FAMILIES.values())
    families = [known[FITTED:], *later]
    normal = np.concatenate([family[:MOST_OF_A_FAMILY] for family in families])
    anomalous = rng.permutation(np.flatnonzero(names == "normal"))
    count = round(len(normal) * ANOMALIES / (1 - ANOMALIES))
    labels = np.zeros(len(normal) + count, dtype=bool)
    labels[rng.permutation(len(labels))[:count]] = True
    order = np.empty(len(labels), dtype=int)
    order[~labels], order[labels] = normal, anomalous[:count]
    return Stream(rows.take(known[:FITTED]), rows.take(order), labels)


def _rescaled(part: str, seed: int) -> Stream:
    rows, anomalous = small_tables.load(small_tables.TABLES[part])
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(~anomalous))
    half = len(normal) // 2
    order = rng.permutation(np.concatenate([normal[half:], np.flatnonzero(anomalous)]))
    samples, varied = rows[order].copy(), np.flatnonzero(rows.std(axis=0))
    samples[len(samples) // 2 :, rng.choice(varied)] *= 2
    return Stream(rows[normal[:half][:FITTED]], samples, anomalous[order])


def _ramp(_: str, __: int) -> Stream:
    marks = ped2.labels()
    tested = ped2.videos("testing")
    frames = np.concatenate([_frames(video) for video in tested])
    light = np.linspace(1, DARKEST, len(frames))[:, None, None]
    training = np.concatenate([_frames(video)[::4] for video in ped2.videos("training")])
    labels = np.concatenate([marks[video.name] for video in tested]).astype(bool)
    return Stream(training, (frames * light).round().astype(np.uint8), labels)


def _frames(video: Path) -> np.ndarray:
    """(F, H, W) uint8."""
    found = []
    for path in sorted(video.glob("*.jpg")):
        with Image.open(path, formats=["JPEG"]) as image:
            found.append(np.asarray(image.convert("L").resize(FRAME_PX[::-1], Image.Resampling.BOX)))
    return np.stack(found)


STREAMS: Mapping[str, tuple[Callable[[str, int], Stream], tuple[str, ...]]] = {
    "kddcup99-families": (_families, ("all",)),
    "rescaled": (_rescaled, ("pendigits", "satellite", "magic.gamma", "annthyroid")),
    "ped2-ramp": (_ramp, ("all",)),
}
"""By name: the stream of a part and a seed, and the parts. The tables are those with over 3,000 normal rows."""


class Reservoir(MemStream):
    """MemStream's memory, but its items are a fair draw from all that was learnt: of n, each stays with chance N / n.

    J. S. Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985, algorithm R.
    """

    rng: np.random.Generator

    def replaced(self, ages: torch.Tensor) -> int | None:
        """The place of an item, or None where the query is not drawn."""
        place = int(self.rng.integers(len(ages) + int(self.inserted)))
        return place if place < len(ages) else None


def _memory(model: Detector) -> MemStream:
    memory = model.artifact.model.memory
    assert isinstance(memory, MemStream)
    return memory


def _frozen(model: Detector, stream: Stream, _: int) -> np.ndarray:
    return model.score(stream.samples).values


def _oldest(model: Detector, stream: Stream, _: int) -> np.ndarray:
    return model.adapt(stream.samples).verdicts.scores


def _reservoir(model: Detector, stream: Stream, seed: int) -> np.ndarray:
    memory = _memory(model)
    memory.__class__ = Reservoir
    assert isinstance(memory, Reservoir)
    memory.rng = np.random.default_rng(seed)
    return _oldest(model, stream, seed)


WAYS: Mapping[str, Callable[[Detector, Stream, int], np.ndarray]] = {
    "frozen": _frozen,
    "the oldest is replaced": _oldest,
    "a fair draw stays": _reservoir,
}


def measure_streaming(data: str, root: Path = ROOT) -> Iterator[tuple[str, dict[str, Any]]]:
    """Computes what has no result yet, on one thread; gives each as it is done."""
    stream_of, parts = STREAMS[data]
    for seed in SEEDS:
        cell = Cell(data, "memstream", seed)
        for part in parts:
            if {f"{part}, {way}" for way in WAYS} <= cell.parts(root):
                continue
            for way, result in _measured(stream_of(part, seed), seed):
                cell.add(root, f"{part}, {way}", f"{COMMAND} --data {data}", {"preset": "memstream"}, result)
                yield f"{data}, {part}, seed {seed}: {way}", result["metrics"]


def _measured(stream: Stream, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            Detector("memstream", seed=seed, device="cpu", engine="torch").fit(stream.fit).save(path)
            for way, scored in WAYS.items():
                model, started = Detector.load(path, device="cpu", engine="torch"), time.process_time()
                scores = scored(model, stream, seed)
                memory = _memory(model)
                yield (
                    way,
                    {
                        "metrics": {
                            "auroc": round(auroc(stream.labels, scores), 5),
                            "auroc_tenths": _by_tenths(stream.labels, scores),
                            "learnt": int(memory.inserted),
                            "items": memory.num_items,
                        },
                        "samples": len(scores),
                        "core_seconds": round(time.process_time() - started, 2),
                    },
                )
    finally:
        torch.set_num_threads(threads)


def _by_tenths(labels: np.ndarray, scores: np.ndarray) -> list[float | None]:
    """AUROC of each tenth of a stream; None where it has samples of one kind only."""
    tenths = zip(np.array_split(labels, TENTHS), np.array_split(scores, TENTHS), strict=True)
    return [round(auroc(own, values), 5) if 0 < own.sum() < len(own) else None for own, values in tenths]


def streaming_table(data: str, root: Path = ROOT) -> str:
    """The committed figures of a stream: means over the seeds."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / data).glob("*/seed-*.json"))]
    rows = []
    for part in STREAMS[data][1]:
        for way in WAYS:
            found = [
                file["parts"][f"{part}, {way}"]["metrics"] for file in files if f"{part}, {way}" in file["parts"]
            ]
            if not found:
                continue
            tenths = [[one["auroc_tenths"][n] for one in found] for n in range(TENTHS)]
            rows.append(
                [
                    *([part] if len(STREAMS[data][1]) > 1 else []),
                    way,
                    _short([one["auroc"] for one in found]),
                    *map(_short, tenths),
                    f"{np.mean([one['learnt'] for one in found]):,.0f}",
                ]
            )
    first = ["table"] if len(STREAMS[data][1]) > 1 else []
    titles = [*first, "memory", "all", *(f"{n}" for n in range(1, TENTHS + 1)), "learnt"]
    return markdown(titles, rows) if rows else "No committed runs."


def _short(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f}".removeprefix("0") if known else "–"
