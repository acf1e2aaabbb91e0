"""Images at their own size, seen tile by tile, from the folder to maps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from PIL import Image

from memae import Detector
from memae.artifact import load_artifact
from memae.errors import ConfigError, DataError, MemaeError
from memae.report.writers import Writers

BRIEF = {
    "train": {"epochs": 6, "batch_size": 8},
    "memory": {"num_items": 8, "warmup_epochs": 1},
    "image": {"tile_px": 32},
}
SPOT = (slice(50, 62), slice(70, 82))


def cloth(generator: Generator, height: int, width: int) -> np.ndarray:
    x = np.arange(width)
    return (128 + 50 * np.sin(x / 5 + generator.uniform(0, 6)) + generator.normal(0, 5, (height, width))).clip(
        0, 255
    )


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of MVTec AD, with images of many sizes; the bad ones have a spot."""
    folder, generator = tmp_path_factory.mktemp("tiles"), np.random.default_rng(0)
    for place in range(20):
        save(cloth(generator, *generator.integers(40, 90, 2)), folder / f"train/good/{place:02}.png")
    for place in range(4):
        save(cloth(generator, 75, 95), folder / f"test/good/{place}.png")
        spoilt, mask = cloth(generator, 75, 95), np.zeros((75, 95))
        spoilt[SPOT], mask[SPOT] = 10, 255
        save(spoilt, folder / f"test/spot/{place}.png")
        save(mask, folder / f"ground_truth/spot/{place}_mask.png")
    return folder


@pytest.fixture(scope="module")
def detector(root: Path) -> Detector:
    return Detector(settings=BRIEF, device="cpu").fit(root)


def test_errors_are_multiples_of_what_is_usual_at_that_place_of_a_tile(detector: Detector, root: Path) -> None:
    detector.save(root.parent / "tiles.model")
    artifact = load_artifact(root.parent / "tiles.model")
    config: Any = artifact.config
    assert config.image.relative is True
    assert artifact.reference.training_error.shape == (8, 8)
    found = detector.explain(root / "test/good")
    assert np.mean([one.anomaly_map.mean() for one in found]) == pytest.approx(1, abs=0.4)


def test_one_score_an_image_by_its_path(detector: Detector, root: Path) -> None:
    scores = detector.score(root)
    assert scores.keys == [f"{kind}/{place}.png" for kind in ("good", "spot") for place in range(4)]
    assert scores.values[4:].min() > scores.values[:4].max()
    verdicts = detector.detect(root)
    assert verdicts.scores.tolist() == scores.values.tolist()
    assert verdicts.is_anomaly[4:].all()


def test_the_worst_place_is_the_score_and_the_threshold_is_that_of_the_maps(detector: Detector) -> None:
    config: Any = detector.config
    assert config.image.pool == "max"
    assert detector.map_threshold == detector.threshold.value
    assert detector.preprocess.shape == (1, 32, 32)
    assert detector.facts["samples"] == {"training": 14, "held_out": 2, "calibration": 4}


def test_a_tile_is_a_place_and_no_thing(detector: Detector) -> None:
    assert detector.model.query == "position"


def test_an_explanation_is_the_worst_tile_and_the_whole_map(detector: Detector, root: Path) -> None:
    (found,) = detector.explain(root, ["spot/2.png"])
    assert found.x.shape == found.reconstruction.shape == (1, 32, 32)
    assert found.error_map.shape == (32, 32)
    assert found.tile_at is not None
    row, column = found.tile_at
    assert row <= 50 and row + 32 >= 62 and column <= 70 and column + 32 >= 82, "the tile has the spot"
    assert found.anomaly_map.shape == (19, 24)  # patches of 4 px, the last ones cut off
    assert found.score == found.anomaly_map.max() == detector.score(root).values[6]
    hot = 4 * np.argwhere(found.anomaly_map > 0.5 * found.anomaly_map.max())
    assert (hot.min(axis=0) >= (44, 64)).all() and (hot.max(axis=0) <= (66, 86)).all()
    assert sum(use.weight for use in found.items) == pytest.approx(1)


def test_maps_have_the_size_of_their_images(detector: Detector, root: Path, tmp_path: Path) -> None:
    writers = Writers(
        detector, source := detector.open(root), None, {"overlay": tmp_path / "maps"}, only_anomalies=False
    )
    with writers:
        assert sum(map(len, writers.passed_on(detector.stream(source, explained=writers.explained)))) == 8
    assert writers.drawn == 8
    drawn = np.asarray(Image.open(tmp_path / "maps/spot/1.png.png")).astype(int)
    picture = np.asarray(Image.open(root / "test/spot/1.png")).astype(int)[..., None]
    assert drawn.shape == (75, 95, 3)
    changed = np.abs(drawn - picture).max(axis=2) > 20
    assert changed[SPOT].mean() > 0.5


