import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from experiments import __main__ as command
from experiments import drawings, figures
from experiments.drawings import DRAWINGS, draw_figures
from experiments.figures import Point, compute_figures, pictures_of, points, results_of
from experiments.render import ROOT
from memae import Detector

TINY = {"train": {"epochs": 2, "batch_size": 16, "validation_share": 0.0}, "threshold": {"calibration_share": 0.0}}
MEMORY: dict[str, Any] = {
    **TINY,
    "memory": {"num_items": 6, "warmup_epochs": 1, "shrinkage": 2.0, "temperature": 0.1},
}
PLAIN: dict[str, Any] = {**TINY, "memory": {"enabled": False}}
HEALTH = {"items": 6, "items_used": 5, "items_dead": 1, "items_duplicate": 0, "items_per_query": 1.5}
DATA = {"normal": 8, "fit": 60, "judged": 50, "anomalies": 15}


def compute(root: Path, *wanted: Point) -> dict[str, Any]:
    return {point.name: result for point, result in compute_figures(root, wanted)}


def write(
    root: Path,
    figure: str,
    name: str,
    preset: str | None = "mnist",
    auroc: float = 0.9,
    memory: tuple[int, float, float] | None = (6, 2.0, 0.1),
    **more: list[float | dict[str, float]] | dict[str, int],
) -> None:
    """A stand-in for a result; `memory` is N, shrinkage and temperature."""
    training: dict[str, Any] = {"epochs": 2, "warm": 1, "memory": None}
    if memory:
        training["memory"] = dict(zip(("items", "shrinkage", "temperature"), memory, strict=True))
    path = root / figure / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"preset": preset, "metrics": {"auroc": auroc, "auroc_nines": auroc}, "data": DATA}
    path.write_text(json.dumps({**found, "training": training, **more}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Stand-ins for the results of all figures."""
    for n in (10, 100):
        write(tmp_path, "memory-size", f"{n}-seed-0", memory=(n, 5.0, 1 / 30))
    write(tmp_path, "memory-size", "autoencoder-seed-0", memory=None, auroc=0.8)
    write(tmp_path, "memory-size", "1-nn-cosine", preset=None, memory=None, auroc=0.95)
    for shrinkage, rescued in ((0.0, 0.0), (10.0, 1.0)):
        for sharpness in (1, 30):
            write(tmp_path, "sparsity", f"{shrinkage:g}-{sharpness}", memory=(6, shrinkage, 1 / sharpness))
            path = tmp_path / "sparsity" / f"{shrinkage:g}-{sharpness}.json"
            health = {"memory": {**HEALTH, "fallback_share": rescued}}
            path.write_text(json.dumps(json.loads(path.read_text()) | health))
    for preset in ("mnist", "mnist-paper"):
        write(tmp_path, "training", preset, preset, epochs=[{**HEALTH, "fallback_share": 0.5, "loss": 1.0}] * 3)
    for name in ("memae", "autoencoder"):
        data = {"normal": 5, "fit": 60, "nines": 7}
        write(tmp_path, "digits", name, scores=[0.1] * 4, digits=[5, 5, 9, 9], data=data)
        grey = np.arange(4 * 64, dtype=np.int16).reshape(4, 8, 8)
        kept: dict[str, Any] = dict.fromkeys(("x", "reconstruction", "error_map"), grey)
        np.savez(tmp_path / "digits" / f"{name}.npz", **kept, items=grey, uses=np.array([3, 2, 0, 1]))
    return tmp_path


def test_every_figure_is_drawn_from_its_files(root: Path, tmp_path: Path) -> None:
    found = list(draw_figures(root, tmp_path / "images"))
    assert [path.stem for path in found] == list(DRAWINGS)
    for path in found:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) > 200


def test_a_figure_without_results_is_left_out(root: Path, tmp_path: Path) -> None:
    (root / "digits" / "autoencoder.json").unlink()
    (root / "memory-size" / "1-nn-cosine.json").unlink()
    found = [path.stem for path in draw_figures(root, tmp_path / "images")]
    assert found == ["sparsity", "training", "memory-items"]
    assert list(draw_figures(tmp_path / "none", tmp_path / "images")) == []


def test_the_degenerate_region_is_marked(root: Path, tmp_path: Path) -> None:
    def reds() -> int:
        drawings.draw_sparsity(root, tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        return int((np.abs(pixels - (0xC4, 0x50, 0x2E)).max(axis=2) < 30).sum())

    marked = reds()
    for path in (root / "sparsity").glob("10-*.json"):
        path.write_text(path.read_text().replace('"fallback_share": 1.0', '"fallback_share": 0.5'))
    assert reds() < marked / 10


def test_a_point_says_what_was_fitted_and_how_it_ranks(small_data: Path, tmp_path: Path) -> None:
    for file in (small_data / "mnist").glob("t10k*"):
        file.unlink()  # no figure opens the test split
    wanted = [
        Point("memory-size", "6-seed-1", "mnist", MEMORY, seed=1),
        Point("memory-size", "plain", "mnist", PLAIN),
        Point("memory-size", "1-nn-cosine", None, {}),
    ]
    found = compute(tmp_path, *wanted)
    assert found == results_of("memory-size", tmp_path)
    six = found["6-seed-1"]
    assert (six["preset"], six["seed"], six["settings"]) == ("mnist", 1, MEMORY)
    assert six["training"] == {
        "epochs": 2,
        "warm": 1,
        "memory": {"items": 6, "shrinkage": 2.0, "temperature": 0.1},
    }
    assert six["data"] == {"normal": 8, "fit": 66, "judged": 49, "anomalies": 15}
    assert {"commit", "hardware", "command", "cpu_seconds"} <= set(six)
    assert six["memory"]["items"] == 6 and 0 <= six["metrics"]["auroc"] <= 1
    assert found["plain"]["memory"] is None and found["plain"]["training"]["memory"] is None
    assert found["1-nn-cosine"]["metrics"]["auroc"] == 1.0
    assert compute(tmp_path, *wanted) == {}  # kept ones are not computed again


def test_a_training_is_kept_epoch_by_epoch(small_data: Path, tmp_path: Path) -> None:
    found = compute(tmp_path, Point("training", "mnist", "mnist", MEMORY))["mnist"]
    assert [epoch["items"] for epoch in found["epochs"]] == [6, 6]  # the warm epoch has no memory
    assert {"items_used", "items_per_query", "fallback_share", "loss"} <= set(found["epochs"][0])


def test_pictures_lie_beside_the_result_and_can_be_drawn(small_data: Path, tmp_path: Path) -> None:
    compute(tmp_path, Point("digits", "memae", "mnist", MEMORY), Point("digits", "autoencoder", "mnist", PLAIN))
    kept = pictures_of("digits", "memae", tmp_path)
    assert kept["x"].shape == kept["reconstruction"].shape == kept["error_map"].shape == (8, 28, 28)
    assert kept["items"].shape == (6, 28, 28) and kept["uses"].shape == (6,)
    assert kept["x"].std() == pytest.approx(np.sqrt((kept["x"] ** 2).mean() - kept["x"].mean() ** 2))
    assert (kept["x"] ** 2).mean() == pytest.approx(1, abs=0.02)  # as the network saw it: unit norm
    found = results_of("digits", tmp_path)["memae"]
    assert found["digits"] == [5] * 4 + [9] * 4
    assert found["scores"] == pytest.approx(kept["error_map"].mean(axis=(1, 2)), abs=0.01)
    assert "items" not in pictures_of("digits", "autoencoder", tmp_path)
    drawn = {path.stem for path in draw_figures(tmp_path, tmp_path / "images")}
    assert drawn == {"digits", "memory-items"}


def test_an_interrupted_training_leaves_no_file(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Detector):
        def fit(self, x: Any, **options: Any) -> Any:
            super().fit(x, **options).facts["interrupted"] = True
            return self

    monkeypatch.setattr(figures, "Detector", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path, Point("training", "mnist", "mnist", MEMORY))
    assert not list(tmp_path.glob("training/*"))


def test_the_points_are_those_of_the_figures() -> None:
    found = points()
    assert len({(point.figure, point.name) for point in found}) == len(found)
    counts = {name: sum(point.figure == name for point in found) for name in figures._MEASURES}
    assert counts == {"memory-size": 3 * 7 + 2, "sparsity": 30, "sparsity-uniform": 30, "training": 3, "digits": 2}


def test_the_command_draws_and_computes_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def computed() -> Iterator[Any]:
        calls.append("computed")
        return iter(())

    monkeypatch.setattr(command, "compute_figures", computed)
    monkeypatch.setattr(command, "draw_figures", lambda: [ROOT / "docs" / "images" / "sparsity.png"])
    runner = CliRunner()
    assert runner.invoke(command.app, ["figures"]).exit_code == 0 and calls == []
    assert runner.invoke(command.app, ["figures", "--compute"]).exit_code == 0 and calls == ["computed"]


def test_pages_name_pictures_that_exist_and_every_figure_stands_on_one() -> None:
    named = set()
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for found in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / found).exists(), f"{page.name}: {found}"
            named.add((page.parent / found).stem)
    assert set(DRAWINGS) <= named
