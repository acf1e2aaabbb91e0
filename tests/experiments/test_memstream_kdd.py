from pathlib import Path

import numpy as np
import torch

from experiments.memstream_kdd import BETAS, _streamed, published_table


def test_the_committed_figures_have_a_row_for_each_beta() -> None:
    assert len(published_table().splitlines()) == 2 + len(BETAS)


def test_without_results_the_table_says_so(tmp_path: Path) -> None:
    assert published_table(tmp_path) == "No committed runs."


def test_rows_in_blocks_are_scored_and_learnt_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(700, 3)).astype(np.float32)
    first, encode = rows[:256], torch.nn.Linear(3, 6)
    scores, inserted, _ = _streamed(rows, first, encode, 0.3)
    raw, expected, learnt = torch.from_numpy(first.copy()), list[float](), list[int]()
    with torch.no_grad():
        items = encode((raw - raw.mean(0)) / raw.std(0))
        for number, row in enumerate(torch.from_numpy(rows)):
            code = encode((row - raw.mean(0)) / raw.std(0))
            expected.append(float((items - code).abs().sum(1).min()))
            if expected[-1] <= 0.3:
                raw[len(learnt) % 256], items[len(learnt) % 256] = row, code
                learnt.append(number)
    assert inserted.tolist() == learnt and 256 < len(learnt) < 700
    np.testing.assert_allclose(scores, expected, atol=1e-5)
