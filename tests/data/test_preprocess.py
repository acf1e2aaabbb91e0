import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from memae.data.preprocess import (
    ImagePreprocess,
    TablePreprocess,
    VideoPreprocess,
    column_kind,
    fit_preprocess,
    load_preprocess,
)
from memae.data.samples import Images, Table
from memae.data.sources import collect, expected_by, open_source
from memae.errors import DataError

FRAME = pd.DataFrame(
    {
        "width": [1.0, 2.0, 3.0, 6.0],
        "colour": ["red", "blue", "red", "green"],
        "count": [10, 10, 30, 30],
        "sealed": [True, False, True, True],
    },
    index=["p", "q", "r", "s"],
)


def samples(x):
    return collect(open_source(x))


def fit(x, image_scale="none", number_scale="standard", dropped=()):
    return fit_preprocess(samples(x), image_scale=image_scale, number_scale=number_scale, dropped=dropped)


def encode(preprocess, x):
    return preprocess.encode(collect(open_source(x, expected_by(preprocess))))


def test_numbers_are_scaled_and_categories_one_hot_with_a_place_for_the_unseen():
    encoded = encode(fit(FRAME), FRAME)
    deviation = np.std([1, 2, 3, 6])
    expected = [
        [-2 / deviation, 0, 0, 1, 0, -1, 0, 1, 0],
        [-1 / deviation, 1, 0, 0, 0, -1, 1, 0, 0],
        [0, 0, 0, 1, 0, 1, 0, 1, 0],
        [3 / deviation, 0, 1, 0, 0, 1, 0, 1, 0],
    ]
    assert torch.allclose(encoded, torch.tensor(expected, dtype=torch.float32))
    assert encoded.dtype == torch.float32
    assert fit(FRAME).shape == (9,)


def test_minmax_scaling_takes_least_to_greatest_to_0_to_1():
    encoded = encode(fit(FRAME, number_scale="minmax"), FRAME)
    assert encoded[:, 0].tolist() == pytest.approx([0, 0.2, 0.4, 1])
    assert encoded[:, 5].tolist() == [0, 0, 1, 1]


def test_log_scaling_draws_in_both_tails_and_keeps_the_sign():
    values = np.array([[0.0], [np.expm1(1)], [-np.expm1(1)], [np.expm1(4)], [-np.expm1(4)]])
    preprocess = fit(values, number_scale="log")
    encoded = encode(preprocess, values)[:, 0].numpy()
    assert encoded == pytest.approx(np.array([0, 1, -1, 4, -4]) / np.sqrt(34 / 5), rel=1e-6)
    assert preprocess.readable(torch.tensor([[1e9]]))[0][0] < np.inf


@pytest.mark.parametrize("number_scale", ["standard", "minmax", "log"])
def test_readable_undoes_encode(number_scale):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "far": 1e6 + generator.normal(size=200),
            "small": generator.normal(size=200) * 1e-6,
            "word": generator.choice(["a", "b", "c d", "e,f"], 200),
            "flag": generator.random(200) < 0.3,
        }
    )
    preprocess = fit(frame, number_scale=number_scale)
    found = pd.DataFrame(preprocess.readable(encode(preprocess, frame)), columns=frame.columns)
    assert np.allclose(found["far"], frame["far"], rtol=0, atol=1e-5)
    assert np.allclose(found["small"], frame["small"], rtol=1e-5, atol=1e-12)
    assert found["word"].tolist() == frame["word"].tolist()
    assert found["flag"].tolist() == [str(flag).lower() for flag in frame["flag"]]


def test_fold_adds_up_the_features_of_each_column():
    preprocess = fit(FRAME)
    features = torch.arange(18.0).view(2, 9)
    folded = preprocess.fold(features)
    assert folded.tolist() == [[0, 10, 5, 21], [9, 46, 14, 48]]
    assert torch.equal(folded.sum(dim=1), features.sum(dim=1))


def test_cells_stand_in_their_own_units_most_surprising_first():
    preprocess = fit(FRAME)
    expected = encode(preprocess, FRAME)[0]
    errors = torch.tensor([0.1, 0.2, 0.3, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0])
    cells = preprocess.cells(samples(FRAME), 3, expected, errors)
    assert [cell.column for cell in cells] == ["colour", "width", "count", "sealed"]
    assert [(cell.seen, cell.expected) for cell in cells] == [
        ("green", "red"),
        (6.0, pytest.approx(1.0)),
        (30.0, pytest.approx(10.0)),
        ("true", "true"),
    ]
    assert [cell.error for cell in cells] == pytest.approx([0.5, 0.1, 0.05, 0.0])


