"""Data sets of other libraries are sources by what they give, without being imported."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from memae import Detector
from memae.errors import DataError
from memae.modality import collect, open_source

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
ROWS = pd.DataFrame({"a": np.arange(40) % 7 + 0.5, "b": list("xy") * 20, "n": [1, None] * 20})
BRIEF = {"train": {"epochs": 1}, "memory": {"num_items": 8}}


class Numbered:
    """The least that such an object has."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Any:
        return self.samples[place]


class Pairs(torch.utils.data.Dataset[Any]):
    """A data set of torch, as torchvision has them."""

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(PIXELS[place][None]), place % 2


PICTURES: dict[str, Any] = {
    "Pillow": Numbered([Image.fromarray(picture) for picture in PIXELS]),
    "list of Pillow": [Image.fromarray(picture) for picture in PIXELS],
    "arrays": Numbered(PIXELS),
    "dicts": [{"image": Image.fromarray(picture), "label": place % 2} for place, picture in enumerate(PIXELS)],
    "torch": Pairs(),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_those_of_an_array(name: str) -> None:
    source = open_source(PICTURES[name])
    assert source.modality == "image"
    images = collect(source)
    assert np.array_equal(images.pixels[:, 0], PIXELS)
    assert [len(part) for part in source.chunks(15)] == [15, 15, 10]
    assert [key for part in source.chunks(15) for key in part.keys] == list(range(40))


def test_labels_come_from_pairs_and_fields() -> None:
    for name in ("dicts", "torch"):
        assert open_source(PICTURES[name]).labels("label").tolist() == ["0", "1"] * 20
    with pytest.raises(DataError, match="the list: no field 'kind' in a sample"):
        open_source(PICTURES["dicts"]).labels("kind")


def test_rows_are_those_of_a_frame() -> None:
    records = [{**row, "n": None if row["n"] != row["n"] else row["n"]} for row in ROWS.to_dict("records")]
    for x in (records, Numbered(records)):
        source = open_source(x)
        assert source.modality == "table"
        assert collect(source).columns.to_pylist() == records
    numbers = collect(open_source(Numbered(np.eye(3)))).columns
    assert (numbers.column_names, numbers["x1"].to_pylist()) == (["x0", "x1", "x2"], [0, 1, 0])
    late = [{"a": 1}] * 10_000 + [{"a": 0.5}]
    assert collect(open_source(late)).columns["a"].to_pylist()[-2:] == [1.0, 0.5]


def test_what_cannot_be_one_source_is_refused() -> None:
    sizes = [Image.new("L", (8, 8)), Image.new("L", (8, 9))]
    with pytest.raises(DataError, match=r"pictures of 8 x 8 and 9 x 8 \(sample 1\); resize all"):
        collect(open_source(sizes))
    with pytest.raises(DataError, match="several pictures \\('image', 'mask'\\)"):
        open_source([{"image": sizes[0], "mask": sizes[1]}])
    with pytest.raises(DataError, match="a column mixes types"):
        open_source([{"a": 1}, {"a": "x"}])


def test_a_data_set_of_hugging_face_is_fitted_and_scored() -> None:
    assert "datasets" not in sys.modules
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_pandas(ROWS[["a", "b"]])
    detector = Detector(seed=0, settings=BRIEF).fit(rows)
    frame = Detector(seed=0, settings=BRIEF).fit(ROWS[["a", "b"]])
    assert detector.score(rows).values == pytest.approx(frame.score(ROWS[["a", "b"]]).values)
    pictures = datasets.Dataset.from_dict({"image": [Image.fromarray(picture) for picture in PIXELS]})
    assert np.array_equal(collect(open_source(pictures)).pixels[:, 0], PIXELS)
