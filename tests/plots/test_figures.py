from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memae.errors import DataError
from memae.memory.shown import MemoryItems
from memae.plots.figures import MAX_ITEMS, draw_cells, draw_items, draw_reconstructions, explanation_figure
from memae.types import Cell, Explanation


def pixels(path: Path) -> np.ndarray:
    """(H, W, 3) of a PNG file."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def image_sample(x: np.ndarray, rebuilt: np.ndarray, score: float = 1.0) -> Explanation:
    error = ((x - rebuilt) ** 2).mean(axis=0)
    return Explanation("key", score, 0.5, (), (), x, rebuilt, error)


def row_sample(errors: list[float], seen: str | None = None) -> Explanation:
    cells = tuple(Cell(f"column {i}", seen or 1.5, 2.5, error) for i, error in enumerate(errors))
    return Explanation("key", sum(errors), 0.5, (), cells, None, None, None)


def colour(picture: np.ndarray, wanted: tuple[int, int, int], tolerance: int = 25) -> int:
    """How many pixels have about this colour."""
    return int((np.abs(picture - np.array(wanted)).max(axis=2) <= tolerance).sum())


RED, GREEN = np.zeros((3, 8, 8), np.float32), np.zeros((3, 8, 8), np.float32)
RED[0], GREEN[1] = 1.0, 1.0
BLACK = np.zeros((1, 8, 8), np.float32)
SPOT = BLACK.copy()
SPOT[0, :4, :4] = 1.0


def test_input_and_reconstruction_stand_side_by_side_in_their_colours(tmp_path: Path) -> None:
    draw_reconstructions([image_sample(RED, GREEN)], ["a sample"], tmp_path / "a.png")
    found = pixels(tmp_path / "a.png")
    left, right = found[:, : found.shape[1] // 2], found[:, found.shape[1] // 2 :]
    assert colour(left, (255, 0, 0)) > 5_000
    assert colour(right, (255, 0, 0)) < 100
    assert colour(found, (0, 255, 0)) > 5_000
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_error_map_is_bright_where_they_differ_and_comparable_between_samples(tmp_path: Path) -> None:
    faint = BLACK + 0.3 * SPOT
    draw_reconstructions([image_sample(SPOT, BLACK), image_sample(faint, BLACK)], ["a", "b"], tmp_path / "a.png")
    found = pixels(tmp_path / "a.png")
    bright = (252, 255, 164)  # the upper end of the map
    rows = np.flatnonzero((np.abs(found - bright).max(axis=2) <= 10).sum(axis=1) > 40)  # not the colour bar alone
    assert len(rows) > 50
    assert rows.max() < found.shape[0] / 2  # the faint sample below has no bright spot, though it is its own worst


def test_each_sample_has_its_row_and_caption(tmp_path: Path) -> None:
    samples = [image_sample(SPOT, BLACK)] * 4
    draw_reconstructions(samples[:1], ["one"], tmp_path / "one.png")
    draw_reconstructions(samples, ["one", "two\nlines", "$x$ is no formula_", "four"], tmp_path / "four.png")
    one, four = pixels(tmp_path / "one.png"), pixels(tmp_path / "four.png")
    assert one.shape[1] == four.shape[1]
    assert four.shape[0] > 2.5 * one.shape[0]
    with pytest.raises(ValueError, match="zip"):
        draw_reconstructions(samples, ["too few"], tmp_path / "bad.png")
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "four.png"}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 40), (3, 40, 5), (4, 8, 8)])
def test_any_shape_of_image_can_be_drawn(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    x = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    draw_reconstructions([image_sample(x, -x)], ["a"], tmp_path / "a.png")
    assert len(np.unique(pixels(tmp_path / "a.png"))) > 10


def test_a_perfect_reconstruction_of_a_blank_image_can_be_drawn(tmp_path: Path) -> None:
    draw_reconstructions([image_sample(BLACK, BLACK)], ["a"], tmp_path / "a.png")
    assert min(pixels(tmp_path / "a.png").shape[:2]) > 100


def items(uses: Sequence[int] | list[int], pictures: np.ndarray) -> MemoryItems:
    return MemoryItems(np.array(uses), [], pictures, None)


def test_the_most_used_item_comes_first(tmp_path: Path) -> None:
    pictures = np.concatenate([np.tile(RED, (1, 1, 1, 1)), np.tile(GREEN, (1, 1, 1, 1))])
    draw_items(items([1, 3], pictures), tmp_path / "a.png")
    found = pixels(tmp_path / "a.png")
    half = found.shape[1] // 2
    assert colour(found[:, :half], (0, 255, 0)) > 500
    assert colour(found[:, :half], (255, 0, 0)) < 50
    assert colour(found[:, half:], (255, 0, 0)) > 500


@pytest.mark.parametrize("count", [1, 10, 11, MAX_ITEMS + 50])
def test_items_stand_ten_to_a_row_and_at_most_a_hundred(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    draw_items(items(range(count), rng.random((count, 1, 4, 4), dtype=np.float32)), tmp_path / "a.png")
    height, width, _ = pixels(tmp_path / "a.png").shape
    shown = min(count, MAX_ITEMS)
    assert width == pytest.approx(min(10, shown) * 0.95 * 130, abs=2)
    assert height == pytest.approx((-(-shown // 10) * 1.1 + 0.5) * 130, abs=2)


def test_items_that_are_all_dead_or_all_the_same_can_be_drawn(tmp_path: Path) -> None:
    draw_items(items([0, 0], np.ones((2, 1, 4, 4), np.float32)), tmp_path / "a.png")
    assert len(np.unique(pixels(tmp_path / "a.png"))) > 10


def test_the_bars_of_a_row_are_as_long_as_its_columns_are_wrong(tmp_path: Path) -> None:
    draw_cells([row_sample([0.6, 0.3, 0.1])], ["a row"], tmp_path / "a.png", columns=3)
    bars = np.abs(pixels(tmp_path / "a.png") - np.array((0xC4, 0x50, 0x2E))).max(axis=2) < 10
    lengths = bars.sum(axis=1)
    assert np.count_nonzero(lengths == lengths.max()) > 10
    places = []
    for share in (0.6, 0.3, 0.1):
        wanted = lengths.max() * share / 0.6
        rows = np.flatnonzero(np.abs(lengths - wanted) <= 2)
        assert len(rows) > 10
        places.append(rows.mean())
    assert places == sorted(places)  # the worst column on top


def test_only_the_worst_columns_of_a_wide_row_are_drawn(tmp_path: Path) -> None:
    draw_cells([row_sample([0.1] * 5)], ["a row"], tmp_path / "few.png", columns=4)
    draw_cells([row_sample([0.1] * 500)], ["a row"], tmp_path / "many.png", columns=4)
    assert pixels(tmp_path / "few.png").shape == pixels(tmp_path / "many.png").shape


def test_each_row_has_its_panel(tmp_path: Path) -> None:
    draw_cells([row_sample([0.5, 0.5])], ["a"], tmp_path / "one.png")
    draw_cells([row_sample([0.5, 0.5], "text"), row_sample([0.0, 0.0])] * 2, [*"abcd"], tmp_path / "four.png")
    assert pixels(tmp_path / "four.png").shape[0] == pytest.approx(
        4 * pixels(tmp_path / "one.png").shape[0], abs=4
    )


def test_names_of_columns_are_text_and_not_formulas(tmp_path: Path) -> None:
    cells = (Cell("cost [$]", "$", "a_b^c", 1.0), Cell("_$\\frac$", 1.0, 2.0, 0.5))
    draw_cells([Explanation("key", 1.5, 0.5, (), cells, None, None, None)], ["$1 or $2"], tmp_path / "a.png")
    assert min(pixels(tmp_path / "a.png").shape[:2]) > 100


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("old")
    with pytest.raises((TypeError, ValueError)):
        draw_items(items([1], np.full((1, 2, 3, 4, 5), 1.0)), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_explanation_is_a_figure_of_what_it_holds() -> None:
    found = image_sample(SPOT, BLACK)
    titles = [axis.get_title() for axis in explanation_figure(found).axes]
    assert [title for title in titles if title] == ["input", "reconstruction", "squared error"]
    features = replace(found, reconstruction=None, anomaly_map=SPOT[0], key="a$b_$.png")
    figure = explanation_figure(features)
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == [
        "input",
        "squared error",
        "anomaly map",
    ]
    assert figure.get_suptitle() == "a$b_$.png: score 1"
    figure.canvas.draw()
    (axis,) = explanation_figure(row_sample([1.0, 3.0])).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["column 1", "column 0"]
    with pytest.raises(DataError, match="key: the explanation holds no columns and no pictures"):
        explanation_figure(Explanation("key", 1.0, 0.5))
