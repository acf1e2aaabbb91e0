import numpy as np
import pytest
import torch

from memae.memory_help import MemoryHelp, memory_help
from tests.small_detectors import ONES, ROWS, fit


@pytest.mark.parametrize("x", [ONES, ROWS], ids=["images", "rows"])
def test_a_fit_says_whether_the_memory_helps_and_what_each_item_stands_for(x: np.ndarray) -> None:
    detector = fit(x)
    help_line, items = MemoryHelp(**detector.facts["memory_help"]).line, detector.memory
    assert items is not None and items.help == help_line and items.samples is not None
    assert detector.facts["memory"] == items.counts._asdict()
    assert items.counts.used + items.counts.dead == items.counts.items == len(items.samples)
    assert all(len({one.key for one in found}) == len(found) == 3 for found in items.samples)
    first = items.samples[0][0]
    assert (first.row is None) == (items.rows is None) and (first.picture is None) == (items.pictures is None)
    if first.row is not None:  # a training row is where its key says
        row = x.loc[int(first.key)]  # type: ignore[attr-defined]
        assert first.row == pytest.approx(row.to_dict(), rel=1e-4)


def test_nothing_is_kept_where_that_is_not_wanted() -> None:
    items = fit(ROWS, memory={"keep_samples": False}).memory
    assert items is not None and items.samples is None


def test_a_memory_that_rebuilds_nothing_new_is_measured_against_its_own_bypass() -> None:
    detector = fit(ROWS)
    x = torch.randn(40, *detector.preprocess.shape)
    found = memory_help(detector.artifact, x)
    assert found is not None and found.samples == 40 and 0 <= found.with_memory <= 1
    assert memory_help(detector.artifact, x[:19]) is None
    assert "helps" in MemoryHelp(0.9, 0.8, 40).line and "does not help" in MemoryHelp(0.7, 0.8, 40).line
    assert "makes no difference" in MemoryHelp(0.8, 0.805, 40).line
