from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

import memae.engine.scoring
from memae.autoencoder import Autoencoder, Reconstruction
from memae.engine.batch_limit import BatchLimit
from memae.errors import DataError
from memae.image.arrays import Images
from memae.image.dataset import StoredImages
from memae.image.maps import anomaly_map, map_maximum, patch_means
from memae.image.preprocess import ImagePreprocess, levels_of
from memae.image.scoring import JoinedMap, MapSettings
from memae.image.tiles import Tiles
from memae.losses import squared_error
from memae.memory.memae import MemAE
from memae.modality import build, preset_config
from memae.table.networks import fully_connected
from memae.types import Scores
from tests.scorers import error_maps, sample_scores, scorer


@pytest.fixture
def halving() -> Autoencoder:
    """Rebuilds x as x / 2."""
    encoder = nn.Linear(4, 4, bias=False)
    nn.init.eye_(encoder.weight).data.mul_(0.5)
    return Autoencoder(encoder, None, nn.Identity())


@pytest.fixture
def net() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)),
        MemAE(10, 3, temperature=0.1),
        nn.Linear(3, 6),
    )


def test_a_score_is_the_mean_squared_error_over_the_sample(halving: Autoencoder) -> None:
    x = torch.tensor([[2.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-6.0, 0.0, 0.0, 0.0]])
    assert sample_scores(halving, x).tolist() == [(1 + 4) / 4, 0.0, 9 / 4]
    assert sample_scores(halving, x).dtype == np.float64


def test_the_error_map_is_that_of_training(halving: Autoencoder) -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    (part,) = error_maps(halving, x)
    assert torch.equal(part.errors, squared_error(x, x / 2))
    assert torch.equal(part.rebuilt.x, x / 2)
    assert part.read is None
    assert np.array_equal(part.scores, sample_scores(halving, x))


