import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import memae.image.dataset
import memae.image.source
from memae.errors import DataError
from memae.image.arrays import ArraySource, Images
from memae.image.source import ImageSource
from memae.types import EVERYTHING

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 8), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (5, 6, 8, 4), dtype=np.uint8)
GREY, RGB, RGBA = Image.fromarray(PIXELS[0]), Image.fromarray(COLOURS[0, ..., :3]), Image.fromarray(COLOURS[0])


def folder(path: Path, **images: Image.Image) -> Path:
    for name, image in images.items():
        file = path / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
    return path


def everything(source: ArraySource | ImageSource) -> Images:
    (images,) = source.chunks(EVERYTHING)
    return images


def test_keys_are_the_sorted_relative_paths_at_any_depth(tmp_path: Path) -> None:
    root = folder(tmp_path, b_png=GREY, a__z_jpg=GREY, a__b__c_PNG=GREY, a__B_jpeg=GREY)
    (root / "notes.txt").write_text("no image")
    assert everything(ImageSource([root])).keys == ["a/B.jpeg", "a/b/c.PNG", "a/z.jpg", "b.png"]


def test_png_pixels_come_back_exactly(tmp_path: Path) -> None:
    root = folder(tmp_path, **{f"{i}_png": Image.fromarray(PIXELS[i]) for i in range(5)})
    images = everything(ImageSource([root]))
    assert np.array_equal(images.pixels[:, 0], PIXELS)
    assert images.pixels.dtype == np.uint8


@pytest.mark.parametrize("image", [RGB, RGBA], ids=["RGB", "RGBA"])
def test_colour_is_read_as_three_channels_without_alpha(tmp_path: Path, image: Image.Image) -> None:
    pixels = everything(ImageSource([folder(tmp_path, a_png=image)])).pixels
    assert np.array_equal(pixels[0], COLOURS[0, ..., :3].transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_modes_are_read_as_one_channel(tmp_path: Path, mode: str) -> None:
    assert everything(ImageSource([folder(tmp_path, a_png=GREY.convert(mode))])).pixels.shape == (1, 1, 6, 8)


def test_palette_images_are_read_as_their_colours(tmp_path: Path) -> None:
    palette = RGB.quantize(16)
    pixels = everything(ImageSource([folder(tmp_path, a_png=palette)])).pixels
    assert np.array_equal(pixels[0], np.asarray(palette.convert("RGB")).transpose(2, 0, 1))


def test_palette_images_with_transparency_are_read_without_a_warning(tmp_path: Path) -> None:
    palette = RGB.convert("P")
    palette.save(tmp_path / "a.png", transparency=bytes(range(256)))
    pixels = everything(ImageSource([tmp_path])).pixels
    assert np.array_equal(pixels[0], np.asarray(palette.convert("RGB")).transpose(2, 0, 1))


def test_jpeg_is_read_grey_or_in_colour(tmp_path: Path) -> None:
    smooth = Image.fromarray(np.tile(np.arange(0, 160, 20, dtype=np.uint8), (6, 1)))
    pixels = everything(ImageSource([folder(tmp_path / "grey", a_jpg=smooth)])).pixels
    assert pixels.shape == (1, 1, 6, 8)
    assert np.abs(pixels[0, 0].astype(int) - np.asarray(smooth)).max() < 10
    assert everything(ImageSource([folder(tmp_path / "colour", a_jpeg=RGB)])).pixels.shape == (1, 3, 6, 8)


def test_one_colour_image_makes_all_of_them_colour(tmp_path: Path) -> None:
    pixels = everything(ImageSource([folder(tmp_path, a_png=GREY, b_png=RGB)])).pixels
    assert pixels.shape == (2, 3, 6, 8)
    assert np.array_equal(pixels[0], np.repeat(PIXELS[:1], 3, axis=0))


@pytest.mark.parametrize(("channels", "image"), [(1, RGB), (3, GREY)])
def test_a_model_reads_the_channels_that_it_was_trained_on(
    tmp_path: Path, channels: int, image: Image.Image
) -> None:
    root = folder(tmp_path, a_png=image)
    assert everything(ImageSource([root], channels=channels)).pixels.shape == (1, channels, 6, 8)


def test_images_of_several_sizes_become_the_most_common_one(tmp_path: Path) -> None:
    root = folder(tmp_path, a_png=GREY, b_png=GREY.resize((4, 5)), c_png=GREY.resize((16, 12)), d_png=GREY)
    source = ImageSource([root])
    images = everything(source)
    assert images.pixels.shape == (4, 1, 6, 8)
    assert np.array_equal(images.pixels[[0, 3], 0], [PIXELS[0], PIXELS[0]])  # to the bit
    assert source.notes == ("images of 3 sizes, most of 8 x 6 px: all become 8 x 6 px (image.size_px)",)


def test_where_hardly_two_images_share_a_size_all_get_that_of_the_median_sides(tmp_path: Path) -> None:
    sizes = [(20 + step, 40 - step) for step in range(21)]  # width, height
    sizes += [(90, 10)]  # and once more: the most common one
    root = folder(tmp_path, **{f"{n:02}_png": GREY.resize(size) for n, size in enumerate([*sizes, (90, 10)])})
    source = ImageSource([root])
    assert everything(source).pixels.shape == (23, 1, 29, 31)
    assert source.notes == ("images of 22 sizes, in the median 31 x 29 px: all become 31 x 29 px (image.size_px)",)


def test_of_two_sizes_that_are_as_common_the_larger_one_counts(tmp_path: Path) -> None:
    root = folder(tmp_path, a_png=GREY, b_png=GREY.resize((4, 5)))
    assert everything(ImageSource([root])).pixels.shape == (2, 1, 6, 8)


def test_images_of_one_size_stay_as_they_are_up_to_256_px(tmp_path: Path) -> None:
    source = ImageSource([folder(tmp_path, a_png=GREY.resize((256, 200)))])
    assert everything(source).pixels.shape == (1, 1, 200, 256)
    assert source.notes == ()


def test_large_photos_are_shrunk_and_a_note_says_so(tmp_path: Path) -> None:
    source = ImageSource([folder(tmp_path, a_jpg=RGB.resize((2000, 1500)))])
    assert everything(source).pixels.shape == (1, 3, 192, 256)
    assert source.notes == ("images of 2000 x 1500 px: all become 256 x 192 px (image.size_px)",)


@pytest.mark.parametrize(("longest", "shape"), [(4, (3, 4)), (8, (6, 8)), (16, (12, 16)), (None, (6, 8))])
def test_the_longest_side_can_be_asked_for(tmp_path: Path, longest: int | None, shape: tuple[int, int]) -> None:
    source = ImageSource([folder(tmp_path, a_png=GREY)]).sized(longest)
    assert everything(source).pixels.shape == (1, 1, *shape)


def test_a_model_gets_images_of_its_size(tmp_path: Path) -> None:
    source = ImageSource([folder(tmp_path, a_png=GREY)], channels=1, size=(9, 5))
    assert everything(source).pixels.shape == (1, 1, 9, 5)


def test_a_model_that_knows_size_and_channels_opens_no_file_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    source = ImageSource([tmp_path], channels=1, size=(6, 8))
    assert source.dtype == np.uint8
    with pytest.raises(DataError, match=r"a\.png: not a readable image \(the file is empty\)"):
        everything(source)


def test_deep_images_make_all_of_them_float32(tmp_path: Path) -> None:
    deep = Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000)
    source = ImageSource([folder(tmp_path, a_png=GREY, b_png=deep)])
    images = everything(source)
    assert images.pixels.dtype == source.dtype == np.float32
    assert np.array_equal(images.pixels[0, 0], PIXELS[0])
    assert np.allclose(images.pixels[1, 0].ravel(), np.arange(48) * 1000 * 255 / 65535)


