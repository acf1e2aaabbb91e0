"""An exported file scores what the library scores, on samples that its golden ones do not hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memae import Detector
from memae.export import export_model
from memae.modality import open_source
from memae.table.graph import numbers_and_codes
from memae.video.frames import FrameKey, Frames
from memae.video.predict import motion_scorer
from tests.export.exported import described, run
from tests.small_detectors import ONES, OTHERS, ROWS, fit
from tests.small_footage import scene


def feeds(detector: Detector, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    table = next(iter(open_source(rows).chunks(len(rows))))
    numbers, codes = numbers_and_codes(detector.preprocess, table)
    assert numbers is not None
    assert codes is not None
    return {"numbers": numbers, "codes": codes}


def test_rows(table: Detector, table_onnx: Path, odd_rows: pd.DataFrame) -> None:
    wanted = table.detect(odd_rows, explained="all")
    found = run(table_onnx, **feeds(table, odd_rows))
    np.testing.assert_allclose(found["score"], wanted.scores, rtol=1e-5)
    assert np.array_equal(found["is_anomaly"], wanted.is_anomaly)
    assert wanted.is_anomaly.sum() > 0
    names = [column["name"] for column in described(table_onnx)["columns"]]
    first = {cell.column: cell.error for cell in wanted.explanations[3].cells}
    np.testing.assert_allclose(found["column_errors"][3], [first[name] for name in names], rtol=1e-4, atol=1e-7)


@pytest.mark.filterwarnings("ignore:.*no value in column")
def test_a_row_that_lacks_a_number_is_scored_as_here(
    table: Detector, table_onnx: Path, odd_rows: pd.DataFrame
) -> None:
    gaps = odd_rows.head(4).reset_index(drop=True)
    gaps.loc[2, "mean radius"] = np.nan
    found = run(table_onnx, **feeds(table, gaps))
    np.testing.assert_allclose(found["score"], table.score(gaps).values, rtol=1e-5)


def test_a_row_of_infinity_has_no_score(table: Detector, table_onnx: Path, odd_rows: pd.DataFrame) -> None:
    given = feeds(table, odd_rows.head(4))
    given["numbers"][2, 0] = np.inf
    found = run(table_onnx, **given)
    assert np.flatnonzero(np.isnan(found["score"])).tolist() == [2]
    assert not found["is_anomaly"][2]


@pytest.mark.slow
def test_images_in_batches_of_any_size(image: Detector, image_onnx: Path) -> None:
    pixels = np.concatenate([ONES, OTHERS])[::40] * 15
    wanted = image.detect(pixels, explained="all")
    for size in (1, 7, len(pixels)):
        found = run(image_onnx, image=pixels[:size, None])
        np.testing.assert_allclose(found["score"], wanted.scores[:size], rtol=1e-5)
        assert np.array_equal(found["is_anomaly"], wanted.is_anomaly[:size])
    maps = np.array([one.anomaly_map for one in wanted.explanations], dtype=np.float32)
    np.testing.assert_allclose(found["anomaly_map"], maps, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_clips(video: Detector, video_onnx: Path) -> None:
    grey = scene(5, range(40, 60))[0][32:64, ::1, ::1, 0]
    length, height, width = video.preprocess.shape[1:]
    clip = grey[:length, :height, :width][None].copy()
    found = run(video_onnx, clip=np.concatenate([clip, clip[:, ::-1]]))
    assert found["score"].shape == (2, length)
    keys = [FrameKey("one", number, number / 25) for number in range(length)]
    frames = list(motion_scorer(video.artifact).scored([Frames(clip[0], keys, "one")]))
    np.testing.assert_allclose(found["score"][0], [frame.score for frame in frames], rtol=1e-5)
    np.testing.assert_allclose(
        found["anomaly_map"][0], np.stack([frame.anomaly_map for frame in frames]), rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_what_looks_further_back_than_a_clip_is_said_to_be_left_out(video: Detector, video_onnx: Path) -> None:
    assert "motion alone" in described(video_onnx)["notes"][0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["table", "image", "video"])
def test_openvino_scores_the_golden_samples(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    done = export_model(request.getfixturevalue(kind).artifact, tmp_path / "out", "openvino")
    assert done.files == ("model.bin", "model.json", "model.xml")
    assert done.parity.largest_difference < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["mnad", "memto", "memstream"])
def test_every_memory_reads_alike(kind: str, to: Any, tmp_path: Path) -> None:
    done = export_model(fit(ROWS, memory={"kind": kind}).artifact, tmp_path / "out", to)
    assert done.parity.largest_difference < 1e-5
    assert ("learns nothing" in "".join(done.notes)) == (kind == "memstream")


@pytest.mark.slow
def test_items_that_are_made_from_an_image_and_scores_that_are_distances(tmp_path: Path) -> None:
    for name, detector in {
        "mpn": fit(ONES * 15, memory={"kind": "mpn"}),
        "distance": fit(ROWS, memory={"score": "distance"}),
    }.items():
        done = export_model(detector.artifact, tmp_path / name, "onnx")
        assert done.parity.largest_difference < 1e-5