def test_an_unseen_category_takes_the_last_place_and_reads_as_unseen():
    preprocess = fit(FRAME)
    encoded = encode(preprocess, FRAME.assign(colour="mauve"))
    assert encoded[:, 1:5].tolist() == [[0, 0, 0, 1]] * 4
    assert [row[1] for row in preprocess.readable(encoded)] == ["(unseen)"] * 4


def test_a_truth_value_that_training_never_had_is_unseen():
    preprocess = fit(pd.DataFrame({"on": [False, False, False]}))
    assert encode(preprocess, pd.DataFrame({"on": [True, False]})).tolist() == [[0, 1], [1, 0]]


def test_a_number_is_a_category_where_training_had_words():
    preprocess = fit(pd.DataFrame({"code": ["7", "8"]}))
    assert encode(preprocess, pd.DataFrame({"code": [8, 9]})).tolist() == [[0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("number_scale", ["standard", "minmax", "log"])
@pytest.mark.parametrize("value", [0.0, 5.0, -1e9, 1e-12])
def test_a_constant_column_stays_finite_and_shows_a_change(number_scale, value):
    preprocess = fit(np.full((4, 1), value), number_scale=number_scale)
    assert encode(preprocess, np.full((4, 1), value)).abs().max() < 1e-6
    changed = encode(preprocess, np.array([[value + max(1.0, abs(value))]]))
    assert changed.item() == pytest.approx(1.0) if number_scale != "log" else abs(changed.item()) > 0.03


def test_columns_are_found_by_name_in_any_order():
    preprocess = fit(FRAME)
    shuffled = FRAME[["sealed", "count", "width", "colour"]]
    assert torch.equal(encode(preprocess, shuffled), encode(preprocess, FRAME))


def test_columns_left_out_in_training_may_be_there_or_not():
    preprocess = fit(FRAME.drop(columns="count"), dropped=("count",))
    assert torch.equal(encode(preprocess, FRAME), encode(preprocess, FRAME.drop(columns="count")))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (
            FRAME.drop(columns=["count"]),
            "no column 'count', which the model was trained on; add it under that name",
        ),
        (FRAME.assign(extra=1), "column 'extra' was not there in training; leave it out with --drop extra"),
        (FRAME.rename(columns={"width": "Width"}), "no column 'width', .*; renamed[?] unknown here: 'Width'"),
        (FRAME.assign(width=["1", "2", "three", "4"]), "column 'width' holds 'three' at row r; .*mend the cell"),
        (FRAME.assign(width=["1", "2", "3", "4"]), "column 'width' .* stored as text; convert the column to num"),
        (FRAME.assign(width=True), "column 'width' holds bool; the model was trained on numbers there; mend"),
        (
            FRAME.assign(width=[1, 2, np.nan, 4]),
            r"column 'width' has no value at row r \(1 missing in all\); fill",
        ),
        (FRAME.assign(width=[1, np.inf, 2, 3]), "column 'width' holds inf at row q; mend or remove it"),
        (FRAME.assign(colour=["red", None, "red", None]), r"column 'colour' has no value at row q \(2 missing"),
        (
            FRAME.assign(colour=pd.Timestamp("2026-01-01")),
            "column 'colour' holds timestamp.*trained on categories",
        ),
        (FRAME.assign(sealed=[1, 0, 1, 1]), "column 'sealed' holds int64, .* trained on true and false"),
    ],
    ids=[
        "missing",
        "extra",
        "renamed",
        "text in numbers",
        "numbers as text",
        "truth in numbers",
        "NaN",
        "infinite",
        "no category",
        "date",
        "number in truth",
    ],
)
def test_rows_that_do_not_fit_the_schema_are_refused_by_column_and_row(given, what):
    with pytest.raises(DataError, match=f"the DataFrame: {what}"):
        encode(fit(FRAME), given)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (pd.DataFrame({"when": pd.date_range("2026", periods=3)}), "column 'when' holds timestamp.*--drop when"),
        (pl.DataFrame({"parts": [[1], [2]]}), "column 'parts' holds large_list.*leave it out with --drop parts"),
        (pl.DataFrame({"void": [None, None]}), "column 'void' is empty, .*leave it out with --drop void"),
        (pl.DataFrame({"raw": [b"a", b"b"]}), "column 'raw' holds large_binary.*--drop raw"),
        (
            pd.DataFrame({"note": [f"text {i}" for i in range(1001)]}),
            "column 'note' has 1,001 different texts in 1,001 rows.*--drop note",
        ),
        (pd.DataFrame({"a": [1.0, None]}, index=["u", "v"]), "column 'a' has no value at row v .*--drop a"),
        (pl.DataFrame({"a": [1.0, float("nan")]}), "column 'a' holds nan at row 1; mend or remove it"),
        (pl.DataFrame({"a": [1.0, float("-inf")]}), "column 'a' holds -inf at row 1; mend or remove it"),
        (
            pl.DataFrame({"a": [1.0, -1.7e308, 1.7e308]}),
            "column 'a' holds numbers up to 1.7e[+]308, too large .*--drop a",
        ),
    ],
)
@pytest.mark.parametrize("number_scale", ["standard", "minmax"])
def test_columns_that_cannot_be_learnt_are_refused(given, what, number_scale):
    with pytest.raises(DataError, match=f"the DataFrame: {what}"):
        fit(given, number_scale=number_scale)


