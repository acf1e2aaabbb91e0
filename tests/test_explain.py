from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn

from memae import Detector
from memae.autoencoder import Autoencoder
from memae.config import validated
from memae.engine.scoring import items_used
from memae.image.preprocess import ImagePreprocess
from memae.memory.base import MemoryRead
from memae.memory.memae import MemAE
from memae.memory.shown import MemoryItems
from memae.memory.usage import duplicate_pairs
from memae.modality import Artifact, modality_named
from memae.table.schema import Column, TablePreprocess
from memae.types import Explanation

BRIEF = {"train": {"epochs": 3}, "memory": {"num_items": 12}}


@pytest.fixture(scope="module")
def digits() -> Any:
    pixels, label = load_digits(return_X_y=True)
    return pixels[label == 1].reshape(-1, 8, 8).astype(np.uint8)


@pytest.fixture(scope="module")
def tumours() -> pd.DataFrame:
    data = load_breast_cancer(as_frame=True)
    frame = data.frame[data.target == 1].drop(columns="target").iloc[:, :6]
    return frame.assign(
        size=np.where(frame["mean radius"] > 12, "large", "small"), smooth=frame["mean smoothness"] < 0.1
    )


@pytest.fixture(scope="module", params=["whole", "position"])
def of_images(request: pytest.FixtureRequest, digits: np.ndarray) -> Detector:
    memory = BRIEF["memory"] | {"query": request.param}
    return Detector(settings=BRIEF | {"memory": memory, "image": {"smooth_px": 0}}).fit(digits)


@pytest.fixture(scope="module")
def of_rows(tumours: pd.DataFrame) -> Detector:
    return Detector(settings=BRIEF).fit(tumours)


def decode_items(
    model: Autoencoder, preprocess: ImagePreprocess | TablePreprocess | None, network: str
) -> tuple[np.ndarray | None, list[dict[str, Any]] | None]:
    kind = modality_named({"image": "image", "table": "table"}[network])
    artifact = Artifact(validated({"network": network}, "test"), preprocess, model, None, np.empty(0), {})
    with torch.inference_mode():
        return kind.decode_items(artifact)


def check_items(explanation: Explanation, count: int) -> None:
    weights = [use.weight for use in explanation.items]
    assert weights == sorted(weights, reverse=True)
    assert min(weights) > 0
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    assert len({use.item for use in explanation.items}) == len(weights) <= count
    assert all(0 <= use.item < count for use in explanation.items)


def test_an_image_is_explained_by_its_error_map_and_items(of_images: Detector, digits: np.ndarray) -> None:
    found = of_images.explain(digits[:7])
    scores = of_images.score(digits[:7])
    assert [one.key for one in found] == list(scores.keys)
    assert [one.score for one in found] == scores.values.tolist()
    for one in found:
        assert one.x.shape == one.reconstruction.shape == (1, 8, 8)
        assert one.error_map.shape == (8, 8)
        assert one.error_map.mean() == pytest.approx(one.score, rel=1e-5)
        assert one.error_map is not None
        assert np.allclose(one.error_map, ((one.x - one.reconstruction) ** 2).mean(axis=0), atol=1e-5)
        assert one.cells == ()
        check_items(one, 12)


def test_the_error_map_of_a_colour_image_is_the_mean_over_its_channels() -> None:
    pixels = np.random.default_rng(0).random((40, 3, 8, 12))
    detector = Detector(settings=BRIEF).fit(pixels)
    (one,) = detector.explain(pixels[:1])
    assert one.x.shape == (3, 8, 12)
    assert one.error_map.shape == (8, 12)
    assert one.error_map.mean() == pytest.approx(one.score, rel=1e-5)
    assert detector.items().pictures.shape == (12, 3, 8, 12)


def test_a_row_is_explained_column_by_column(of_rows: Detector, tumours: pd.DataFrame) -> None:
    found = of_rows.explain(tumours[:7])
    scores = of_rows.score(tumours[:7])
    assert [one.score for one in found] == scores.values.tolist()
    for place, one in enumerate(found):
        assert sum(cell.error for cell in one.cells) == pytest.approx(one.score, rel=1e-5)
        assert [cell.error for cell in one.cells] == sorted((cell.error for cell in one.cells), reverse=True)
        assert {cell.column for cell in one.cells} == set(tumours.columns)
        for cell in one.cells:
            seen = tumours.iloc[place][cell.column]
            assert cell.seen == (str(seen).lower() if cell.column == "smooth" else seen)
            assert isinstance(cell.expected, str) == isinstance(cell.seen, str)
        assert one.x is one.reconstruction is one.error_map is None
        check_items(one, 12)


