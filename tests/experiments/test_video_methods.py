from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.data import DATA
from experiments.protocols import ped2
from experiments.video_methods import METHODS, _sparse_code, _trained

TINY: dict[str, Any] = {
    "video": {"height": 32, "width": 48, "crop_px": 16, "place_px": 8, "training_stride": 4, "crops_per_clip": 2},
    "train": {"epochs": 1},
    "memory": {"num_items": 12, "warmup_epochs": 0},
}


def test_names_have_dashes_like_those_of_the_other_methods() -> None:
    assert all(name == name.lower() and " " not in name for name in METHODS)


@pytest.mark.parametrize("name", ["block-difference", "background-difference"])
def test_the_trivial_scores_see_a_flash(small_ped2: Path, name: str) -> None:
    fitted = METHODS[name](ped2.training(), 0)
    scores = fitted.score(ped2.testing())
    assert {*scores} == {"01", "02"}
    truth = ped2.labels()
    for video, values in scores.items():
        assert values.shape == truth[video].shape
        # the first frame after a flash differs from the one before it too
        assert values[truth[video]].min() > values[~truth[video]][:-8].max()
    assert fitted.more(ped2.testing()) == {}


def test_a_detector_scores_under_every_protocol(small_ped2: Path) -> None:
    fitted = _trained("video", **TINY)(ped2.training(), 0)
    assert fitted.stored == 12
    assert fitted.settings["train"]["validation_share"] == 0
    assert fitted.settings["threshold"]["calibration_share"] == 0
    assert str(small_ped2) not in str(fitted.facts)
    served, more = fitted.score(ped2.testing()), fitted.more(ped2.testing())
    assert {*more} == {"served 1", "served 16", "paper raw"}
    for scores in (served, more["served 1"], more["served 16"]):
        assert all(np.isfinite(scores[video]).all() and len(scores[video]) == 24 for video in ("01", "02"))
    # clips of 16 with stride 1 give their error to their frame 8, so 8 frames before and 7 behind have none
    given = ~np.isnan(more["paper raw"]["01"])
    assert np.flatnonzero(given).tolist() == list(range(8, 17))


def test_a_penalised_code_is_shorter_and_without_a_penalty_it_is_the_plain_autoencoder(small_ped2: Path) -> None:
    plain = _trained("video", **{**TINY, "memory": {"enabled": False}})(ped2.training(), 3)
    free, short = (_sparse_code("video", share, **TINY)(ped2.training(), 3) for share in (0.0, 0.5))
    expected, found = plain.score(ped2.testing()), free.score(ped2.testing())
    assert all(np.array_equal(found[video], expected[video]) for video in ("01", "02"))
    assert short.facts["weight"] > 0 == free.facts["weight"]
    assert not np.array_equal(short.score(ped2.testing())["01"], expected["01"])
    assert {*short.more(ped2.testing())} == {"served 1", "served 16", "paper raw"}
    assert short.stored is None
    assert short.settings["share"] == 0.5


def test_the_cell_of_a_video_method_has_all_of_its_figures(small_ped2: Path) -> None:
    found = DATA["ped2"].compute("block-difference", "all", 0)
    assert {*found.metrics} == {"served", "served min-max"}
    assert found.metrics["served"]["auroc"] > 0.95
    assert dict(found.samples) == {"fit": 48, "test": 48, "anomalies": 16}
    assert found.seconds["score"] > 0


@pytest.mark.real
def test_trivial_scores_are_those_of_the_spec(fresh: Any) -> None:
    def metrics(name: Any) -> Any:
        return DATA["ped2"].compute(name, "all", 0).metrics

    assert metrics("background-difference")["served"]["auroc"] == pytest.approx(0.650, abs=0.005)
    assert metrics("background-difference")["served min-max"]["auroc"] == pytest.approx(0.903, abs=0.005)
    assert metrics("block-difference")["served"]["auroc"] == pytest.approx(0.874, abs=0.015)