def test_a_thousand_categories_are_still_categories():
    (column,) = fit(pd.DataFrame({"town": [f"town {i:03}" for i in range(1000)]})).columns
    assert len(column.categories) == 1000
    assert column.width == 1001


def test_duplicate_columns_are_refused_in_training_and_later():
    twice = Table(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["a", "a"]), [0], "t.csv")
    with pytest.raises(DataError, match=r"t\.csv: column names must differ; given twice: a"):
        TablePreprocess.fit(twice, "standard")
    with pytest.raises(DataError, match=r"t\.csv: column names must differ; given twice: a"):
        fit(pd.DataFrame({"a": [1.0, 2.0]})).encode(twice)


def test_a_table_without_columns_is_refused():
    with pytest.raises(DataError, match=r"t\.csv: no columns are left to learn from; drop fewer"):
        TablePreprocess.fit(Table(pa.table({}), [], "t.csv"), "standard")


def test_values_out_of_all_proportion_stay_finite_and_far():
    preprocess = fit(FRAME)
    encoded = encode(preprocess, FRAME.assign(width=[1.7e308, -1.7e308, 1e30, -1e30]))
    assert torch.isfinite(encoded.square()).all()
    assert encoded[:, 0].abs().min() > 1e9
    assert encoded[:, 0].sign().tolist() == [1, -1, 1, -1]


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("none", [0.6, 0.8]), ("unit", [0.6 * 2**0.5, 0.8 * 2**0.5]), ("centred", [-1.0, 1.0])],
)
def test_image_scales_by_hand(scale, expected):
    preprocess = ImagePreprocess(channels=1, height=1, width=2, low=0, high=10, scale=scale, floor=1e-3)
    encoded = preprocess.encode(Images(np.array([[[[6, 8]]]], np.float32), [0], "the array"))
    assert encoded.flatten().tolist() == pytest.approx(expected)


def test_bytes_range_from_0_to_255_and_floats_from_least_to_greatest():
    pixels = np.array([[[10, 20], [30, 60]]] * 3)
    of_bytes, of_floats = fit(pixels.astype(np.uint8)), fit(pixels.astype(np.float64))
    assert (of_bytes.low, of_bytes.high) == (0, 255)
    assert encode(of_bytes, pixels.astype(np.uint8))[0].flatten().tolist() == pytest.approx(
        [10 / 255, 20 / 255, 30 / 255, 60 / 255]
    )
    assert (of_floats.low, of_floats.high) == (10, 60)
    assert encode(of_floats, pixels)[0].flatten().tolist() == pytest.approx([0, 0.2, 0.4, 1])


