from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.video import clip_flop
from experiments.protocols import ped2
from memae import Detector
from memae.video.evaluate import evaluate_videos
from memae.video.events import EventRule


def test_the_paper_network_costs_what_the_spec_counts() -> None:
    assert clip_flop() / 1e9 == pytest.approx(65.4, abs=0.05)


def test_protocols_judge_what_they_score() -> None:
    truth = {"a": np.array([0, 0, 1, 1], bool), "b": np.array([0, 1, 1, 0], bool)}
    nan = np.nan
    scored = {
        "served": {"a": np.array([1.0, 2, 3, 4]), "b": np.array([10.0, 20, 30, 11])},
        "paper raw": {"a": np.array([nan, 2, 3, nan]), "b": np.array([nan, 9, 9.5, 5])},
        "served 1": {"a": np.array([1.0, 2, 3, 4]), "b": np.array([1.0, 2, 3, 1])},
    }
    found = ped2.judge(scored, truth)
    assert {*found} == {*scored, "served min-max", "paper"}
    # scaled, a is 0 1/3 | 2/3 1 and b is 0 .05 | .5 1: every anomaly stands above every normal frame but one
    assert found["served min-max"]["auroc"] == 1.0
    assert found["served"]["auroc_macro"] == 1.0
    assert found["served"]["auroc"] == pytest.approx(12 / 16)  # a's anomalies lie below b's normal frames: 4 of 16
    assert found["paper raw"]["auroc"] == pytest.approx(5 / 6)  # 3 against 5 is the one pair the wrong way round
    assert found["paper"]["auroc"] == 1.0


def test_a_video_of_one_kind_counts_for_micro_and_not_for_macro() -> None:
    truth = {"a": np.array([0, 1], bool), "b": np.array([1, 1], bool)}
    found = ped2.judge({"served": {"a": np.array([1.0, 2]), "b": np.array([0.0, 3])}}, truth)
    assert found["served"] == {"auroc": pytest.approx(2 / 3), "auroc_macro": 1.0}


def test_labels_and_videos_are_those_of_the_folder(small_ped2: Path) -> None:
    assert {video: np.flatnonzero(marks).tolist() for video, marks in ped2.labels().items()} == {
        "01": list(range(8, 16)),
        "02": list(range(8, 16)),
    }
    assert all(len(marks) == 24 for marks in ped2.labels().values())
    assert [path.parent.name + path.name for path in ped2.videos("training")] == ["training01", "training02"]
    assert sum(len(chunk.pixels) for chunk in ped2.training(ped2.videos("training")[:1]).chunks(5)) == 24
    assert sum(len(chunk.pixels) for chunk in ped2.testing().chunks(5)) == 48


@pytest.mark.real
def test_the_frame_ranges_of_the_authors(fresh: Any) -> None:
    truth = ped2.labels()
    assert len(truth) == 12
    assert sum(marks.sum() for marks in truth.values()) == 1648


@pytest.mark.real
def test_a_brief_training_judged_by_masks_agrees_with_the_frame_ranges(fresh: Any) -> None:
    settings = {
        "train": {"epochs": 2},
        "memory": {"warmup_epochs": 1, "num_items": 200},
        "video": {"training_stride": 8},
    }
    detector = Detector("video", settings=settings).fit(ped2.training())
    rule = EventRule(detector.event_threshold(60).on_threshold)
    judged = evaluate_videos(detector, ped2.testing(), ped2.root() / "testing_masks", rule)
    scores = detector.score(ped2.testing())
    every = np.concatenate(list(ped2.labels().values()))
    assert judged.frame_auroc_micro.value == pytest.approx(roc_auc_score(every, scores.values), abs=1e-9)
    assert judged.frame_auroc_micro.value > 0.8
    assert judged.pixel_auroc.value > 0.8
    assert judged.anomalous_frames == 1648
    assert judged.unscored_frames == 0
    assert judged.tbdc.value > judged.rbdc.value > 0.05
