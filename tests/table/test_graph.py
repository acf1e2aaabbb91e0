"""The encoding of rows as a graph."""

import numpy as np
import pandas as pd
import torch

from memae.modality import open_source
from memae.table.graph import RowEncoder, numbers_and_codes
from memae.table.source import Table
from tests.small_tables import fit_table

HOSTILE = [0.0, -0.0, 1e-12, -3.5, 1e6, -1e300, 1e300, np.nan, np.inf, -np.inf, 7.25, 5.0]


def table(frame: pd.DataFrame) -> Table:
    found: Table = next(iter(open_source(frame).chunks(len(frame))))
    return found


def training(generator: np.random.Generator) -> pd.DataFrame:
    numbers = {f"n{place}": generator.normal(3 * place, 10.0**place, 200) for place in range(4)}
    frame = pd.DataFrame(numbers)
    frame["tail"] = np.exp(generator.normal(0, 4, 200))
    frame.insert(1, "kind", generator.choice(["a", "b", ""], 200))
    frame["flag"] = generator.random(200) > 0.5
    frame.loc[::7, "n2"] = np.nan
    return frame


def test_it_encodes_what_the_schema_encodes_also_where_numbers_are_hostile() -> None:
    preprocess = fit_table(table(training(np.random.default_rng(0))), "standard")
    frame = training(np.random.default_rng(1)).iloc[: 3 * len(HOSTILE)].reset_index(drop=True)
    for place, name in enumerate(("n0", "n2", "tail")):
        frame.loc[place * len(HOSTILE) : (place + 1) * len(HOSTILE) - 1, name] = HOSTILE
    frame.loc[5, "kind"] = "never seen"
    rows = table(frame)
    wanted = preprocess.encode_rows(rows)
    x, bad = RowEncoder(preprocess)(*(torch.from_numpy(part) for part in numbers_and_codes(preprocess, rows)))
    assert set(bad.nonzero()[:, 0].tolist()) == set(wanted.bad) != set()
    good = ~bad
    torch.testing.assert_close(x[good], wanted.x[good], rtol=1e-6, atol=1e-6)


def test_a_code_of_no_category_means_one_that_training_did_not_have() -> None:
    preprocess = fit_table(table(pd.DataFrame({"kind": ["a", "b"] * 20})), "standard")
    x, bad = RowEncoder(preprocess)(None, torch.tensor([[0], [1], [2], [99], [-1]]))
    assert x.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]]
    assert not bad.any()