@pytest.mark.parametrize(("scale", "rms"), [("unit", 1.0), ("centred", 1.0)])
def test_scaled_images_have_a_root_mean_square_of_1_whatever_their_brightness(scale, rms):
    pixels = np.random.default_rng(0).random((20, 3, 8, 8))
    preprocess = fit(pixels, image_scale=scale)
    encoded = encode(preprocess, pixels)
    assert encoded.square().mean(dim=(1, 2, 3)).sqrt().numpy() == pytest.approx(rms, rel=1e-5)
    assert torch.allclose(encode(preprocess, preprocess.low + (pixels - preprocess.low) / 2), encoded, atol=1e-5)


@pytest.mark.parametrize("scale", ["none", "unit", "centred"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_blank_image_stays_finite_and_a_faint_one_is_not_blown_up(scale, dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8)).astype(dtype)
    preprocess = fit(pixels, image_scale=scale)
    for grey in (0, 128, 255):
        assert torch.isfinite(encode(preprocess, np.full((1, 8, 8), grey, dtype))).all()
    faint = np.zeros((1, 8, 8), dtype)
    faint[0, 0, 0] = 1
    assert encode(preprocess, faint).abs().max() < 0.5


@pytest.mark.parametrize("scale", ["none", "unit", "centred"])
def test_pixels_out_of_all_proportion_stay_finite_and_are_not_taken_for_blank(scale):
    preprocess = fit(np.random.default_rng(0).random((20, 8, 8)), image_scale=scale)
    far = np.zeros((1, 8, 8))
    far[0, 3, 3] = 1e35
    encoded = encode(preprocess, far)
    assert torch.isfinite(encoded.square().sum())
    assert encoded.abs().max() > 5


def test_constant_float_images_are_refused():
    with pytest.raises(DataError, match=r"the array: every pixel is 0\.5; a model of constant images has nothing"):
        fit(np.full((5, 4, 4), 0.5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_are_refused_by_key(bad):
    pixels = np.random.default_rng(0).random((5, 4, 4))
    preprocess = fit(pixels)
    pixels[3, 1, 1] = bad
    for refused in (lambda: fit(pixels), lambda: encode(preprocess, pixels)):
        with pytest.raises(DataError, match="the array: image 3 holds NaN or infinite pixels; mend or remove it"):
            refused()


def test_pixels_beyond_float32_are_refused():
    with pytest.raises(DataError, match="the array: image 0 holds NaN or infinite pixels; mend or remove it"):
        fit(np.array([1e300, 0, 0, 0]).reshape(1, 2, 2))


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 3, 5, 5)])
def test_images_of_another_shape_are_refused(shape):
    preprocess = fit(np.random.default_rng(0).random((5, 4, 4)))
    with pytest.raises(DataError, match=r"the array: images of shape .* trained on 1 x 4 x 4; resize or convert"):
        encode(preprocess, np.zeros(shape))


def test_the_other_kind_of_data_is_refused():
    with pytest.raises(DataError, match="the array: the model was trained on a table and these are images"):
        encode(fit(FRAME), np.zeros((2, 4, 4)))
    with pytest.raises(DataError, match="the array: the model was trained on images and this is a table"):
        encode(fit(np.random.default_rng(0).random((5, 4, 4))), np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("fitted", "again"),
    [
        (fit(FRAME, dropped=("id",)), FRAME),
        (
            fit(np.random.default_rng(0).random((5, 4, 4)), image_scale="centred"),
            np.random.default_rng(1).random((3, 4, 4)),
        ),
    ],
    ids=["table", "image"],
)
def test_fitted_values_survive_being_written_as_json(fitted, again):
    loaded = load_preprocess(json.loads(json.dumps(fitted.model_dump())))
    assert loaded == fitted
    assert torch.equal(encode(loaded, again), encode(fitted, again))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.int8(), "number"),
        (pa.uint64(), "number"),
        (pa.float16(), "number"),
        (pa.decimal128(5, 2), "number"),
        (pa.bool_(), "boolean"),
        (pa.string(), "category"),
        (pa.large_string(), "category"),
        (pa.string_view(), "category"),
        (pa.dictionary(pa.int8(), pa.string()), "category"),
        (pa.dictionary(pa.int8(), pa.int64()), "category"),
        (pa.dictionary(pa.int8(), pa.date32()), None),
        (pa.date32(), None),
        (pa.timestamp("us"), None),
        (pa.binary(), None),
        (pa.null(), None),
        (pa.list_(pa.int8()), None),
    ],
    ids=str,
)
def test_the_kind_of_an_arrow_type(kind, expected):
    assert column_kind(kind) == expected


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"k": pd.Categorical(["b", "a", "b"])}),
        pd.DataFrame({"k": pd.Categorical([2, 1, 2])}),
        pl.DataFrame({"k": ["b", "a", "b"]}, schema={"k": pl.Categorical}),
        pa.table({"k": pa.array(["b", "a", "b"]).dictionary_encode()}),
    ],
)
def test_categorical_columns_are_categories(frame):
    preprocess = fit(frame)
    assert encode(preprocess, frame).tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]


