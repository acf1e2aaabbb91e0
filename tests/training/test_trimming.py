import numpy as np
import pytest
import torch

from memae.config import TrainConfig
from memae.modality import preset_config
from memae.table.dataset import Rows
from memae.training.trimming import chosen, first_training, halves, left_out, suspects
from memae.types import fitting


@pytest.mark.parametrize("samples", [2, 3, 8, 17, 1000])
def test_the_halves_hold_each_sample_once_and_keep_neighbours_together(samples: int) -> None:
    first, second = halves(samples)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(samples))
    assert 0 < len(second) <= len(first) <= len(second) + samples / 8 + 1
    inside = [int((part.diff() == 1).sum()) for part in (first, second)]
    assert sum(inside) >= samples - 8  # all but the ends of eight blocks have their neighbour beside them


def test_a_part_of_a_stored_data_set_is_indexed_like_the_tensor_of_it() -> None:
    x = torch.randn(20, 3)
    rows = torch.tensor([17, 3, 3, 0, 11])
    stored = chosen(Rows.write([x], (20, 3), "rows"), rows)
    assert (len(stored), tuple(stored.shape), stored.device) == (5, (5, 3), torch.device("cpu"))
    assert torch.equal(chosen(x, rows)[:], x[rows])
    for index in (slice(1, 4), torch.tensor([4, 0]), slice(None)):
        assert torch.equal(stored[index], x[rows][index])
    assert torch.equal(chosen(stored, torch.tensor([4, 0]))[:], x[[11, 17]])  # a part of a part
    assert fitting(stored.to(torch.device("cpu")), 24) == 2


def test_the_stated_share_of_the_highest_scores_is_suspect_the_highest_first() -> None:
    scores = np.array([3.0, 9.0, 1.0, 9.0, 7.0, 2.0, 0.0, 1.0])
    assert suspects(scores, 0.4).tolist() == [1, 3, 4]
    assert suspects(scores, 0.12).tolist() == suspects(scores, 0.0).tolist() == []


def test_the_first_training_is_half_as_long_and_looks_for_no_suspects_itself() -> None:
    config = preset_config("table-paper", "table")
    config = config.model_copy(
        update={"train": TrainConfig(epochs=5, patience=3, contamination=0.1, learning_rate=0.02)}
    )
    brief = first_training(config).train
    assert (brief.epochs, brief.patience, brief.contamination, brief.learning_rate) == (2, 0, 0.0, 0.02)
    one = config.model_copy(update={"train": TrainConfig(epochs=1)})
    assert first_training(one).train.epochs == 1
    by_data = config.model_copy(update={"train": TrainConfig(epochs=None)})
    assert first_training(by_data).train.epochs is None


def test_what_was_left_out_is_named_once_and_the_most_suspect_first() -> None:
    keys = ["a", "b", "b", "c\udcff"]
    found = left_out(np.array([3, 1, 2]), 4, keys.__getitem__)
    assert found == {"count": 3, "samples": 4, "first": ["c\\xff", "b"]}
    assert left_out(np.arange(30), 60, str)["first"] == [str(number) for number in range(20)]
    assert left_out(np.array([], dtype=int), 4, None) == {"count": 0, "samples": 4, "first": []}