def test_small_batches_give_the_same_scores_in_order(net: Autoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(23, 6, generator=torch.Generator().manual_seed(0))
    whole = sample_scores(net, x)
    monkeypatch.setattr(memae.engine.scoring, "BATCH_BYTES", 5 * 6 * 4)
    parts = list(error_maps(net, x))
    assert [len(part.errors) for part in parts] == [5, 5, 5, 5, 3]
    assert all(part.read.weights.shape == (len(part.errors), 1, 10) for part in parts)
    assert sample_scores(net, x) == pytest.approx(whole, rel=1e-5)


def test_narrow_rows_do_not_take_more_memory_for_their_weights_than_is_meant(
    net: Autoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(23, 6, generator=torch.Generator().manual_seed(0))
    whole = sample_scores(net, x)
    monkeypatch.setattr(memae.engine.scoring, "WEIGHT_BYTES", 7 * 10 * 4)
    assert [part.read.weights.shape for part in error_maps(net, x)] == [(7, 1, 10)] * 3 + [(2, 1, 10)]
    assert sample_scores(net, x) == pytest.approx(whole, rel=1e-5)


def test_a_sample_scores_the_same_alone_and_in_a_batch(net: Autoencoder) -> None:
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    alone = np.concatenate([sample_scores(net, row[None]) for row in x])
    assert alone == pytest.approx(sample_scores(net, x), rel=1e-5)


def test_scoring_changes_nothing(net: Autoencoder) -> None:
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    first, second = sample_scores(net, x), sample_scores(net, x)
    assert np.array_equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(part.errors.requires_grad for part in error_maps(net, x))


def test_no_samples_have_no_scores(net: Autoencoder) -> None:
    assert sample_scores(net, torch.empty(0, 6)).shape == (0,)


def test_the_length_of_scores_is_their_number() -> None:
    assert len(Scores(np.zeros(3), ["a", "b", "c"])) == 3


@pytest.fixture
def blind() -> Autoencoder:
    """Rebuilds nothing: all of an image is left over."""

    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    return Autoencoder(nn.Sequential(nn.Conv2d(1, 1, 1)), None, Nothing())


def test_smoothing_is_a_gaussian_over_the_residual(blind: Autoencoder) -> None:
    x = torch.randn(3, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    (part,) = error_maps(blind, x, MapSettings(1.5))
    expected = gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), truncate=8, mode="constant") ** 2
    assert part.errors.numpy()[..., 8:-8, 8:-8] == pytest.approx(expected[:, 0, 8:-8, 8:-8], abs=1e-5)
    assert np.array_equal(part.scores, sample_scores(blind, x, MapSettings(1.5)))


def test_smoothing_keeps_what_is_everywhere_to_the_edges(blind: Autoencoder) -> None:
    x = torch.full((1, 1, 9, 12), 3.0)
    assert sample_scores(blind, x, MapSettings(2.0)) == pytest.approx(9.0, rel=1e-5)


def test_smoothing_forgives_a_stroke_beside_its_place_and_not_one_too_many(blind: Autoencoder) -> None:
    there, beside, more = torch.zeros(3, 1, 1, 28, 28)
    there[..., 13], beside[..., 14] = 1, 1
    more[..., 13] = more[..., 20] = 1
    moved, added = there - beside, there - more

    def ratio(smooth_px: float) -> Any:
        a, b = sample_scores(blind, torch.stack([moved[0], added[0]]), MapSettings(smooth_px))
        return a / b

    assert ratio(0.0) == pytest.approx(2.0)
    assert ratio(1.0) < 0.5


def joined_map(model: Any, tiles: Tiles, patch_px: int = 1) -> JoinedMap:
    return JoinedMap.of(scorer(model, tiles, MapSettings(patch_px=patch_px)), tiles, patch_px)


@pytest.mark.parametrize(("shape", "batches"), [((6,), 1), ((1, 2, 3), 2)])
def test_each_batch_is_scored_on_one_thread_and_the_setting_comes_back(
    shape: tuple[int, ...], batches: int
) -> None:
    seen: list[int] = []

    class Watched(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.number = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x: torch.Tensor) -> Reconstruction:
            seen.append(torch.get_num_threads())
            return Reconstruction(x * self.number, None)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert sample_scores(Watched(), torch.ones(4, *shape)).tolist() == [1, 1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1] * batches


@pytest.fixture
def threads() -> Iterator[Callable[..., Any]]:
    """Sets how many threads there are; afterwards they are as many as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("memory", [True, False])
def test_rows_score_the_same_and_in_order_by_any_number_of_threads(
    memory: bool, count: int, threads: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    items = MemAE(50, 3, temperature=0.1) if memory else None
    model = Autoencoder(fully_connected((6, 5, 3)), items, fully_connected((3, 5, 6))).eval()
    told: list[Any] = []
    x = torch.randn(5000, 6)
    wanted = np.concatenate([part.scores for part in error_maps(model, x)])
    monkeypatch.setattr(memae.engine.scoring, "BATCH_BYTES", 1000 * 6 * 4)
    threads(count)
    assert sample_scores(model, x, done=told.append) == pytest.approx(wanted, rel=1e-5)
    assert (sum(told), max(told)) == (5000, 1000 // count)


@pytest.mark.parametrize("size", [1, 2, 5, 23])
def test_images_score_the_same_and_in_order_by_any_number_of_threads(
    size: int, threads: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(23, 2, 12, 16, generator=torch.Generator().manual_seed(0))
    told: list[Any] = []
    wanted = map_maximum(x.square().mean(dim=1).numpy())
    monkeypatch.setattr(memae.engine.scoring, "BATCH_BYTES", size * 2 * 12 * 16 * 4)
    for count in (1, 2, 3):
        threads(count)
        found = sample_scores(Dark(), x, MapSettings(pool="max"), told.append)
        assert found == pytest.approx(wanted, rel=1e-6)
        assert torch.get_num_threads() == count
        assert (sum(told), max(told)) == (23, min(size, -(-23 // count)))
        told.clear()


def test_what_goes_wrong_in_a_thread_is_said_and_the_setting_comes_back(threads: Callable[..., Any]) -> None:
    class Spoilt(Dark):
        def forward(self, x: torch.Tensor) -> NoReturn:
            raise DataError("spoilt")

    threads(2)
    with pytest.raises(DataError, match="spoilt"):
        sample_scores(Spoilt(), torch.ones(9, 1, 8, 8))
    assert torch.get_num_threads() == 2


def test_threads_take_fewer_images_where_memory_runs_out(
    threads: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Narrow(Dark):
        def forward(self, x: torch.Tensor) -> Reconstruction:
            if len(x) > 3:
                raise MemoryError
            return super().forward(x)

    x = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    limit = BatchLimit("scoring")
    threads(2)
    found = sample_scores(Narrow(), x, limit=limit)
    assert found == pytest.approx(x.square().flatten(1).mean(dim=1).double().numpy(), rel=1e-6)
    assert limit.most in (2, 3)


class Dark(nn.Module):
    """Rebuilds every image as zeros, so that its errors are its squares."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Reconstruction:
        return Reconstruction(x * self.weight, None)


def test_the_maximum_of_the_map_is_the_score_where_that_is_asked_for() -> None:
    x = torch.randn(3, 2, 64, 96, generator=torch.Generator().manual_seed(0))
    x[1, :, 20:30, 40:50] *= 3
    maps = x.square().mean(dim=1).numpy()
    wanted = [gaussian_filter(errors, 96 / 64).max() for errors in maps]
    found = sample_scores(Dark(), x, MapSettings(pool="max"))
    assert found == pytest.approx(wanted, rel=1e-5)
    assert found.argmax() == 1
    assert found.dtype == np.float64
    assert sample_scores(Dark(), x, MapSettings(pool="mean")).tolist() == sample_scores(Dark(), x).tolist()


def test_the_greatest_place_finds_a_small_defect_that_the_mean_drowns() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 1, 96, 96, generator=generator) * torch.linspace(0.9, 1.1, 40)[:, None, None, None]
    x[:20, :, 40:46, 40:46] += 4
    defect = np.arange(40) < 20
    by_place, by_mean = (sample_scores(Dark(), x, MapSettings(pool=pool)) for pool in ("max", "mean"))
    assert by_place[defect].min() > by_place[~defect].max()
    assert np.median(by_mean[defect]) < np.median(by_mean[~defect])


