import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from memae.errors import DataError
from memae.table.dataset import Rows
from memae.types import batches, fitting

X = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))


def test_rows_in_a_file_are_indexed_like_the_tensor() -> None:
    rows = Rows.write(X.split(13), X.shape, "t.csv")
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))[:30]
    part, expected = rows.part(order), X[order]
    assert part.shape == (30, 7)
    assert (len(rows), len(part)) == (50, 30)
    assert torch.equal(torch.cat(list(batches(rows, 8))), X)
    assert torch.equal(torch.cat(list(batches(part, 8))), expected)
    some = torch.tensor([3, 3, 0, 29])
    assert torch.equal(part[some], expected[some])
    assert torch.equal(part.part(some)[1:3], expected[some][1:3])
    assert torch.equal(part.to(torch.device("cpu"))[:5], expected[:5])
    assert fitting(part, 280) == 10


def test_a_disk_without_room_is_said_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(total=10**9, free=50 * 10**6 + 4 * X.numel() - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)

    def never() -> Iterator[Any]:
        raise AssertionError("written")
        yield

    with pytest.raises(DataError, match=r"t\.csv: does not fit into memory, .* 0\.0 GB of disk; .* set TMPDIR"):
        Rows.write(never(), X.shape, "t.csv")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=usage.free + 1))
    assert np.array_equal(Rows.write([X], X.shape, "t.csv")[:].numpy(), X.numpy())
