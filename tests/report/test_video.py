from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memae import Detector
from memae.video.evaluate import judge_videos
from memae.video.events import EventRule
from tests.cli.conftest import Done, camera

__all__ = ["camera"]


@pytest.fixture
def labelled(camera: Path) -> Path:
    """The working directory with its two labelled videos in test/."""
    (camera / "test").mkdir()
    for name in ("clip.mp4", "calm.mp4"):
        (camera / name).rename(camera / "test" / name)
    return camera


def test_labels_of_video_give_the_curves_of_all_frames(labelled: Path, memae: Callable[..., Done]) -> None:
    done = memae("report", "camera.model", "test", "--labels", "masks", "--out", "report.html", "--quiet")
    assert done.code == 0, done.err
    page = (labelled / "report.html").read_text(encoding="utf-8")
    assert "ROC: recall over the false-alarm rate" in page
    assert "Precision over recall" in page


def test_the_ranking_has_the_area_of_the_figure(labelled: Path) -> None:
    detector = Detector.load(labelled / "camera.model", device="cpu", engine="torch")
    result, ranking = judge_videos(detector, labelled / "test", labelled / "masks", EventRule(1e6))
    assert ranking is not None
    assert len(ranking.keys) == len(ranking.scores) == result.frames
    assert int(ranking.anomalous.sum()) == result.anomalous_frames
    area = roc_auc_score(ranking.anomalous, ranking.scores)
    assert area == pytest.approx(result.frame_auroc_micro.value, abs=1e-9)
    assert ranking.groups is not None
    assert np.unique(ranking.groups).tolist() == [0, 1]


def test_without_an_anomalous_frame_there_is_no_ranking(labelled: Path) -> None:
    detector = Detector.load(labelled / "camera.model", device="cpu", engine="torch")
    source, rule = detector.open(labelled / "test" / "calm.mp4"), EventRule(1e6)
    (labelled / "masks" / "clip").rename(labelled / "clip")
    _, ranking = judge_videos(detector, source, labelled / "masks", rule)
    assert ranking is None
