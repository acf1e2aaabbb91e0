"""MemStream's published figure on KDDCUP99, by its own protocol, and what is behind it.

The protocol (section 5 of the specification of variants): all 494,021 rows in the order of the file, one-hot for three
columns (118 in all); the class "normal" is the anomaly. An encoder tanh(Wx + b) of twice the width and a linear decoder
learn the first 256 other rows in 5,000 steps. Their codes are the memory; the score is the L1 distance to the nearest.
A row up to beta = 1 replaces the oldest item, after which mean and deviation are those of the rows in the memory.

The stream begins with the rows that were learnt. `beta` was picked on the labels of the test by the authors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.markdown import markdown
from experiments.records import RESULTS, Cell
from memae import datasets
from memae.metrics import auroc

__all__ = ["BETAS", "measure_published", "published_table"]

ROOT = RESULTS / "streaming"
DATA, COMMAND = "kddcup99", "python -m experiments streaming --data kddcup99"
SEEDS = (0, 1, 2)
ITEMS, STEPS, LEARNING_RATE, NOISE = 256, 5000, 1e-2, 1e-3
ONE_HOT = ("protocol_type", "service", "flag")
BETAS: Mapping[str, float] = {"no learning": -1.0, "beta 1, as published": 1.0}


def columns() -> tuple[np.ndarray, np.ndarray]:
    """All rows (S, 118) float32 in the order of the file, and whether each is of the class "normal"."""
    rows, names = datasets.kddcup99()
    found = []
    for name in rows.column_names:
        values = rows[name].to_numpy(zero_copy_only=False)
        if name in ONE_HOT:
            kinds, codes = np.unique(values.astype(str), return_inverse=True)
            found.append(np.eye(len(kinds), dtype=np.float32)[codes])
        else:
            found.append(values.astype(np.float32)[:, None])
    return np.concatenate(found, axis=1), names == "normal"


def measure_published(root: Path = ROOT) -> Iterator[tuple[str, dict[str, Any]]]:
    """Computes what has no result yet, on one thread; gives each as it is done."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for seed in SEEDS:
            cell = Cell(DATA, "memstream-published", seed)
            missing = [name for name in BETAS if name not in cell.parts(root)]
            if not missing:
                continue
            rows, anomalous = columns()
            first = rows[np.flatnonzero(~anomalous)[:ITEMS]]
            encode = _trained(first, seed)
            for name in missing:
                started = time.process_time()
                scores, inserted, dead = _streamed(rows, first, encode, BETAS[name])
                later = np.ones(len(rows), dtype=bool)
                later[np.flatnonzero(~anomalous)[:ITEMS]] = False
                new = inserted[later[inserted]]
                metrics = {
                    "auroc": round(auroc(anomalous, scores), 5),
                    "inserted": len(inserted),
                    "inserted_new": len(new),
                    "inserted_anomalies": int(anomalous[inserted].sum()),
                    "constant_columns": dead,
                }
                result = {"metrics": metrics, "core_seconds": round(time.process_time() - started, 1)}
                cell.add(root, name, COMMAND, {"items": ITEMS, "steps": STEPS, "lr": LEARNING_RATE}, result)
                yield f"{DATA}, seed {seed}: {name}", metrics
    finally:
        torch.set_num_threads(threads)


class _Encoder(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Linear(width, 2 * width), torch.nn.Tanh())
        self.decoder = torch.nn.Linear(2 * width, width)


def _scaled(rows: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """Rows by mean and deviation of the raw rows in the memory; a column that is constant there is 0."""
    mean, deviation = memory.mean(0), memory.std(0)
    return torch.where(deviation == 0, 0.0, (rows - mean) / deviation.where(deviation != 0, 1.0))


def _trained(first: np.ndarray, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    raw = torch.from_numpy(first)
    rows, net = _scaled(raw, raw), _Encoder(raw.shape[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        rebuilt = net.decoder(net.encoder(rows + NOISE * torch.randn_like(rows)))
        loss = torch.nn.functional.mse_loss(rebuilt, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.encoder.eval()


@torch.no_grad()
def _streamed(
    rows: np.ndarray, first: np.ndarray, encode: torch.nn.Module, beta: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores (S,), the rows that were inserted, and how many columns were constant in the memory at the end.

    Nothing changes between two insertions, so rows are scored together and taken up to the first that is inserted.
    """
    raw, stream = torch.from_numpy(first).clone(), torch.from_numpy(rows)
    items = encode(_scaled(raw, raw))
    scores, inserted, start, ahead = np.empty(len(rows)), list[int](), 0, 1
    while start < len(rows):
        codes = encode(_scaled(stream[start : start + ahead], raw))
        near = torch.cdist(codes, items, p=1).amin(1)
        learnt = (near <= beta).nonzero()
        count = int(learnt[0]) + 1 if len(learnt) else len(near)
        scores[start : start + count] = near[:count].numpy()
        start += count
        if len(learnt):
            oldest = len(inserted) % ITEMS
            raw[oldest], items[oldest] = stream[start - 1], codes[count - 1]
            inserted.append(start - 1)
        ahead = 1 if len(learnt) else min(2 * ahead, 4096)
    return scores, np.array(inserted, dtype=int), int((raw.std(0) == 0).sum())


def published_table(root: Path = ROOT) -> str:
    """The committed figures: of each seed, as one run in three may fail."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / DATA).glob("*/seed-*.json"))]
    rows = []
    for name in BETAS:
        found = [file["parts"][name]["metrics"] for file in files if name in file["parts"]]
        if found:
            rows.append(
                [
                    name,
                    ", ".join(f"{one['auroc']:.3f}".removeprefix("0") for one in found),
                    *(
                        ", ".join(f"{one[count]:,}" for one in found)
                        for count in ("inserted", "inserted_new", "inserted_anomalies")
                    ),
                ]
            )
    titles = ["memory", "AUROC of seeds 0, 1, 2", "insertions", "of rows not learnt before", "of anomalies"]
    return markdown(titles, rows) if rows else "No committed runs."
