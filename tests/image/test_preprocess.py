import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import memae.image.preprocess
from memae.errors import DataError
from memae.image.arrays import Images
from memae.image.preprocess import ImagePreprocess
from memae.modality import collect, modality_named, open_source
from memae.table.schema import TablePreprocess


def fit(x: np.ndarray | pd.DataFrame, image_scale: Any = "none") -> ImagePreprocess | TablePreprocess:
    return ImagePreprocess.fit(collect(open_source(x)), image_scale)


def encode(preprocess: ImagePreprocess | TablePreprocess, x: np.ndarray | pd.DataFrame) -> torch.Tensor:
    return preprocess.encode(collect(open_source(x, modality_named("image"), preprocess)))


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("none", [0.6, 0.8]),
        ("unit", [0.6 * 2**0.5, 0.8 * 2**0.5]),
        ("centred", [-1.0, 1.0]),
        ("shared", [1.2, 1.6]),
    ],
)
def test_image_scales_by_hand(scale: str, expected: list[float]) -> None:
    preprocess = ImagePreprocess(
        channels=1, height=1, width=2, low=0, high=10, scale=scale, floor=0.5 if scale == "shared" else 1e-3
    )
    encoded = preprocess.encode(Images(np.array([[[[6, 8]]]], np.float32), [0], "the array"))
    assert encoded.flatten().tolist() == pytest.approx(expected)


def test_bytes_range_from_0_to_255_and_floats_from_least_to_greatest() -> None:
    pixels = np.array([[[10, 20], [30, 60]]] * 3)
    of_bytes, of_floats = fit(pixels.astype(np.uint8)), fit(pixels.astype(np.float64))
    assert (of_bytes.low, of_bytes.high) == (0, 255)
    assert encode(of_bytes, pixels.astype(np.uint8))[0].flatten().tolist() == pytest.approx(
        [10 / 255, 20 / 255, 30 / 255, 60 / 255]
    )
    assert (of_floats.low, of_floats.high) == (10, 60)
    assert encode(of_floats, pixels)[0].flatten().tolist() == pytest.approx([0, 0.2, 0.4, 1])


@pytest.mark.parametrize(("scale", "rms"), [("unit", 1.0), ("centred", 1.0)])
def test_scaled_images_have_a_root_mean_square_of_1_whatever_their_brightness(scale: str, rms: float) -> None:
    pixels = np.random.default_rng(0).random((20, 3, 8, 8))
    preprocess = fit(pixels, image_scale=scale)
    encoded = encode(preprocess, pixels)
    assert encoded.square().mean(dim=(1, 2, 3)).sqrt().numpy() == pytest.approx(rms, rel=1e-5)
    assert torch.allclose(encode(preprocess, preprocess.low + (pixels - preprocess.low) / 2), encoded, atol=1e-5)