@pytest.mark.parametrize(("height", "width"), [(100, 70), (40, 30), (48, 48)])
def test_maps_of_tiles_join_to_the_map_of_the_whole(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    preprocess = ImagePreprocess.fit_tiles(levels_of(pixels, "")[None], 3, 48, 12, "none", "", deep=False)
    joined = joined_map(Dark(), Tiles.of(pixels, preprocess, ""))
    wanted = np.square(pixels / 255).mean(axis=0)
    assert joined.errors.shape == (height, width)
    assert np.allclose(joined.errors, wanted, rtol=1e-4)
    assert joined.score(None) == joined.score("mean") == pytest.approx(wanted.mean(), rel=1e-5)
    assert joined.score("max") == pytest.approx(gaussian_filter(wanted, 48 / 64).max(), rel=1e-4)
    squares = joined_map(Dark(), Tiles.of(pixels, preprocess, ""), 4)
    assert np.array_equal(squares.errors, joined.errors)
    means = patch_means(wanted, 4)
    assert squares.anomaly_map == pytest.approx(gaussian_filter(means, 12 / 64), rel=1e-3)
    assert squares.score("max") == squares.anomaly_map.max()
    row, column = squares.maximum_px
    assert squares.anomaly_map[row // 4, column // 4] == squares.anomaly_map.max()


def test_tiles_are_scored_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Watched(Dark):
        def forward(self, x: torch.Tensor) -> Reconstruction:
            seen.append(len(x))
            return super().forward(x)

    pixels = np.random.default_rng(0).integers(0, 256, (1, 200, 200), dtype=np.uint8)
    preprocess = ImagePreprocess.fit_tiles(levels_of(pixels, "")[None], 1, 32, 8, "unit", "", deep=False)
    tiles = Tiles.of(pixels, preprocess, "")
    whole = joined_map(Watched(), tiles).errors
    assert seen == [64]
    monkeypatch.setattr(memae.engine.scoring, "BATCH_BYTES", 7 * 32 * 32 * 4)
    assert np.allclose(joined_map(Watched(), tiles).errors, whole)
    assert max(seen[1:]) == 7


def test_errors_are_multiples_of_the_usual_one_and_of_a_tenth_of_its_mean_where_there_is_none() -> None:
    usual = torch.tensor([[0.0, 1.0], [3.0, 4.0]])  # 2 on average
    x = torch.stack([torch.full((2, 2, 2), 2.0), torch.zeros(2, 2, 2)])
    (part,) = error_maps(Dark(), x, MapSettings(training_error=usual))
    wanted = 4 / (usual + 0.2)
    assert part.maps[0] == pytest.approx(wanted.numpy(), rel=1e-6)
    assert part.scores == pytest.approx([float(wanted.mean()), 0], rel=1e-6)
    nothing = sample_scores(Dark(), x, MapSettings(training_error=torch.zeros(2, 2)))
    assert np.isfinite(nothing).all()


def test_the_squares_of_a_map_are_means_over_the_pixels_that_there_are() -> None:
    errors = torch.rand(3, 10, 13, generator=torch.Generator().manual_seed(0))
    squares = MapSettings(patch_px=4).patches(errors)
    assert squares.shape == (3, 3, 4)
    assert squares[:, 1, 2] == pytest.approx(errors[:, 4:8, 8:12].mean(dim=(1, 2)))
    assert squares[:, 2, 3] == pytest.approx(errors[:, 8:, 12:].mean(dim=(1, 2)))
    assert MapSettings().patches(errors) is errors
    assert patch_means(errors[0].numpy(), 4) == pytest.approx(squares[0].numpy())


def test_the_greatest_patch_is_the_score_of_a_map_of_patches() -> None:
    x = torch.randn(3, 2, 96, 130, generator=torch.Generator().manual_seed(0))
    measure = MapSettings(pool="max", patch_px=4)
    (part,) = error_maps(Dark(), x, measure)
    assert part.maps.shape == (3, 96, 130)
    means = part.maps[:, :, :128].reshape(3, 24, 4, 32, 4).mean(axis=(2, 4))
    means = np.concatenate([means, part.maps[:, :, 128:].reshape(3, 24, 4, 1, 2).mean(axis=(2, 4))], axis=2)
    wanted = [gaussian_filter(squares, 33 / 64).max() for squares in means]
    assert part.scores == pytest.approx(wanted, rel=1e-5)
    assert np.array_equal(sample_scores(Dark(), x, measure), part.scores)
    assert sample_scores(Dark(), x, MapSettings(patch_px=4)).tolist() == sample_scores(Dark(), x).tolist()


def test_what_is_usual_in_a_square_is_so_at_each_of_its_pixels() -> None:
    usual = torch.tensor([[1.0, 2.0], [3.0, 6.0]])  # 3 on average
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    (plain,) = error_maps(Dark(), x, MapSettings(patch_px=4))
    (part,) = error_maps(Dark(), x, MapSettings(patch_px=4, training_error=usual))
    assert part.maps[:, 5, 6] == pytest.approx(plain.maps[:, 5, 6] / 6.3, rel=1e-5)
    assert part.patches.numpy() == pytest.approx((plain.patches / (usual + 0.3)).numpy(), rel=1e-5)


def test_a_network_that_folds_scores_the_same_alone_and_with_its_maps() -> None:
    torch.manual_seed(0)
    model = build(preset_config("image", "image"), (3, 70, 101)).eval()
    x = torch.randn(5, 3, 70, 101)
    usual = torch.rand(18, 26) + 0.5
    for measure in (
        MapSettings(0.0, "max", 4, usual),
        MapSettings(1.0, "max", 4, usual),
        MapSettings(0.0, "max", 2),
    ):
        (part,) = error_maps(model, x, measure)
        assert part.maps.shape == (5, 70, 101)
        assert part.scores.tolist() == sample_scores(model, x, measure).tolist()
        assert part.scores == pytest.approx(map_maximum(measure.patches(part.errors).numpy()), rel=1e-4)


@pytest.mark.parametrize(("dtype", "width"), [(np.uint8, 72), (np.uint8, 70), (np.uint16, 72)])
@pytest.mark.parametrize("scale", ["unit", "centred", "none", "shared"])
def test_stored_images_score_as_encoded_ones(
    dtype: type[np.unsignedinteger], width: int, scale: Any, threads: Callable[..., Any]
) -> None:
    threads(1)
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (7, 68, width, 3)).astype(dtype)
    images = Images(pixels.transpose(0, 3, 1, 2), list(range(7)), "made up")  # as they are decoded
    preprocess = ImagePreprocess.fit(images, scale)
    model, measure = build(preset_config("image", "image"), preprocess.shape).eval(), MapSettings(0.0, "max", 4)
    stored = StoredImages(images, None, preprocess)
    wanted = sample_scores(model, preprocess.encode(images), measure)
    assert sample_scores(model, stored, measure).tolist() == wanted.tolist()
    some = StoredImages(images, torch.tensor([5, 2]), preprocess)
    assert sample_scores(model, some, measure).tolist() == wanted[[5, 2]].tolist()


@pytest.mark.parametrize("seen", [None, 128])
@pytest.mark.parametrize("shape", [(3, 65, 256), (2, 7, 5), (1, 1), (64, 33), (1100, 30)])
def test_heat_is_the_gaussian_of_scipy_at_any_size(shape: tuple[int, ...], seen: int | None) -> None:
    errors = np.random.default_rng(0).random(shape).astype(np.float32)
    sigma = (seen or max(shape[-2:])) / 64
    wanted = gaussian_filter(errors, (0,) * (len(shape) - 2) + (sigma, sigma))
    assert anomaly_map(errors, seen) == pytest.approx(wanted, abs=2e-6)
