"""Images as people have them, through the command line."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Done

BRIEF = ("--set", "train.epochs=2", "--set", "memory.num_items=8", "--device", "cpu")


@pytest.fixture
def zeros(
    folder: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    model: Callable[..., Path],
) -> Path:
    """Forty zeros in `zeros`, five of them in `mixed` with two bad files among them, and `model`."""
    model("image")
    write_pngs(digits(0)[:40], folder / "zeros")
    write_pngs(digits(0)[40:45], folder / "mixed")
    (folder / "mixed" / "001a.png").write_bytes(b"")
    (folder / "mixed" / "zip.png").write_bytes(b"PK\x03\x04")
    return folder


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_score_with_skip_bad_keeps_order_and_count(memae: Callable[..., Done], zeros: Path) -> None:
    done = memae("score", "model", "mixed", "--skip-bad")
    assert done.code == 0
    found = rows(done.out)
    names = ["000.png", "001.png", "001a.png", "002.png", "003.png", "004.png", "zip.png"]
    assert [row["key"] for row in found] == names
    for row in found:
        bad = row["key"] in ("001a.png", "zip.png")
        assert [row[name] == "" for name in ("score", "p_value", "is_anomaly")] == [bad] * 3
    skipped, result = done.err.splitlines()
    assert skipped == (
        "skipped 2 bad samples: 001a.png is not a readable image (the file is empty); "
        "zip.png is not a readable image (it is a zip archive; unpack it)"
    )
    assert result.startswith("7 samples, ")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_other_formats_have_empty_rows_too(memae: Callable[..., Done], zeros: Path, suffix: str) -> None:
    memae("score", "model", "mixed", "--skip-bad", "--out", f"scores{suffix}")
    if suffix == ".jsonl":
        found = [json.loads(line) for line in (zeros / "scores.jsonl").read_text().splitlines()]
    else:
        import pyarrow.parquet as pq

        found = pq.read_table(zeros / "scores.parquet").to_pylist()
    assert [row["key"] for row in found if row["score"] is None] == ["001a.png", "zip.png"]
    assert len(found) == 7


def test_without_skip_bad_nothing_is_written(
    memae: Callable[..., Done], zeros: Path, tree: Callable[[], dict[str, bytes]]
) -> None:
    before = tree()
    done = memae("score", "model", "mixed", "--out", "scores.csv")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        "error: mixed/001a.png: not a readable image (the file is empty); mend or remove it, or"
    )
    assert tree() == before


def test_fit_with_skip_bad_counts_them(memae: Callable[..., Done], zeros: Path) -> None:
    (zeros / "zeros" / "007.png").write_bytes(b"hello")
    done = memae("fit", "zeros", "--out", "new", "--skip-bad", *BRIEF)
    assert done.code == 0
    assert done.err.splitlines()[-1] == (
        "skipped 1 bad sample: 007.png is not a readable image (it is a text file)"
    )
    facts = json.loads((zeros / "new" / "config.json").read_text())["facts"]
    assert facts["skipped"] == {"count": 1, "first": [["007.png", "is not a readable image (it is a text file)"]]}
    assert sum(facts["samples"].values()) == 39


def test_evaluate_with_skip_bad_leaves_their_labels_out(
    memae: Callable[..., Done],
    zeros: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
) -> None:
    write_pngs(digits(0)[:8], zeros / "test" / "good")
    write_pngs(digits(1)[:5], zeros / "test" / "ones")
    before = json.loads(
        memae(*["evaluate", "model", "test", "--label-column", "folder", "--normal", "good", "--json"]).out
    )
    (zeros / "test" / "good" / "003a.png").write_bytes(b"")
    (zeros / "test" / "ones" / "zz.png").write_bytes(b"")
    done = memae(
        *["evaluate", "model", "test", "--label-column", "folder", "--normal", "good", "--json", "--skip-bad"]
    )
    assert json.loads(done.out) == before
    assert "skipped 2 bad samples: good/003a.png is not" in done.err


def test_fit_says_what_becomes_of_photos_and_scoring_does_the_same(
    memae: Callable[..., Done], folder: Path
) -> None:
    generator = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for place in range(24):
        pixels = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        size = (800, 600) if place % 4 else (400, 400)
        Image.fromarray(pixels).resize(size).save(folder / "photos" / f"{place:02}.jpg")
    done = memae("fit", "photos", "--out", "new", "--size", "32", *BRIEF)
    said = "images of 2 sizes, most of 800 x 600 px: all become 32 x 24 px (image.size_px)"
    lines = done.err.splitlines()
    assert lines[0] == f"warning: {said}"  # before a long training
    assert done.err.count(said) == 1
    stored = json.loads((folder / "new" / "config.json").read_text())
    assert [stored["preprocess"][name] for name in ("channels", "height", "width")] == [3, 24, 32]
    assert stored["config"]["image"]["size_px"] == 32
    Image.open(folder / "photos" / "01.jpg").resize((500, 500)).convert("L").save(folder / "other.png")
    found = rows(memae("score", "new", "photos", "other.png").out)
    assert len(found) == 25
    assert found[-1]["key"] == "other.png"


@pytest.mark.parametrize("words", [["zeros/0*.png"], ["zeros"], ["list.txt"]])
def test_a_pattern_a_folder_and_a_list_score_alike(
    memae: Callable[..., Done], zeros: Path, words: list[str]
) -> None:
    (zeros / "list.txt").write_text("".join(f"zeros/{place:03}.png\n" for place in range(40)))
    plain = rows(memae("score", "model", "zeros").out)
    found = rows(memae("score", "model", *words).out)
    assert [row["score"] for row in found] == [row["score"] for row in plain]


def test_several_sources_of_images_are_one_table(memae: Callable[..., Done], zeros: Path) -> None:
    found = rows(memae("score", "model", "zeros/003.png", "zeros/001.png", "zeros").out)
    assert [row["key"] for row in found[:3]] == ["zeros/003.png", "zeros/001.png", "zeros/000.png"]
    assert len(found) == 40


class TestMaps:
    def test_each_image_gets_one_at_its_own_size_below_its_own_path(
        self, memae: Callable[..., Done], zeros: Path
    ) -> None:
        (zeros / "mixed" / "sub").mkdir()
        Image.open(zeros / "zeros" / "000.png").resize((40, 30)).save(zeros / "mixed" / "sub" / "000.jpg")
        Image.open(zeros / "zeros" / "000.png").save(zeros / "mixed" / "sub" / "000.png")
        done = memae("score", "model", "mixed", "--skip-bad", "--overlay", "heat", "--out", "s.csv")
        assert done.code == 0
        assert "; 7 overlays in heat\n" in done.err
        names = sorted(path.relative_to(zeros / "heat").as_posix() for path in (zeros / "heat").rglob("*.*"))
        names = [name for name in names if name != "sub"]
        assert names == [*(f"00{place}.png.png" for place in range(5)), "sub/000.jpg.png", "sub/000.png.png"]
        with Image.open(zeros / "heat" / "sub" / "000.jpg.png") as drawn:
            assert drawn.size == (40, 30)

    def test_those_of_the_anomalies_alone(
        self,
        memae: Callable[..., Done],
        zeros: Path,
        digits: Callable[[int], np.ndarray],
        write_pngs: Callable[[np.ndarray, Path], None],
    ) -> None:
        write_pngs(digits(1)[:3], zeros / "ones")
        done = memae("score", "model", "zeros", "ones", "--overlay", "heat", "--maps-of", "anomalies")
        flagged = {row["key"] for row in rows(done.out) if row["is_anomaly"] == "true"}
        drawn = {path.relative_to(zeros / "heat").as_posix() for path in (zeros / "heat").rglob("*.png")}
        assert 0 < len(flagged) < 43
        assert drawn == {f"{key}.png" for key in flagged}

    def test_arrays_are_drawn_as_the_network_sees_them(
        self, memae: Callable[..., Done], zeros: Path, digits: Callable[[int], np.ndarray]
    ) -> None:
        np.save("some.npy", digits(1)[:3])
        assert memae("score", "model", "some.npy", "--overlay", "heat", "--out", "s.csv").code == 0
        assert sorted(path.name for path in (zeros / "heat").iterdir()) == ["0.png", "1.png", "2.png"]

    def test_maps_and_masks_have_one_name_and_agree(
        self,
        memae: Callable[..., Done],
        zeros: Path,
        digits: Callable[[int], np.ndarray],
        write_pngs: Callable[[np.ndarray, Path], None],
    ) -> None:
        write_pngs(digits(1)[:3], zeros / "ones")
        words = ("--maps", "values", "--masks", "masks", "--overlay", "seen", "--out", "s.csv")
        done = memae("score", "model", "ones", *words)
        assert "; 3 overlays in seen; 3 maps in values; 3 masks in masks\n" in done.err
        for name in ("000.png.png", "001.png.png", "002.png.png"):
            with Image.open(zeros / "values" / name) as image:
                values, scale, threshold = (
                    np.asarray(image),
                    *(float(image.info[n]) for n in ("scale", "threshold")),
                )
            mask = np.asarray(Image.open(zeros / "masks" / name))
            clear = np.abs(values * scale - threshold) > scale
            assert np.array_equal((mask == 255)[clear], (values * scale > threshold)[clear])
            assert (zeros / "seen" / name).exists()

    def test_two_of_them_in_one_folder_are_refused(self, memae: Callable[..., Done], zeros: Path) -> None:
        done = memae("score", "model", "zeros", "--maps", "out", "--masks", "./out")
        assert (done.code, done.out) == (1, "")
        assert "--masks out: is the folder of --maps, too; name one for each" in done.err


class TestLabelStudio:
    def test_each_image_is_a_task(self, memae: Callable[..., Done], zeros: Path) -> None:
        words = ("--format", "labelstudio", "--url-prefix", "http://host/", "--skip-bad", "--out", "tasks.json")
        done = memae("score", "model", "mixed", *words)
        assert "; tasks.json\n" in done.err
        tasks = json.loads((zeros / "tasks.json").read_text())
        scores = {row["key"]: row["score"] for row in rows(memae("score", "model", "mixed", "--skip-bad").out)}
        assert [task["data"]["image"] for task in tasks] == [f"http://host/{key}" for key in scores]
        for task, score in zip(tasks, scores.values(), strict=True):
            assert ("predictions" in task) == bool(score)
            if score:
                (prediction,) = task["predictions"]
                assert (prediction["model_version"], prediction["score"]) == ("model", pytest.approx(float(score)))

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--format labelstudio", "--format labelstudio: name a file with --out FILE.json"),
            ("--format labelstudio --out a.csv", "--out a.csv: the name must end in .json"),
            ("--format coco", "--format coco: take rows or labelstudio"),
            ("--url-prefix x", "--url-prefix: is for --format labelstudio"),
        ],
    )
    def test_what_makes_no_tasks_is_refused(
        self, memae: Callable[..., Done], zeros: Path, words: str, message: str
    ) -> None:
        done = memae("score", "model", "zeros", *words.split())
        assert (done.code, done.out) == (1, "")
        assert message in done.err


class TestLayout:
    @pytest.fixture
    def mvtec(
        self, folder: Path, digits: Callable[[int], np.ndarray], write_pngs: Callable[[np.ndarray, Path], None]
    ) -> Path:
        """Zeros with, in the test, a bright corner of 3 x 3 px as the defect."""
        images = digits(0)
        write_pngs(images[:60], folder / "zero" / "train" / "good")
        write_pngs(images[60:75], folder / "zero" / "test" / "good")
        damaged, mask = images[75:90].copy(), np.zeros((8, 8), np.uint8)
        damaged[:, :3, :3], mask[:3, :3] = 255, 255
        write_pngs(damaged, folder / "zero" / "test" / "corner")
        masks = folder / "zero" / "ground_truth" / "corner"
        masks.mkdir(parents=True)
        for place in range(15):
            Image.fromarray(mask).save(masks / f"{place:03}_mask.png")
        return folder

    def test_fit_takes_the_good_ones_and_evaluate_needs_no_option(
        self, memae: Callable[..., Done], mvtec: Path
    ) -> None:
        done = memae("fit", "zero", "--out", "new", *BRIEF)
        assert (
            done.err.splitlines()[0] == "warning: zero has the layout of MVTec AD: zero/train/good is what trains"
        )
        facts = json.loads((mvtec / "new" / "config.json").read_text())["facts"]
        assert sum(facts["samples"].values()) == 60
        found = json.loads(memae("evaluate", "new", "zero", "--json").out)
        assert (found["samples"], found["anomalies"]) == (30, 15)
        assert found["auroc"]["value"] > 0.8
        assert (found["pixels"]["images"], found["pixels"]["regions"]) == (30, 15)
        assert found["pixels"]["pixel_auroc"]["value"] > 0.65  # after two epochs
        assert (
            found["pixels"]["aupro"]["low"]
            <= found["pixels"]["aupro"]["value"]
            <= found["pixels"]["aupro"]["high"]
        )
        named = ("--label-column", "folder", "--normal", "good", "--labels", "zero/ground_truth", "--json")
        assert json.loads(memae("evaluate", "new", "zero/test", *named).out) == found
        alone = json.loads(memae("evaluate", "new", "zero/test", "--labels", "zero/ground_truth", "--json").out)
        assert alone == found
        assert "AUPRO" in memae("evaluate", "new", "zero").out
        assert len(rows(memae("score", "new", "zero").out)) == 30

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda masks: (masks / "003_mask.png").unlink(),
                "holds no mask of corner/003.png; add corner/003_mask",
            ),
            (
                lambda masks: Image.new("L", (8, 8)).save(masks / "x.png"),
                "corner/x.png: is a mask of no image; name",
            ),
            (
                lambda masks: Image.new("L", (9, 8)).save(masks / "003_mask.png"),
                "the mask has 9 x 8 px, and its image",
            ),
        ],
    )
    def test_masks_that_do_not_fit_are_one_message(
        self,
        memae: Callable[..., Done],
        mvtec: Path,
        model: Callable[..., Path],
        change: Callable[..., Any],
        message: str,
    ) -> None:
        model("image")
        change(mvtec / "zero" / "ground_truth" / "corner")
        done = memae("evaluate", "model", "zero")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: ")
        assert message in done.err
        assert done.err.count("\n") == 1