@pytest.mark.parametrize("damage", ["half", "text", "empty", "bytes"])
def test_a_damaged_image_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    root = folder(tmp_path, a_png=RGB, b_png=RGB)
    content = (root / "b.png").read_bytes()
    damaged = {"half": content[: len(content) // 2], "text": b"hello", "empty": b""}
    (root / "b.png").write_bytes(damaged.get(damage, content[:60] + bytes(8) + content[68:]))
    with pytest.raises(DataError, match=r"b\.png: not a readable image \(.*\); mend or remove it"):
        everything(ImageSource([root]))


def test_a_truncated_jpeg_is_refused_by_name(tmp_path: Path) -> None:
    folder(tmp_path, a_jpg=RGB.resize((64, 64)))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    with pytest.raises(DataError, match=r"a\.jpg: not a readable image \(.*\); mend or remove it"):
        everything(ImageSource([tmp_path]))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.png, \.jpg, \.jpeg, \.webp, .* file; check the path"):
        ImageSource([tmp_path])


def test_one_file_is_a_source_of_one_image(tmp_path: Path) -> None:
    folder(tmp_path, a_png=GREY, b_png=GREY)
    assert everything(ImageSource([tmp_path / "b.png"])).keys == ["b.png"]


def test_chunks_are_the_whole_in_order(tmp_path: Path) -> None:
    root = folder(tmp_path, **{f"{i}_png": Image.fromarray(PIXELS[i]) for i in range(5)})
    parts = list(ImageSource([root]).chunks(2))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [key for part in parts for key in part.keys] == [f"{i}.png" for i in range(5)]
    assert np.array_equal(np.concatenate([part.pixels[:, 0] for part in parts]), PIXELS)


def test_chunks_stay_below_a_number_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memae.image.source, "CHUNK_BYTES", 2 * PIXELS[0].size)
    root = folder(tmp_path, **{f"{i}_png": Image.fromarray(PIXELS[i]) for i in range(5)})
    assert [len(part) for part in ImageSource([root]).chunks(1000)] == [2, 2, 1]


def test_a_reader_that_stops_early_leaves_no_thread_behind(tmp_path: Path) -> None:
    root = folder(tmp_path, **{f"{i}_png": Image.fromarray(PIXELS[i]) for i in range(5)})
    chunks: Any = ImageSource([root]).chunks(1)
    next(chunks)
    assert any(thread.name.startswith("memae-images") for thread in threading.enumerate())
    chunks.close()
    assert not any(thread.name.startswith("memae-images") for thread in threading.enumerate())


class TestBadImages:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        folder(tmp_path, **{f"{i}_png": Image.fromarray(PIXELS[i]) for i in (0, 2, 4)})
        (tmp_path / "1.png").write_bytes(b"")
        (tmp_path / "3.jpg").write_bytes(b"PK\x03\x04 and more")
        return tmp_path

    def test_the_first_is_refused_by_name(self, root: Path) -> None:
        with pytest.raises(DataError, match=r"1\.png: not a readable image \(the file is empty\); mend or remove"):
            everything(ImageSource([root]))

    @pytest.mark.parametrize("size", [1, 2, 3, 1000, EVERYTHING])
    def test_skipped_they_keep_their_places_and_say_why(self, root: Path, size: int) -> None:
        for _ in range(2):  # in a second pass, too
            found: list[Any] = []
            pixels: list[Any] = []
            unreadable: dict[Any, Any] = {}
            for part in ImageSource([root]).skipping().chunks(size):
                unreadable |= {len(found) + row: why for row, why in part.unreadable.items()}
                found += part.keys
                pixels.append(part.pixels[:, 0])
            assert found == ["0.png", "1.png", "2.png", "3.jpg", "4.png"]
            assert unreadable == {
                1: "is not a readable image (the file is empty)",
                3: "is not a readable image (it is a zip archive; unpack it)",
            }
            expected = PIXELS.copy()
            expected[[1, 3]] = 0
            assert np.array_equal(np.concatenate(pixels), expected)
            assert {part.dtype for part in pixels} == {np.dtype(np.uint8)}

    def test_collected_in_parts_they_keep_their_places(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memae.image.dataset, "PART_IMAGES", 2)
        images = memae.image.dataset.collect(ImageSource([root]).skipping())
        assert images.keys == ["0.png", "1.png", "2.png", "3.jpg", "4.png"]
        assert sorted(images.unreadable) == [1, 3]
        assert np.array_equal(images.pixels[[0, 2, 4], 0], PIXELS[[0, 2, 4]])

    def test_a_chunk_of_bad_ones_alone_claims_no_8_bits(self, root: Path) -> None:
        # a model of other pixels refuses 8-bit ones
        parts = list(ImageSource([root], channels=1, size=(6, 8)).skipping().chunks(1))
        assert [part.pixels.dtype for part in parts] == [np.uint8, np.float32, np.uint8, np.float32, np.uint8]

    def test_the_source_itself_stays_strict(self, root: Path) -> None:
        source = ImageSource([root])
        source.skipping()
        with pytest.raises(DataError, match="not a readable image"):
            everything(source)

    def test_none_that_is_good_is_an_error_all_the_same(self, root: Path) -> None:
        for name in "024":
            (root / f"{name}.png").unlink()
        with pytest.raises(
            DataError, match=r"none of its 2 images can be read; the first is .*1\.png \(the file is"
        ):
            everything(ImageSource([root]).skipping())
        with pytest.raises(
            DataError, match=r"none of its 2 images can be read; the first is .*1\.png \(the file is"
        ):
            list(ImageSource([root], channels=1, size=(6, 8)).skipping().chunks(10))


def test_the_first_folder_is_the_label(tmp_path: Path) -> None:
    root = folder(tmp_path, good__a_png=GREY, crack__deep__b_png=GREY, crack__c_png=GREY)
    source = ImageSource([root])
    assert everything(source).keys == ["crack/c.png", "crack/deep/b.png", "good/a.png"]
    assert source.labels("folder").tolist() == ["crack", "crack", "good"]
    assert source.without(["folder"]) is source


def test_labels_that_are_no_folder_are_refused(tmp_path: Path) -> None:
    folder(tmp_path / "flat", a_png=GREY)
    source = ImageSource([tmp_path / "flat"])
    with pytest.raises(DataError, match=r"a\.png: lies in no folder below .*sort it into one"):
        source.labels("folder")
    with pytest.raises(DataError, match="images have no column 'class'; sort them into one folder per label"):
        source.labels("class")
    with pytest.raises(DataError, match="images have no column 'class' to leave out"):
        source.without(["class"])
