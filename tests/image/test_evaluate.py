from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from memae.errors import ConfigError, DataError
from memae.image.evaluate import ImageEvaluation, ImageMeter, PixelEvaluation, PixelMeter, read_masks
from memae.image.source import ImageSource
from memae.metrics import SampleMeter


def measured(maps: list[np.ndarray], masks: list[np.ndarray], **options: Any) -> PixelEvaluation:
    meter = PixelMeter()
    for errors, mask in zip(maps, masks, strict=True):
        meter.add(np.asarray(errors, np.float32), np.asarray(mask, bool))
    return meter.result(**options)


def literal_aupro(maps: list[np.ndarray], masks: list[np.ndarray], most: float = 0.3) -> float:
    """By the definition: every threshold, every region, no histogram."""
    regions = []
    for place, mask in enumerate(masks):
        numbered, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(place, numbered == number) for number in range(1, count + 1)]
    normal = np.concatenate([np.asarray(m)[~np.asarray(k)] for m, k in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([np.ravel(m) for m in maps]))[::-1]:
        share = np.mean([(maps[place][region] >= threshold).mean() for place, region in regions])
        points.append((float((normal >= threshold).mean()), float(share)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= most:
            break
        if x1 > most:
            y1 = y0 + (y1 - y0) * (most - x0) / (x1 - x0)  # noqa: PLW2901
            x1 = most  # noqa: PLW2901
        area += (x1 - x0) * (y0 + y1) / 2
    return area / most


def test_a_case_by_hand() -> None:
    # ten normal pixels; a region of two pixels found at once and, at a third false pixel, one of one pixel
    errors = np.array([[9, 9, 8, 7, 6, 1, 5, 1, 1, 1, 1, 1, 1]])
    mask = np.array([[1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]])
    # false share: 0 (9), .1 (8), .2 (7), .3 (6); the mean overlap is 1/2 all the way, and 1 only from 5 on, at .3
    found = measured([errors], [mask])
    assert found.regions == 2
    assert found.aupro.value == pytest.approx(0.5)
    # of 3 anomalous pixels two beat all 10, and one beats 7 of them
    assert found.pixel_auroc.value == pytest.approx((10 + 10 + 7) / 30)


def test_half_way_to_the_limit_is_cut_between_two_points() -> None:
    # one step from (0, 0) to a false share of .6 with all of the region: at .3 it is half way up
    errors = np.array([[5, 5, 5, 5, 1, 1]])
    mask = np.array([[1, 0, 0, 0, 0, 0]])
    assert measured([errors], [mask]).aupro.value == pytest.approx(0.25)


def test_perfect_maps_are_1_and_blind_ones_half_of_the_limit() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:14] = True
    assert measured([mask * 3.0], [mask]).aupro.value == pytest.approx(1)
    blind = measured([np.ones((20, 30))], [mask])
    assert blind.aupro.value == pytest.approx(0.15)
    assert blind.pixel_auroc.value == pytest.approx(0.5)


def test_pixels_that_touch_by_a_corner_are_one_region() -> None:
    assert measured([np.eye(4)], [np.eye(4)]).regions == 1


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_definition_says(seed: int) -> None:
    generator = np.random.default_rng(seed)
    masks = [ndimage.gaussian_filter(generator.normal(size=(24, 30)), 2) > 0.15 for _ in range(5)]
    masks.append(np.zeros((24, 30), bool))
    # whole numbers of at most 8 bits fall into bins of their own
    maps = [np.round(60 * generator.random((24, 30)) + 40 * mask) + 1 for mask in masks]
    found = measured(maps, masks)
    assert found.aupro.value == pytest.approx(literal_aupro(maps, masks), abs=1e-12)
    flat = [np.concatenate([np.ravel(each) for each in some]) for some in (masks, maps)]
    assert found.pixel_auroc.value == pytest.approx(roc_auc_score(*flat), abs=1e-12)
    assert found.aupro.low < found.aupro.value < found.aupro.high
    assert found.aupro == measured(maps, masks).aupro  # the bootstrap has a seed


def test_each_region_counts_the_same_whatever_its_size() -> None:
    mask = np.zeros((40, 40), bool)
    mask[:20] = True
    mask[30, 30] = True
    found = measured([mask & (np.arange(40) < 40)[:, None] & (np.indices((40, 40))[0] < 20)], [mask])
    assert found.pixel_auroc.value > 0.99  # all but one pixel
    assert 0.5 < found.aupro.value < 0.6  # one region of two


def test_maps_are_brought_to_the_size_of_the_mask() -> None:
    mask = np.zeros((40, 60), bool)
    mask[:20, :30] = True
    found = measured([np.array([[1.0, 0.0], [0.0, 0.0]])], [mask])
    assert found.pixel_auroc.value > 0.95


@pytest.mark.parametrize("marked", [False, True])
def test_masks_of_one_kind_are_refused(marked: bool) -> None:
    with pytest.raises(DataError, match="the masks mark no pixel, or every one"):
        measured([np.ones((4, 4))], [np.full((4, 4), marked)])


class TestMasks:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Callable[..., Path]:
        def write(*names: str, size: tuple[int, int] = (8, 6), value: int = 255) -> Path:
            for name in names:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", size, value).save(tmp_path / name)
            return tmp_path

        return write

    KEYS = ("crack/1.jpg", "crack/2.jpg", "good/1.jpg")
    ANOMALOUS = np.array([True, True, False])

    @pytest.mark.parametrize("names", [("crack/1_mask.png", "crack/2_mask.bmp"), ("crack/1.png", "crack/2.tif")])
    def test_they_are_found_by_both_names_in_any_format(
        self, folder: Callable[..., Path], names: tuple[str, str], tmp_path: Path
    ) -> None:
        masks = read_masks(folder(*names), self.KEYS, self.ANOMALOUS)
        assert masks.read("crack/2.jpg", (6, 8)).all()
        assert not masks.read("good/1.jpg", (6, 8)).any()
        assert masks.labels(self.KEYS, tmp_path).anomalous.tolist() == [True, True, False]

    @pytest.mark.parametrize("value", [1, 255])
    def test_anything_but_black_is_marked(self, folder: Callable[..., Path], value: int) -> None:
        assert read_masks(folder("a.png", value=value), ["a.jpg"]).read("a.jpg", (6, 8)).all()

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (("crack/1.png",), r"holds no mask of crack/2\.jpg; add crack/2_mask\.png"),
            (("crack/1.png", "crack/2.png", "crack/3.png"), r"crack/3\.png: is a mask of no image; name it"),
            (("crack/1.png", "crack/1_mask.png", "crack/2.png"), r"crack/1\.jpg has the mask .* too; leave one"),
            ((), "holds no .png"),
        ],
    )
    def test_missing_extra_and_double_ones_are_refused(
        self, folder: Callable[..., Path], names: tuple[str, ...], message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            read_masks(folder(*names), self.KEYS, self.ANOMALOUS)

    def test_a_name_for_two_images_is_refused(self, folder: Callable[..., Path]) -> None:
        with pytest.raises(DataError, match=r"could be the mask of a\.jpg and of a\.png; rename one"):
            read_masks(folder("a.png"), ["a.jpg", "a.png"])

    def test_another_size_is_refused(self, folder: Callable[..., Path]) -> None:
        masks = read_masks(folder("a.png"), ["a.jpg"])
        with pytest.raises(DataError, match=r"a\.png: the mask has 8 x 6 px, and its image a\.jpg 9 x 6"):
            masks.read("a.jpg", (6, 9))

    def test_a_broken_one_is_refused(self, folder: Callable[..., Path]) -> None:
        root = folder("a.png")
        (root / "a.png").write_bytes(b"")
        with pytest.raises(DataError, match=r"a\.png: not a readable mask \(the file is empty\)"):
            read_masks(root, ["a.jpg"]).read("a.jpg", (6, 8))


class TestMeter:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """Four images in the layout of MVTec AD; the two in test/crack have a mask of their left half."""
        generator = np.random.default_rng(0)
        for name in ("train/good/1", "test/good/1", "test/good/2", "test/crack/1", "test/crack/2"):
            file = tmp_path / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(256, size=(6, 8)).astype(np.uint8)).save(file)
        (tmp_path / "ground_truth/crack").mkdir(parents=True)
        left = np.zeros((6, 8), np.uint8)
        left[:, :4] = 255
        for number in "12":
            Image.fromarray(left).save(tmp_path / f"ground_truth/crack/{number}_mask.png")
        return tmp_path

    def test_folders_and_masks_of_mvtec_are_found(self, root: Path) -> None:
        source = ImageSource([root / "test"])  # crack/1, crack/2, good/1, good/2
        scores = np.array([9.0, 1.0, 8.0, 2.0])

        def recall(**options: Any) -> tuple[bool, float]:
            meter = ImageMeter.of(source, **options)
            meter.add(source.keys, scores, scores > 8.5, maps=[(key, np.ones((1, 2))) for key in source.keys])
            found = meter.result(wanted_false_alarm_rate=0.1)
            assert found.anomalies == 2
            return meter.takes_maps, found.recall.value

        assert recall(root=root) == (True, 0.5)
        assert recall(labels=root / "ground_truth") == (True, 0.5)
        assert recall(label_column="folder", normal=["crack"]) == (False, 0)

    def test_images_without_a_word_on_their_labels_are_refused(self, root: Path) -> None:
        source = ImageSource([root / "test"])
        with pytest.raises(ConfigError, match="say which labels: `label_column"):
            ImageMeter.of(source)
        with pytest.raises(ConfigError, match=r"`labels` .*: is no folder; the masks of images lie in one"):
            ImageMeter.of(source, labels=root / "none")

    def test_scores_and_maps_are_compared_with_the_truth(self, root: Path) -> None:
        source = ImageSource([root / "test"])
        meter = ImageMeter.of(source, root=root)
        assert meter.takes_maps
        for rows in (slice(0, 3), slice(3, 4)):
            keys = source.keys[rows]
            scores = np.array([9.0, 8.0, 1.0, 2.0])[rows]
            maps = [(key, np.array([[3.0, 1.0]]) if key.startswith("crack") else np.ones((1, 2))) for key in keys]
            meter.add(keys, scores, scores > 5, maps=maps)
        found = meter.result(wanted_false_alarm_rate=0.1)
        assert isinstance(found, ImageEvaluation)
        assert (found.samples, found.auroc.value, found.f1.value) == (4, 1, 1)
        assert (found.pixels.images, found.pixels.regions) == (4, 2)
        assert found.pixels.pixel_auroc.value > 0.9
        assert found.figures()["pixels"]["aupro"]["value"] == found.pixels.aupro.value
        assert [row[0] for row in found.table().rows][-2:] == ["pixel AUROC", "AUPRO"]
        assert found.kinds == () and found.kind_pixels == {}  # cracks are all that there is

    def test_each_folder_of_defects_has_figures_of_its_own(self, root: Path) -> None:
        """Two more kinds: one that the map shows in the right place, and one whose masks are empty."""
        for kind, value in (("hole", 255), ("stain", 0)):
            (root / "test" / kind).mkdir()
            (root / "ground_truth" / kind).mkdir()
            Image.open(root / "test/good/1.png").save(root / "test" / kind / "1.png")
            mask = np.zeros((6, 8), np.uint8)
            mask[:, 4:] = value
            Image.fromarray(mask).save(root / f"ground_truth/{kind}/1_mask.png")
        source = ImageSource([root / "test"])  # crack/1, crack/2, good/1, good/2, hole/1, stain/1
        meter = ImageMeter.of(source, root=root)
        scores = np.array([9.0, 1.0, 2.0, 3.0, 7.0, 2.5])
        # the map marks the right half of every image, which is where holes are, and cracks are not
        errors = np.where(np.arange(8) < 4, 1.0, 3.0) * np.ones((6, 1))
        meter.add(source.keys, scores, scores > 5, maps=[(key, errors) for key in source.keys])
        found = meter.result(wanted_false_alarm_rate=0.1)
        assert isinstance(found, ImageEvaluation)
        assert [(kind.name, kind.samples, kind.few) for kind in found.kinds] == [
            ("crack", 2, True),
            ("hole", 1, True),
            ("stain", 1, True),
        ]
        assert [kind.recall.value for kind in found.kinds] == [0.5, 1, 0]
        assert [kind.auroc.value for kind in found.kinds] == [0.5, 1, 0.5]
        assert set(found.kind_pixels) == {"crack", "hole"}
        # of cracks with the two good images: all 48 marked px tie with 48 of 144 normal ones, and lose to 96
        assert found.kind_pixels["crack"].pixel_auroc.value == pytest.approx((48 / 2) / 144)
        # of holes: all 24 marked px tie with 48 of 120 normal ones, and beat 72
        assert found.kind_pixels["hole"].pixel_auroc.value == pytest.approx((48 / 2 + 72) / 120)
        assert (found.kind_pixels["crack"].images, found.kind_pixels["hole"].images) == (4, 3)
        (table,) = found.table().below
        assert table.columns[-2:] == ("pixel AUROC", "AUPRO")
        assert [row[0] for row in table.rows] == ["crack *", "hole *", "stain *"]
        assert [row[4] for row in table.rows] == ["0.167", "0.800", "-"]
        assert found.figures()["kind_pixels"]["hole"]["pixel_auroc"]["value"] == pytest.approx(0.8)

    def test_intervals_may_be_over_groups(self, root: Path) -> None:
        source = ImageSource([root / "test"])
        meter = ImageMeter.of(source, root=root, group="folder")
        scores = np.array([9.0, 8.0, 1.0, 2.0])
        meter.add(source.keys, scores, scores > 5, maps=[(key, np.ones((1, 2))) for key in source.keys])
        found = meter.result(wanted_false_alarm_rate=0.1)
        assert isinstance(found, ImageEvaluation)
        assert (found.groups, found.recall.groups, found.auroc.groups) == (2, 1, 1)
        assert (found.pixels.images, found.pixels.aupro.groups) == (4, 1)

    def test_an_image_whose_group_is_left_empty_is_its_own(self, root: Path) -> None:
        (root / "groups.csv").write_text(
            "file,group\ntest/crack/1.png,\ntest/crack/2.png,\ntest/good/1.png,a\ntest/good/2.png,a\n"
        )
        source = ImageSource([root / "test"])
        meter = ImageMeter.of(source, root=root, group=root / "groups.csv")
        meter.add(source.keys, np.arange(4.0), np.zeros(4, bool), maps=[])
        found = SampleMeter.result(meter, wanted_false_alarm_rate=0.1)
        assert (found.groups, found.recall.groups, found.false_alarm_rate.groups) == (3, 2, 1)

    def test_without_masks_there_are_no_figures_of_pixels(self, root: Path) -> None:
        source = ImageSource([root / "test"])
        meter = ImageMeter.of(source, label_column="folder", normal=["good"])
        assert not meter.takes_maps
        meter.add(source.keys, np.array([9.0, 8.0, 1.0, 2.0]), np.zeros(4, bool))
        assert "pixels" not in meter.result(wanted_false_alarm_rate=0.1).figures()