def test_the_brightness_of_a_large_image_is_not_lost_in_the_rounding_of_long_sums() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 700, 500), dtype=np.uint8)
    found = ImagePreprocess.fit(Images(pixels, [0, 1], ""), "unit").encode(Images(pixels, [0, 1], ""))
    wanted = np.sqrt(np.square(pixels.astype(np.float64)).mean(axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(found.numpy(), pixels / wanted, rtol=1e-6)


@pytest.mark.parametrize("scale", ["none", "unit", "centred", "shared"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_blank_image_stays_finite_and_a_faint_one_is_not_blown_up(scale: str, dtype: type[np.number]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8)).astype(dtype)
    preprocess = fit(pixels, image_scale=scale)
    for grey in (0, 128, 255):
        assert torch.isfinite(encode(preprocess, np.full((1, 8, 8), grey, dtype))).all()
    faint = np.zeros((1, 8, 8), dtype)
    faint[0, 0, 0] = 1
    assert encode(preprocess, faint).abs().max() < 0.5


@pytest.mark.parametrize("scale", ["none", "unit", "centred", "shared"])
def test_pixels_out_of_all_proportion_stay_finite_and_are_not_taken_for_blank(scale: str) -> None:
    preprocess = fit(np.random.default_rng(0).random((20, 8, 8)), image_scale=scale)
    far = np.zeros((1, 8, 8))
    far[0, 3, 3] = 1e35
    encoded = encode(preprocess, far)
    assert torch.isfinite(encoded.square().sum())
    assert encoded.abs().max() > 5


def test_constant_float_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"the array: every pixel is 0\.5; a model of constant images has nothing"):
        fit(np.full((5, 4, 4), 0.5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_are_refused_by_key(bad: float) -> None:
    pixels = np.random.default_rng(0).random((5, 4, 4))
    preprocess = fit(pixels)
    pixels[3, 1, 1] = bad
    for refused in (lambda: fit(pixels), lambda: encode(preprocess, pixels)):
        with pytest.raises(DataError, match="the array: image 3 holds NaN or infinite pixels; mend or remove it"):
            refused()


@pytest.mark.parametrize("scale", ["none", "unit", "centred", "shared"])
def test_images_are_encoded_alike_however_many_at_a_time(monkeypatch: pytest.MonkeyPatch, scale: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 6), dtype=np.uint8)
    preprocess: Any = fit(x, scale)
    together = encode(preprocess, x)
    monkeypatch.setattr(memae.image.preprocess, "ENCODED_BYTES", 2 * 4 * x[0].size)
    assert torch.equal(encode(preprocess, x), together)
    assert preprocess.encode(Images(x[:0], [], "none")).shape == (0, 3, 5, 6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("scale", ["none", "unit", "centred", "shared"])
def test_encoded_pixels_are_what_the_formula_gives(scale: str, dtype: type[np.number]) -> None:
    x = np.random.default_rng(0).integers(0, 200, (4, 3, 9, 7)).astype(dtype)
    preprocess = fit(x, scale)
    wide = x.astype(np.float64) - preprocess.low
    if scale == "centred":
        wide -= wide.mean(axis=(1, 2, 3), keepdims=True)
    size = np.sqrt(np.square(wide).mean(axis=(1, 2, 3), keepdims=True))
    divisors: dict[str, Any] = {
        "none": preprocess.high - preprocess.low,
        "shared": np.sqrt(np.square(wide).mean()),
    }
    wanted = wide / divisors.get(scale, size)
    assert encode(preprocess, x).numpy() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_bytes_are_shifted_by_the_range_of_a_model_of_floats() -> None:
    preprocess = fit(np.random.default_rng(0).uniform(20, 120, (9, 8, 8)), "unit")
    x = np.random.default_rng(1).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    assert encode(preprocess, x).numpy() == pytest.approx(
        encode(preprocess, x.astype(np.float32)).numpy(), rel=1e-5
    )


def test_pixels_beyond_float32_are_refused() -> None:
    with pytest.raises(DataError, match="the array: image 0 holds NaN or infinite pixels; mend or remove it"):
        fit(np.array([1e300, 0, 0, 0]).reshape(1, 2, 2))


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 3, 5, 5)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    preprocess = fit(np.random.default_rng(0).random((5, 4, 4)))
    with pytest.raises(DataError, match=r"the array: images of shape .* trained on 1 x 4 x 4; resize or convert"):
        encode(preprocess, np.zeros(shape))


def test_fitted_values_survive_being_written_as_json() -> None:
    fitted = fit(np.random.default_rng(0).random((5, 4, 4)), image_scale="centred")
    again = np.random.default_rng(1).random((3, 4, 4))
    loaded = ImagePreprocess.model_validate(json.loads(json.dumps(fitted.model_dump())))
    assert loaded == fitted
    assert torch.equal(encode(loaded, again), encode(fitted, again))


@pytest.mark.parametrize(("low", "high", "refused"), [(0.0, 1.0, True), (-1.0, 1.0, True), (0.0, 255.0, False)])
def test_8_bit_images_are_refused_by_a_model_of_pixels_of_another_range(
    low: float, high: float, refused: bool
) -> None:
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