def video(clip_input, length=3, height=1, width=2, **more):
    return VideoPreprocess(clip_length=length, height=height, width=width, input=clip_input, **more)


CLIP = torch.tensor([[[0, 255]], [[51, 204]], [[51, 0]]], dtype=torch.uint8)[None]  # 3 frames of 1 x 2 px


def test_frames_of_a_clip_become_minus_one_to_one():
    encoded = video("frames").encode_clips(CLIP)
    assert encoded.shape == (1, 1, 3, 1, 2)
    assert encoded.dtype == torch.float32
    assert torch.allclose(encoded.flatten(), torch.tensor([-1, 1, -0.6, 0.6, -0.6, -1]))


def test_differences_of_a_clip_are_those_to_the_frame_before_and_the_first_takes_the_second():
    encoded = video("differences").encode_clips(CLIP)
    assert encoded.shape == (1, 1, 3, 1, 2)
    # 4 times the difference of frames in [-1, 1]
    assert torch.allclose(encoded.flatten(), torch.tensor([1.6, -1.6, 1.6, -1.6, 0, -6.4]), atol=1e-6)
    doubled = video("differences", gain=8.0).encode_clips(CLIP)
    assert torch.allclose(doubled, 2 * encoded)


@pytest.mark.parametrize("clip_input", ["frames", "differences"])
def test_clips_are_encoded_one_by_one_and_the_pixels_are_left_alone(clip_input):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (4, 5, 6, 7), dtype=torch.uint8, generator=generator)
    before = pixels.clone()
    preprocess = video(clip_input, 5, 6, 7)
    together = preprocess.encode_clips(pixels)
    assert together.shape[1:] == preprocess.shape == (1, 5, 6, 7)
    assert torch.equal(together, torch.cat([preprocess.encode_clips(pixels[i : i + 1]) for i in range(4)]))
    assert torch.equal(pixels, before)
    assert together.is_contiguous()
    assert together.stride() == (5 * 6 * 7, 5 * 6 * 7, 6 * 7, 7, 1)


def test_a_still_scene_has_no_differences_whatever_it_shows():
    still = torch.randint(0, 256, (1, 1, 6, 7), dtype=torch.uint8).expand(1, 5, 6, 7)
    assert (video("differences", 5, 6, 7).encode_clips(still) == 0).all()


@pytest.mark.parametrize("clip_input", ["frames", "differences"])
def test_a_preprocess_of_video_is_stored_as_json(clip_input):
    preprocess = video(clip_input, 16, 128, 192)
    stored = json.loads(json.dumps(preprocess.model_dump()))
    assert load_preprocess(stored) == preprocess
    assert expected_by(preprocess).modality == "video"
    for change in ({"input": "colours"}, {"clip_length": "long"}, {"kind": "sound"}, {"fps": 25}):
        with pytest.raises(ValueError, match="validation error"):
            load_preprocess(stored | change)


@pytest.mark.parametrize(("low", "high", "refused"), [(0.0, 1.0, True), (-1.0, 1.0, True), (0.0, 255.0, False)])
def test_8_bit_images_are_refused_by_a_model_of_pixels_of_another_range(low, high, refused):
    values = np.random.default_rng(0).uniform(low, high, (30, 1, 8, 8)).astype(np.float32)
    fitted = ImagePreprocess.fit(Images(values, range(30), "train.npy"), "none")
    eight = Images(np.full((2, 1, 8, 8), 200, np.uint8), range(2), "new.npy")
    if refused:
        with pytest.raises(
            DataError, match=r"new\.npy: 8-bit images of 0 to 255, and .* scale them to that range"
        ):
            fitted.encode(eight)
    else:
        assert torch.isfinite(fitted.encode(eight)).all()