def test_a_saved_model_scores_the_same(detector: Detector, root: Path, tmp_path: Path) -> None:
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", device="cpu")
    assert loaded.score(root).values.tolist() == detector.score(root).values.tolist()
    stored: Any = load_artifact(tmp_path / "model").config
    assert (stored.image.tile_px, stored.image.pool) == (32, "max")


def test_the_same_seed_gives_the_same_model_and_a_cap_is_drawn_by_it(root: Path) -> None:
    few = {**BRIEF, "image": {"tile_px": 32, "tiles_per_image": 2}}
    values = [Detector(settings=few, seed=seed, device="cpu").fit(root).score(root).values for seed in (0, 0, 1)]
    assert values[0].tolist() == values[1].tolist()
    assert values[0].tolist() != values[2].tolist()


def test_arrays_are_cut_too(detector: Detector) -> None:
    pixels = np.stack([cloth(np.random.default_rng(seed), 40, 50) for seed in range(12)]).astype(np.uint8)
    found = Detector(settings=BRIEF, device="cpu").fit(pixels)
    assert found.score(pixels[:3, :20]).values.shape == (3,)
    with pytest.raises(DataError, match="image 0: an image of 3 channels, but the model was trained on 1"):
        found.score(np.zeros((2, 3, 40, 50), np.uint8))
    with pytest.raises(DataError, match="holds no samples"):
        found.score(np.zeros((0, 40, 50), np.uint8))


def test_bad_files_keep_their_place_where_they_may_be_skipped(
    detector: Detector, root: Path, tmp_path: Path
) -> None:
    save(np.full((40, 40), 99), tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    save(np.full((20, 60), 99), tmp_path / "c.png")
    with pytest.raises(DataError, match=r"b\.png: not a readable image"):
        detector.score(tmp_path)
    verdicts = detector.detect(tmp_path, skip_bad=True)
    assert np.isnan(verdicts.scores).tolist() == [False, True, False]
    assert [bad.key for bad in verdicts.skipped] == ["b.png"]
    assert not verdicts.is_anomaly[1]
    assert [found.key for found in detector.explain(tmp_path, skip_bad=True)] == ["a.png", "c.png"]


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ({"tile_px": 8}, ConfigError, "image.tile_px = 8: should be greater than or equal to 16"),
        (
            {"tile_px": 200},
            DataError,
            "image.tile_px = 200: no image is as large as a tile; .* take smaller tiles",
        ),
        (
            {"tile_px": 32, "tile_overlap_px": 32},
            ConfigError,
            "tile_overlap_px = 32 leaves nothing new for the next tile",
        ),
        ({"tile_overlap_px": 8}, ConfigError, "are for tiles; set tile_px, or leave them out"),
        (
            {"tile_px": 32, "size_px": 64},
            ConfigError,
            "size_px resizes images, .* leave one of size_px and tile_px out",
        ),
    ],
)
def test_tiles_that_cannot_be_are_refused(
    root: Path, image: dict[str, int], error: type[MemaeError], message: str
) -> None:
    with pytest.raises(error, match=f"(?i){message}"):
        Detector(settings={**BRIEF, "image": image}, device="cpu").fit(root)


def test_tiles_of_a_table_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"section \[image\] is for images, and network 'wide' is for tables"):
        Detector(settings=BRIEF).fit(np.zeros((50, 4)))


@pytest.mark.parametrize("tile", [17, 30, 45])
def test_any_side_of_a_tile_fits_the_network(root: Path, tile: int) -> None:
    settings = {**BRIEF, "train": {"epochs": 1}, "image": {"tile_px": tile, "tiles_per_image": 2}}
    assert np.isfinite(Detector(settings=settings, device="cpu").fit(root).score(root).values).all()


def test_the_command_line_cuts_scores_draws_and_judges(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from memae.cli import app

    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    words = ["--set", "train.epochs=6", "--set", "train.batch_size=8", "--set", "memory.num_items=8"]
    done = runner.invoke(app, ["fit", str(root), "--tile", "32", "--out", "model", "--device", "cpu", *words])
    assert done.exit_code == 0, done.output
    said = capfd.readouterr().err
    assert (done.output + said).count("has the layout of MVTec AD") == 1
    done = runner.invoke(app, ["evaluate", "model", str(root), "--json"])
    figures = json.loads(done.stdout)
    assert figures["auroc"]["value"] == 1
    assert figures["pixels"]["pixel_auroc"]["value"] > 0.95
    assert figures["pixels"]["images"] == 8