def test_the_column_that_was_spoilt_is_the_most_surprising_one(of_rows: Detector, tumours: pd.DataFrame) -> None:
    spoilt = tumours[:5].assign(**{"mean area": 50_000.0})
    for one in of_rows.explain(spoilt):
        assert one.cells[0].column == "mean area"
        assert one.cells[0].seen == 50_000.0
        assert one.cells[0].expected < 5_000


def test_explanations_hold_the_p_values_of_the_verdicts(of_rows: Detector, tumours: pd.DataFrame) -> None:
    found = of_rows.explain(tumours[:20])
    assert [one.p_value for one in found] == of_rows.detect(tumours[:20]).p_values.tolist()


def test_without_a_threshold_there_is_no_p_value(tumours: pd.DataFrame) -> None:
    settings = BRIEF | {"threshold": {"calibration_share": 0}}
    (one,) = Detector(settings=settings).fit(tumours).explain(tumours[:1])
    assert one.p_value is None


def test_item_pictures_have_the_shape_of_the_images(of_images: Detector) -> None:
    items = of_images.items()
    assert items.pictures is not None
    assert items.pictures.shape == (12, 1, 8, 8)
    assert np.isfinite(items.pictures).all()
    assert items.rows is None
    assert items.usage_counts.shape == (12,)
    assert items.usage_counts.sum() > 0
    assert of_images.model.memory is not None
    assert items.duplicates == duplicate_pairs(of_images.model.memory)


def test_item_rows_stand_in_the_columns_own_units(of_rows: Detector, tumours: pd.DataFrame) -> None:
    items = of_rows.items()
    assert items.pictures is None
    assert items.rows is not None
    assert len(items.rows) == 12
    frame = pd.DataFrame(items.rows)
    assert list(frame.columns) == list(tumours.columns)
    assert set(frame["size"]) <= {"large", "small", "(unseen)"}
    assert set(frame["smooth"]) <= {"true", "false", "(unseen)"}
    assert frame["mean area"].between(0, 2_000).all()


def test_items_are_decoded_alone() -> None:
    memory, decoder = MemAE(3, 2), nn.Conv2d(2, 1, 1)
    model = Autoencoder(nn.Conv2d(1, 2, 1), memory, decoder)
    preprocess = ImagePreprocess(channels=1, height=2, width=3, low=0, high=1, scale="none", floor=1)
    pictures, rows = decode_items(model, preprocess, "image")
    assert rows is None
    assert pictures is not None
    assert pictures.shape == (3, 1, 2, 3)
    assert decoder.bias is not None
    kernel, bias = decoder.weight.detach().flatten(), decoder.bias.detach()
    for item, picture in zip(memory.items.detach(), pictures, strict=True):
        assert picture.flatten() == pytest.approx([float(kernel @ item + bias)] * 6, rel=1e-5)  # it fills the map


def test_item_rows_are_the_decoded_items() -> None:
    columns = (
        Column(name="width", kind="number", centre=10, spread=2),
        Column(name="colour", kind="category", categories=("blue", "red")),
    )
    decoder = nn.Linear(4, 4, bias=False)
    nn.init.eye_(decoder.weight)
    memory = MemAE(2, 4)
    memory.items.data = torch.tensor([[1.5, 0.0, 1.0, 0.0], [-1.0, 0.2, 0.1, 0.9]])
    pictures, rows = decode_items(
        Autoencoder(nn.Identity(), memory, decoder), TablePreprocess(columns=columns), "table"
    )
    assert pictures is None
    assert rows == [{"width": 13.0, "colour": "red"}, {"width": 8.0, "colour": "(unseen)"}]


def test_weights_are_averaged_over_the_queries_of_a_sample() -> None:
    weights = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], [[0.0, 0.25, 0.75], [0.0, 0.0, 1.0]]])
    queries, items = torch.ones(2, 2, 5), torch.zeros(3, 5)
    read = MemoryRead(queries, queries, items, lambda: (queries, queries), weights)
    first, second = (items_used(read, row) for row in range(2))
    assert [(use.item, use.weight) for use in first] == [(0, 0.75), (1, 0.25)]
    assert [(use.item, use.weight) for use in second] == [(2, 0.875), (1, 0.125)]


def test_a_plain_autoencoder_has_no_items(digits: np.ndarray) -> None:
    detector = Detector(settings=BRIEF | {"memory": {"enabled": False}}).fit(digits)
    assert detector.items() is None
    (one,) = detector.explain(digits[:1])
    assert one.items == ()
    assert one.error_map.mean() == pytest.approx(one.score, rel=1e-5)


def test_the_old_names_of_what_a_memory_holds_are_accepted_for_a_while() -> None:
    items = MemoryItems(np.array([3, 0]), [(0, 1)], None, None)
    with pytest.warns(FutureWarning, match=r"MemoryItems\.uses is now called usage_counts"):
        assert items.uses is items.usage_counts
    with pytest.warns(FutureWarning, match=r"MemoryItems\.twins is now called duplicates"):
        assert items.twins is items.duplicates
