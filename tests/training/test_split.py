"""A group never lies in two parts, and each part is about as large as it should be."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memae.config import Config
from memae.errors import ConfigError, DataError
from memae.modality import preset_config
from memae.training.split import Split, deal, split, splits


def config(calibration: float = 0.2, validation: float = 0.1, **threshold: object) -> Config:
    base = preset_config("table", "table")
    return base.model_copy(
        update={
            "train": base.train.model_copy(update={"validation_share": validation, "patience": 0}),
            "threshold": base.threshold.model_copy(update={"calibration_share": calibration, **threshold}),
        }
    )


def groups_in(parts: Split, groups: np.ndarray) -> list[set[int]]:
    return [set(groups[part.numpy()].tolist()) for part in parts]


sizes_of_groups = st.lists(st.integers(1, 30), min_size=6, max_size=80)


@settings(deadline=None)
@given(sizes_of_groups, st.integers(0, 5), st.sampled_from([0, None, 2, 3]))
def test_a_group_never_lies_in_two_parts(sizes: list[int], seed: int, folds: int | None) -> None:
    assume(3 * max(sizes) <= sum(sizes))  # else a fold may have one group to train on
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    found = splits(len(groups), config(folds=folds), seed, "parts", groups)
    for parts in (found.whole, *found.folds):
        train, validation, calibration = groups_in(parts, groups)
        assert not (train & validation or train & calibration or validation & calibration)
        assert sorted(row for part in parts for row in part.tolist()) == list(range(len(groups)))
    if found.folds:
        assert not len(found.whole.calibration)
        held_out = [groups_in(fold, groups)[2] for fold in found.folds]
        assert sorted(group for fold in held_out for group in fold) == list(range(len(sizes)))
        assert found.group_counts(groups)["calibration"] == len(sizes)
        assert found.counts["calibration"] == len(groups)


@given(sizes_of_groups, st.integers(0, 5))
def test_no_single_group_would_bring_a_part_nearer_to_its_share(sizes: list[int], seed: int) -> None:
    given, shares = np.array(sizes), (0.1, 0.2)
    parts = deal(given, shares, seed)
    for part, share in enumerate(shares, 1):
        missing = share * given.sum() - given[parts == part].sum()
        training = given[parts == 0]
        if (parts == part).sum() > 1 or missing > 0:
            assert missing <= training.min() / 2 or len(training) == 1
            assert -missing <= given[parts == part].max() / 2


def test_many_small_groups_give_the_shares_themselves() -> None:
    groups = np.repeat(np.arange(1000), 3)
    parts = split(3000, config(), 0, "rows", groups)
    assert [len(part) for part in parts] == [2100, 300, 600]


def test_the_seed_decides() -> None:
    groups = np.repeat(np.arange(50), 4)
    first, same, other = (split(200, config(), seed, "rows", groups).calibration.tolist() for seed in (0, 0, 1))
    assert first == same
    assert set(first) != set(other)


def test_groups_of_one_sample_are_samples() -> None:
    found = split(200, config(), 0, "rows", np.arange(200))
    assert [len(part) for part in found] == [140, 20, 40]


def test_two_folds_take_the_place_of_too_few_held_out_groups() -> None:
    few, many = np.repeat(np.arange(100), 5), np.repeat(np.arange(600), 2)
    found = splits(500, config(), 0, "rows", few)
    assert len(found.folds) == 2
    assert "20 held-out groups would be too few for a false-alarm rate of 0.01, which takes 99" in found.notes[0]
    assert abs(len(found.folds[0].calibration) - 250) < 5
    assert not splits(1200, config(), 0, "rows", many).folds
    assert not splits(500, config(false_alarm_rate=0.05), 0, "rows", few).folds
    assert not splits(500, config(folds=0), 0, "rows", few).folds
    assert not splits(500, config(), 0, "rows").folds
    assert len(splits(500, config(folds=5), 0, "rows").folds) == 5


def test_one_large_group_trains_where_a_fold_without_it_could_not() -> None:
    groups = np.repeat(np.arange(4), [100, 1, 1, 1])
    found = splits(103, config(), 0, "rows", groups)
    assert not found.folds
    assert set(groups[found.whole.train.numpy()].tolist()) >= {0}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([0] * 50, "parts: all samples are of one group, and a group is never divided; group by something that"),
        (
            [0, 1] * 25,
            "parts: holds 2 groups, fewer than the 3 parts to train on, stop early on and set a threshold",
        ),
    ],
)
def test_too_few_groups_are_an_error(groups: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        splits(50, config(), 0, "parts", np.array(groups))


def test_too_few_groups_for_the_folds_are_an_error() -> None:
    with pytest.raises(
        ConfigError,
        match=r"holds 5 groups, too few or too unequal ones for threshold.folds = 6, as each fold trains",
    ):
        splits(50, config(folds=6), 0, "parts", np.arange(50) // 10)
    with pytest.raises(ConfigError, match="takes at least 99 held-out normal samples"):
        splits(50, config(folds=2, false_alarm_rate=0.01), 0, "parts")
