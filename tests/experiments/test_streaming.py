import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import streaming
from experiments.streaming import STREAMS, WAYS, Reservoir, Stream, streaming_table


def _stream(part: str, seed: int) -> Stream:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(400, 4)).astype(np.float32)
    samples, labels = normal[200:].copy(), np.zeros(200, dtype=bool)
    labels[::10] = True
    samples[labels] += 8
    return Stream(normal[:200], samples, labels)


@pytest.mark.parametrize("data", STREAMS)
def test_the_committed_figures_have_a_row_for_each_part_and_way(data: str) -> None:
    assert len(streaming_table(data).splitlines()) == 2 + len(STREAMS[data][1]) * len(WAYS)


def test_without_results_the_table_says_so(tmp_path: Path) -> None:
    assert streaming_table("rescaled", tmp_path) == "No committed runs."


def test_all_ways_start_from_one_model_and_only_the_frozen_learns_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STREAMS", {"rescaled": (_stream, ("made up",))})
    monkeypatch.setattr(streaming, "SEEDS", (0,))
    assert len(list(streaming.measure_streaming("rescaled", tmp_path))) == len(WAYS)
    (path,) = tmp_path.glob("rescaled/memstream/*.json")
    found = {name: part["metrics"] for name, part in json.loads(path.read_text())["parts"].items()}
    assert [found[f"made up, {way}"]["learnt"] > 0 for way in WAYS] == [False, True, True]
    assert all(one["auroc"] > 0.95 and len(one["auroc_tenths"]) == 10 for one in found.values())
    assert list(streaming.measure_streaming("rescaled", tmp_path)) == []


def test_a_reservoir_keeps_each_of_what_was_learnt_with_the_same_chance() -> None:
    kept = np.zeros(20)
    for seed in range(400):
        memory = Reservoir(4, 1, beta=1e9)
        memory.items, memory.rng = torch.arange(-4.0, 0)[:, None], np.random.default_rng(seed)
        memory.follow(torch.arange(16.0)[:, None, None])
        kept[memory.items[:, 0].long().numpy() + 4] += 1
    assert kept.sum() == 400 * 4
    assert np.abs(kept / 400 - 4 / 20).max() < 0.07  # 3.5 deviations of a share of 400
