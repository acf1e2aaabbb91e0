"""Filter responses, their statistics at each place, and what they add to the map of an image."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.protocols.metrics import ranking
from experiments.synthetic_defects import normal_image, with_defect
from memae import Detector
from memae.autoencoder import Reconstruction
from memae.config import override
from memae.errors import ConfigError
from memae.image.arrays import Images
from memae.image.config import ImageConfig
from memae.image.filters import CELL_PX, DIRECTIONS, FLOOR, SCALES, FilterStatistics, responses
from memae.image.maps import map_maximum
from memae.image.scoring import MapSettings, map_settings
from memae.modality import modality_of, preset_config

NOISE = torch.from_numpy(np.random.default_rng(0).normal(1, 0.1, (30, 1, 48, 72))).float()


@pytest.mark.parametrize(
    ("shape", "places"), [((1, 64, 96), (8, 12)), ((3, 65, 97), (9, 13)), ((1, 70, 66), (9, 9))]
)
def test_there_is_a_response_for_each_place(shape: tuple[int, int, int], places: tuple[int, int]) -> None:
    x = torch.rand(2, *shape)
    found = responses(x)
    assert found.shape == (2, SCALES * (3 * DIRECTIONS + shape[0]), *places)
    assert torch.allclose(found[:1], responses(x[:1]), atol=1e-6)


def test_an_even_image_has_its_level_and_nothing_else_up_to_its_border() -> None:
    found = responses(torch.full((1, 1, 66, 70), 0.7)).unflatten(1, (SCALES, -1))
    assert torch.allclose(found[:, :, -1], torch.tensor(0.7))
    assert found[:, :, :-1].abs().max() < 1e-6


@pytest.mark.parametrize("sign", [1, -1], ids=["bright", "dark"])
@pytest.mark.parametrize("direction", range(DIRECTIONS))
def test_a_line_answers_in_its_own_direction_and_brightness(direction: int, sign: int) -> None:
    """Direction d is across a line at d * 45 degrees; a bright line is no dark one."""
    y, x = np.mgrid[:64, :64] - 31.5
    angle = np.pi * direction / DIRECTIONS
    across = x * np.cos(angle) + y * np.sin(angle)
    image = torch.from_numpy(1 + sign * 0.5 * np.exp(-(across**2) / 2)).float()[None, None]
    answers = responses(image)[0, DIRECTIONS : 3 * DIRECTIONS, 2:6, 2:6]
    bright, dark = answers.unflatten(0, (2, DIRECTIONS)).amax(dim=(2, 3))
    own, other = (bright, dark) if sign > 0 else (dark, bright)
    assert int(own.argmax()) == direction
    assert own[direction] > 1.2 * other[direction]


def test_statistics_are_those_of_the_training_images_however_many_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = FilterStatistics.fit(NOISE)
    answers = responses(NOISE).double()
    assert torch.allclose(found.mean.double(), answers.mean(dim=0), atol=1e-6)
    assert torch.allclose(found.variance.double(), answers.var(dim=0, correction=0), atol=1e-8)
    floor = FLOOR * found.variance.mean(dim=(1, 2), keepdim=True)
    squares = (answers - answers.mean(dim=0)) ** 2 / (found.variance + floor)
    usual = squares.sort(dim=1).values[:, -4:].mean(dim=1)
    assert torch.allclose(found.usual.double(), usual.mean(dim=0), rtol=1e-3)
    assert torch.allclose(
        found.deviation(NOISE).double(), usual / (usual.mean(dim=0) + FLOOR * usual.mean()), rtol=1e-2
    )
    monkeypatch.setattr("memae.image.filters.BATCH_BYTES", 3 * NOISE[0].numel() * 4)
    again = FilterStatistics.fit(NOISE)
    assert all(torch.allclose(value, again.tensors()[name], rtol=1e-4) for name, value in found.tensors().items())


@pytest.mark.parametrize("patch_px", [1, 3, 4, 8, 16])
def test_a_patch_counts_by_the_worse_of_its_error_and_the_deviation_at_its_middle(patch_px: int) -> None:
    statistics = FilterStatistics.fit(NOISE)
    error = torch.rand(-(-48 // patch_px), -(-72 // patch_px)) + 0.1
    x, rebuilt = NOISE[:2] * 1.2, Reconstruction(NOISE[:2], None)
    plain = MapSettings(0.0, "max", patch_px, error)(x, rebuilt)
    both = MapSettings(0.0, "max", patch_px, error, statistics)(x, rebuilt)
    deviation = statistics.deviation(x)
    for row, column in ((0, 0), (5, 7), (47, 71), (20, 40)):
        patch = row // patch_px, column // patch_px
        middle = (
            min((at * patch_px + patch_px // 2) // CELL_PX, most) for at, most in zip(patch, (5, 8), strict=True)
        )
        wanted = torch.maximum(plain.patches[:, *patch], deviation[:, *middle])
        assert torch.allclose(both.patches[:, *patch], wanted)
    assert torch.equal(both.errors, plain.errors)


def test_filters_find_scratches_on_cloth() -> None:
    generator = np.random.default_rng(0)
    draw = partial(normal_image, "cloth", 72, generator)
    normal = np.stack([draw() for _ in range(90)])
    scratched = np.stack([with_defect(draw(), ("scratch", 12), generator) for _ in range(30)])
    statistics = FilterStatistics.fit(_unit(normal[:60]))
    scores = [statistics.deviation(_unit(x)).amax(dim=(1, 2)).numpy() for x in (normal[60:], scratched)]
    assert ranking(np.repeat([False, True], 30), np.concatenate(scores))["auroc"] > 0.95


def test_a_scale_is_a_factor() -> None:
    statistics = FilterStatistics.fit(NOISE[:20])
    assert torch.allclose(statistics.scaled(3).deviation(NOISE), 3 * statistics.deviation(NOISE))


def _unit(images: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(images).float()[:, None]
    return x / x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


@pytest.fixture(scope="module")
def fitted() -> Detector:
    generator = np.random.default_rng(0)
    images = np.stack([normal_image("marble", 72, generator) for _ in range(40)]).clip(0, 255).astype(np.uint8)
    settings = {"train": {"epochs": 1}, "memory": {"warmup_epochs": 0, "num_items": 12}}
    return Detector(settings=settings).fit(images)


def test_larger_images_are_compared_by_filters_and_a_saved_model_too(fitted: Detector, tmp_path: Path) -> None:
    assert ImageConfig.of(fitted.config).filters is True
    fitted.save(tmp_path / "model")
    images = np.random.default_rng(1).integers(0, 255, (5, 72, 72), dtype=np.uint8)
    loaded = Detector.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score(images).values, fitted.score(images).values)
    (one,) = loaded.explain(images[:1])
    assert one.anomaly_map is not None
    assert one.score == pytest.approx(one.anomaly_map.max(), rel=1e-5)


def test_the_maxima_of_both_parts_are_alike_on_training_images(fitted: Detector) -> None:
    generator = np.random.default_rng(0)
    images = np.stack([normal_image("marble", 72, generator) for _ in range(40)]).clip(0, 255).astype(np.uint8)
    artifact = fitted._fitted
    x = artifact.preprocess.encode(Images(images[:, None], range(40), "images"))
    settings = map_settings(artifact)
    with torch.inference_mode():
        errors = settings.patches(settings.errors(x, artifact.model(x)))
    assert settings.filters is not None
    deviations = settings.filters.at_patches(x, settings.patch_px)
    ratio = map_maximum(errors.numpy()).mean() / map_maximum(deviations.numpy()).mean()
    assert 0.6 < ratio < 1.7


def test_statistics_of_another_shape_or_kind_are_refused(fitted: Detector) -> None:
    reference = modality_of("scene").load_reference
    tensors = fitted._fitted.reference.tensors()
    shape = fitted._fitted.preprocess.shape
    assert reference(tensors, fitted.config, shape).filters is not None
    with pytest.raises(KeyError):
        reference({name: t for name, t in tensors.items() if name != "filter_mean"}, fitted.config, shape)
    for name, bad in (("filter_mean", torch.zeros(3, 9, 9)), ("filter_variance", -tensors["filter_variance"] - 1)):
        with pytest.raises(ValueError, match=name):
            reference(tensors | {name: bad}, fitted.config, shape)


@pytest.mark.parametrize(
    ("settings", "shape", "filters"),
    [
        ({}, (1, 65, 64), True),
        ({}, (1, 64, 64), False),
        ({"tile_px": 128}, (1, 128, 128), False),
        ({"pool": "mean"}, (1, 128, 128), False),
        ({"relative": False}, (1, 128, 128), False),
        ({"filters": False}, (1, 128, 128), False),
    ],
)
def test_filters_are_for_the_worst_place_of_whole_images(
    settings: dict[str, object], shape: tuple[int, ...], filters: bool
) -> None:
    config = override(preset_config("image", "image"), {"image": settings}, "test")
    assert ImageConfig.of(modality_of("image").resolve(config, shape)).filters is filters


@pytest.mark.parametrize("other", [{"pool": "mean"}, {"relative": False}, {"tile_px": 64}])
def test_filters_without_what_they_go_with_are_an_error(other: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="filters"):
        Detector(settings={"image": {"filters": True, **other}})
