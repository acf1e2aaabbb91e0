"""The golden models in v9/, of every network and preset, and what they said: made by make_v9.py with commit 647da1e.

Whatever later versions change inside, `check` of each must hold. It asks the public face alone (`memae.Detector`). From
the root of the checkout:

python -m tests.golden.check_v9 [--rtol 1e-5] [--fast] [NAME...]

What is scored is rebuilt here, from scikit-learn's bundled data or drawn with fixed seeds, and is never stored. What a
model should say was found by torch's own layers in float32, `make_v9.plain_torch`. Where a faster form of 647da1e is
allowed to say something else (bfloat16 for clips, int8 for `video-paper`), v9/expected.json has by how much,
relatively, as "fast_form"; --fast allows half as much again.
"""

import argparse
import json
import lzma
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from memae import Detector

V9 = Path(__file__).parent / "v9"
RTOL = 1e-5
ITEMS = 8  # of an explanation that are written down

Data = Callable[[Path], tuple[Any, Any]]
"""Into a folder that is there: normal samples to train on, and others to score; paths, arrays or frames."""


@dataclass(frozen=True)
class Golden:
    """How one was made, which is all that this and make_v9.py know of it."""

    data: Data
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    """Further words of `Detector.fit`."""
    seed: int = 0
    """make_v9.py takes the first whose margin is wide enough; it stands in expected.json."""
    weights: int = 3500
    """Of the large tensors of weights that are kept, in all."""


# ---------------------------------------------------------------------------------------------------- images


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """8 x 8 px uint8, 0 to 240, and which digit."""
    pixels, digit = load_digits(return_X_y=True)
    return (15 * pixels).astype(np.uint8).reshape(-1, 8, 8), digit


def _parted(pictures: np.ndarray, digit: np.ndarray, normal: int, fit: int, scored: int) -> tuple[Any, Any]:
    """The first images of one digit, and the last images of all."""
    return pictures[digit == normal][:fit], pictures[-scored:]


def mnist_like(_: Path) -> tuple[Any, Any]:
    """Digits of 28 x 28 px, each px thrice as long and a frame of 2 px around it; 0 is normal."""
    pixels, digit = _digits()
    large = np.kron(pixels, np.ones((1, 3, 3), np.uint8))
    return _parted(np.pad(large, ((0, 0), (2, 2), (2, 2))), digit, 0, 96, 20)


def cifar_like(_: Path) -> tuple[Any, Any]:
    """Digits of 32 x 32 px in colours on a coloured ground, channels last; 1 is normal."""
    pixels, digit = _digits()
    drawn = np.random.default_rng(1)
    ink, ground = drawn.integers(9, 17, (len(digit), 1, 1, 3)), drawn.integers(0, 4, (len(digit), 1, 1, 3))
    large = np.kron(pixels, np.ones((1, 4, 4), np.uint8))[..., None].astype(np.int64)
    return _parted(((large * ink + (240 - large) * ground) // 16).astype(np.uint8), digit, 1, 96, 16)


def small_grey(_: Path) -> tuple[Any, Any]:
    """Digits of 24 x 16 px, as 0 to 1 in float32; 3 is normal."""
    pixels, digit = _digits()
    large = np.kron(pixels, np.ones((1, 3, 2), np.uint8)).astype(np.float32) / 240
    return _parted(large, digit, 3, 90, 20)


def small_bytes(_: Path) -> tuple[Any, Any]:
    """Digits of 8 x 8 px; 5 is normal."""
    pixels, digit = _digits()
    return _parted(pixels, digit, 5, 96, 24)


def _textures(count: int, height: int, width: int, channels: int, seed: int, spots: int = 0) -> np.ndarray:
    """Woven stuff with noise, uint8 (count, channels, height, width); `spots` of the last have a bright or dark one."""
    drawn = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    found = np.empty((count, channels, height, width), np.int64)
    for at in range(count):
        down, across = drawn.integers(0, 12, 2)
        threads = 60 * ((rows + down) // 6 % 2) + 40 * ((columns + across) // 6 % 2)
        for channel in range(channels):
            found[at, channel] = 50 + 20 * channel + threads + drawn.integers(0, 24, (height, width))
    for at in range(count - spots, count):
        top, left = drawn.integers(0, height - 14), drawn.integers(0, width - 14)
        side = drawn.integers(5, 14)
        found[at, :, top : top + side, left : left + side] = 245 if at % 2 else 8
    return found.astype(np.uint8)


def scenes(_: Path) -> tuple[Any, Any]:
    """Textures of 71 x 90 px: neither side a multiple of 4; half of those to score have a spot."""
    return _textures(60, 71, 90, 1, seed=2), _textures(12, 71, 90, 1, seed=3, spots=6)


def colour_scenes(_: Path) -> tuple[Any, Any]:
    """The same in colours, of 68 x 76 px."""
    return _textures(48, 68, 76, 3, seed=4), _textures(10, 68, 76, 3, seed=5, spots=5)


def _write(folder: Path, pictures: Sequence[np.ndarray], mode: str = "L") -> Path:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        whole = picture.transpose(1, 2, 0) if mode == "RGB" else picture[0]
        Image.fromarray(np.ascontiguousarray(whole)).save(folder / f"{number:03d}.png")
    return folder


def _of_sizes(
    seed: int, sizes: Sequence[tuple[int, int]], each: int, channels: int, spots: int
) -> list[np.ndarray]:
    return [
        picture
        for at, (height, width) in enumerate(sizes)
        for picture in _textures(each, height, width, channels, seed + at, spots)
    ]


def files_of_one_size(folder: Path) -> tuple[Any, Any]:
    """Folders of colour PNG, most of them of 60 x 52 px, which all are resized to."""
    most, other = (60, 52), [(50, 70), (80, 60)]
    normal = _of_sizes(20, [most], 50, 3, 0) + _of_sizes(21, other, 5, 3, 0)
    mixed = _of_sizes(30, [most, *other], 5, 3, 2)
    return _write(folder / "normal", normal, "RGB"), _write(folder / "mixed", mixed, "RGB")


def files_for_tiles(folder: Path) -> tuple[Any, Any]:
    """Folders of grey PNG of several sizes, one of them smaller than a tile of 72 px."""
    sizes = [(110, 131), (90, 73), (66, 120)]
    return _write(folder / "normal", _of_sizes(40, sizes, 12, 1, 0)), _write(
        folder / "mixed", _of_sizes(50, sizes, 4, 1, 2)
    )


def arrays_for_tiles(_: Path) -> tuple[Any, Any]:
    """Textures of 50 x 61 px for tiles of 32 px."""
    return _textures(40, 50, 61, 1, seed=60), _textures(10, 50, 61, 1, seed=61, spots=5)


# ---------------------------------------------------------------------------------------------------- tables


def cancer(_: Path) -> tuple[Any, Any]:
    """The 30 columns of scikit-learn's breast cancer as an array: benign rows, and the last 32 of all."""
    rows, benign = load_breast_cancer(return_X_y=True)
    return rows[benign == 1][:150], rows[-32:]


def wine(_: Path) -> tuple[Any, Any]:
    """Scikit-learn's wine as a frame, 13 columns: the first 50 of class 0, and every tenth of all from the fifth on."""
    data = load_wine(as_frame=True)
    return data.data[:50], data.data[55::6]


def events(_: Path) -> tuple[Any, Any]:
    """Drawn events: four kinds and numbers, two with heavy tails, many rows again and again; to score, a third odd."""
    return _events(240, 7, odd=0), _events(30, 8, odd=10)


def _events(count: int, seed: int, odd: int) -> pd.DataFrame:
    drawn = np.random.default_rng(seed)
    usual = drawn.integers(0, 12, 4 * count)[:count]  # which of twelve rows it repeats
    fresh = drawn.random(count) < 0.4
    protocols, services = np.array(["tcp", "udp", "icmp"]), np.array(["http", "dns", "mail", "ftp"])
    noise = np.where(fresh, drawn.integers(0, 9, count), 0)
    frame = pd.DataFrame(
        {
            "protocol": protocols[usual % 3],
            "service": services[usual % 4],
            "logged_in": usual % 2 == 0,
            "bytes": 2.0 ** (usual % 10) * 100 + 17 * noise,
            "duration": (usual * usual % 7) * 10.0 + noise,
            "count": 1 + usual * 3 + noise,
            "rate": (usual % 5) / 4 + noise / 100,
            "errors": (usual % 3) * 0.5,
        }
    )
    for row in range(count - odd, count):
        frame.loc[row, "bytes"] = 10.0 ** (1 + row % 7)
        frame.loc[row, "service"] = ["irc", "http"][row % 2]
        frame.loc[row, "rate"] = 2 - frame.loc[row, "rate"]
    return frame


def gaps(_: Path) -> tuple[Any, Any]:
    """Events with missing cells of every kind, whole numbers that are codes and a date that is left out."""
    return _with_gaps(_events(200, 9, odd=0)), _with_gaps(_events(30, 10, odd=10))


def _with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    rows = np.arange(len(frame))
    frame = frame.assign(
        port=np.array([80, 53, 25, 21, 443])[(7 * rows + rows // 3) % 5],
        day=[f"2024-01-{1 + row % 28:02d}" for row in rows],
        protocol=frame["protocol"].where(rows % 7 != 3, None),
    )
    frame["bytes"] = frame["bytes"].where(rows % 9 != 4, np.nan)
    frame["rate"] = frame["rate"].where(rows % 11 != 5, np.nan)
    return frame


def csv_files(folder: Path) -> tuple[Any, Any]:
    """The same as CSV."""
    normal, mixed = gaps(folder)
    return _csv(folder / "normal.csv", normal), _csv(folder / "mixed.csv", mixed)


def _csv(path: Path, frame: pd.DataFrame) -> Path:
    lines = [",".join(frame.columns)]
    lines += [",".join(map(_cell, row)) for row in frame.itertuples(index=False)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------------------------- video


def squares(folder: Path) -> tuple[Any, Any]:
    """Folders of frames of 32 x 32 px with a square that runs to and fro; larger and faster from frame 24 on."""
    return _footage(folder, 32, 32, 80)


def wide_squares(folder: Path) -> tuple[Any, Any]:
    """The same of 40 x 48 px, which are resized to 32 x 32 px, and shorter."""
    return _footage(folder, 40, 48, 56)


def _footage(folder: Path, height: int, width: int, length: int) -> tuple[Path, Path]:
    tapes = {f"normal/{start}": [(start + frame, 6) for frame in range(length)] for start in (0, 11, 23)}
    tapes["mixed/0"] = [(5 + frame, 6) if frame < 24 else (5 * frame, 11) for frame in range(40)]
    rows, columns = np.mgrid[:height, :width]
    for name, frames in tapes.items():
        (folder / name).mkdir(parents=True)
        for number, (steps, side) in enumerate(frames):
            picture = (40 + (7 * rows + 5 * columns) % 64).astype(np.uint8)
            left = min(steps % (2 * (width - side)), -steps % (2 * (width - side)))
            picture[12 : 12 + side, left : left + side] = 200
            Image.fromarray(picture).save(folder / name / f"{number:03d}.png")
    return folder / "normal", folder / "mixed"


# ---------------------------------------------------------------------------------------------------- goldens

_TRAIN = {"epochs": 2, "batch_size": 16}
_PLAIN = {"enabled": False}


def _small(items: int = 24, **more: Any) -> dict[str, Any]:
    """Settings of a brief training with few items; and others."""
    # the shrinkage of a preset, 5/N, is of a larger N; so few items would be read one at a time
    memory = {"num_items": items, "shrinkage": 1.0} | more.pop("memory", {})
    return {"train": _TRAIN | more.pop("train", {}), "memory": memory, **more}


_VIDEO = {"height": 32, "width": 32, "training_stride": 4, "stride": 8}
_CROPS = _VIDEO | {"crop_px": 16, "place_px": 8}
_WARM = {"warmup_epochs": 1}

GOLDENS: dict[str, Golden] = {
    # preset `mnist`: by default the network `small` (then `thumbnail`), the residual smoothed
    "mnist": Golden(mnist_like, "mnist", _small(memory=_WARM)),
    "mnist-paper": Golden(mnist_like, "mnist-paper", _small(12)),
    "mnist-released": Golden(mnist_like, "mnist-released", _small(12)),
    "cifar10": Golden(cifar_like, "cifar10", _small(memory=_WARM)),
    "cifar10-paper": Golden(cifar_like, "cifar10-paper", _small(10), weights=3000),
    "cifar10-released": Golden(cifar_like, "cifar10-released", _small(10), weights=3000),
    "thumbnail": Golden(small_bytes, "small", _small(memory=_WARM)),
    "thumbnail-paper": Golden(small_bytes, "small-paper", _small(16)),
    "thumbnail-released": Golden(small_grey, "small-released", _small(16)),
    # preset `image`: by default the network `scene`, which is `image` up to 64 px
    "image": Golden(small_grey, "image", _small(12, memory=_WARM)),
    "image-paper": Golden(small_grey, "image-paper", _small(10)),
    "image-released": Golden(small_bytes, "image-released", _small(16)),
    "image-large": Golden(scenes, None, {**_small(memory=_WARM), "network": "image"}),
    "image-files": Golden(files_of_one_size, None, _small(8, memory=_WARM)),
    "image-plain": Golden(small_grey, "image", {"train": _TRAIN, "memory": _PLAIN}),
    "scene": Golden(scenes, "scene", _small(memory=_WARM)),
    "scene-paper": Golden(scenes, "scene-paper", _small(24)),
    "scene-released": Golden(colour_scenes, "scene-released", _small(24)),
    "scene-colour": Golden(colour_scenes, None, _small(memory=_WARM)),
    "scene-smooth": Golden(scenes, None, _small(memory=_WARM, score={"smooth_px": 1.5})),
    "scene-plain": Golden(scenes, None, {"train": _TRAIN, "memory": _PLAIN}),
    "scene-tiles": Golden(
        files_for_tiles, None, _small(memory=_WARM, preprocess={"tile": 72, "tiles_per_image": 3})
    ),
    "image-tiles": Golden(
        arrays_for_tiles, None, _small(memory=_WARM, preprocess={"tile": 32, "tile_overlap": 10})
    ),
    # presets of tables: by default `table` is the network `wide`, and `kddcup` the network `table`
    "kddcup": Golden(events, "kddcup", _small(40, train={"epochs": 3}, memory=_WARM)),
    "kddcup-paper": Golden(events, "kddcup-paper", _small(20, train={"epochs": 3})),
    "kddcup-released": Golden(events, "kddcup-released", _small(20, train={"epochs": 3})),
    "table": Golden(cancer, None, {"train": {"epochs": 3}}),
    "table-paper": Golden(cancer, "table-paper", _small(20)),
    "table-released": Golden(wine, "table-released", _small(20)),
    "wide": Golden(wine, "wide", {"train": {"epochs": 3}}),
    "wide-paper": Golden(wine, "wide-paper", _small(20)),
    "wide-released": Golden(cancer, "wide-released", _small(20)),
    "table-gaps": Golden(
        gaps, None, {"train": {"epochs": 3}, "preprocess": {"number_scale": "log"}},
        {"drop": ["day"], "categorical": ["port"]},
    ),
    "table-csv": Golden(
        csv_files, None, {"train": {"epochs": 3}, "memory": {"initialisation": "kmeans", "num_items": 60}},
        {"drop": ["day"], "categorical": ["port"]},
    ),
    "table-plain": Golden(events, None, {"train": {"epochs": 3}, "memory": _PLAIN}),
    "video": Golden(squares, "video", _small(16, train={"batch_size": 8}, memory=_WARM, video=_CROPS)),
    "video-mean": Golden(
        wide_squares, "video",
        _small(16, train={"batch_size": 8}, memory=_WARM,
               video=_VIDEO | {"crop_px": None, "input": "frames", "score": "mean", "dilation": 2, "stride": 4}),
    ),
    "video-plain": Golden(
        squares, "video", {"train": _TRAIN | {"batch_size": 8}, "memory": _PLAIN, "video": _CROPS}
    ),
    "video-paper": Golden(
        squares, "video-paper", _small(16, train={"batch_size": 8}, video=_VIDEO | {"stride": 16})
    ),
    "video-released": Golden(
        wide_squares, "video-released", _small(16, train={"batch_size": 8}, video=_VIDEO)
    ),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------- checking


def model_directory(name: str, folder: Path) -> Path:
    """The golden model of that name as it was saved, unpacked below `folder`."""
    model = folder / "model"
    model.mkdir(parents=True)
    shutil.copy(V9 / name / "config.json", model)
    packed = (V9 / name / "model.safetensors.xz").read_bytes()
    (model / "model.safetensors").write_bytes(lzma.decompress(packed))
    return model


def mixed_data(name: str, folder: Path) -> Any:
    """What that golden model is asked about; files are written below `folder`."""
    place = folder / "data"
    place.mkdir(parents=True)
    return GOLDENS[name].data(place)[1]


def said(detector: Detector, mixed: Any) -> dict[str, Any]:
    """All that is compared, of JSON types; numbers alone are compared loosely."""
    verdicts = detector.detect(mixed, explained="all")
    found: dict[str, Any] = {
        "scores": verdicts.scores.tolist(),
        "p_values": verdicts.p_values.tolist(),
        "is_anomaly": verdicts.is_anomaly.tolist(),
        "threshold": verdicts.threshold,
        "scores_alone": detector.score(mixed).values.tolist(),
        "first": _explanation(verdicts.explanations[0]),
        "last": _explanation(verdicts.explanations[-1]),
        "items": _items(detector),
    }
    assert len(verdicts.explanations) == len(verdicts)
    if verdicts.explanations[0].error_map is not None and not hasattr(verdicts.keys[0], "time_s"):
        found["heat_threshold"] = detector.map_threshold
    if hasattr(verdicts.keys[0], "time_s"):
        found["event_threshold"] = detector.event_threshold(3600).on_threshold
    return found


def _explanation(one: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "score": one.score,
        "p_value": one.p_value,
        "item_count": len(one.items),
        "items": {str(use.item): use.weight for use in one.items[:ITEMS]},
    }
    if one.cells:
        found["cells"] = {
            cell.column: {"seen": cell.seen, "expected": cell.expected, "error": cell.error} for cell in one.cells
        }
    if one.error_map is not None:
        found |= {
            "shape": list(one.error_map.shape),
            "x_size": _size(one.x),
            "reconstruction_size": _size(one.reconstruction),
            "error_map_sum": float(one.error_map.sum(dtype=np.float64)),
            "error_map_max": float(one.error_map.max()),
        }
        if one.anomaly_map is not None:
            found["heat_max"] = float(one.anomaly_map.max())
    if one.tile_at is not None:
        found["tile_at"] = list(one.tile_at)
    return found


def _size(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def _items(detector: Detector) -> dict[str, Any] | None:
    items = detector.items()
    if items is None:
        return None
    found: dict[str, Any] = {
        "uses": np.asarray(items.usage_counts).tolist(),
        "twins": [list(pair) for pair in items.duplicates],
    }
    if items.pictures is not None:
        found["picture_sizes"] = [_size(picture) for picture in items.pictures]
    if items.rows is not None:
        found["first_row"] = dict(items.rows[0])
    return found


def check(
    name: str,
    folder: Path,
    rtol: float = RTOL,
    *,
    fast: bool = False,
    load: Callable[[Path], Detector] = lambda path: Detector.load(path, device="cpu"),
) -> float:
    """The worst relative difference of what a golden model says now.

    Args:
        name: of the golden model.
        folder: an empty one, for its files and its data.
        rtol: what is allowed, relative to a number, or to the greatest of those that belong together.
        fast: allow one and a half times what the fast form of 647da1e differed by, where that is more.
        load: from a model directory to the detector, such as one that is told to take torch's own layers.

    Raises:
        AssertionError: it differs by more, or says another word, in another order or of another shape.
    """
    expected = json.loads((V9 / "expected.json").read_text())[name]
    if fast:
        rtol = max(rtol, 1.5 * expected["fast_form"])
    detector = load(model_directory(name, folder))
    now = said(detector, mixed_data(name, folder))
    assert detector.threshold is not None
    return compared(expected["said"], now, rtol, expected["p_step"], name, detector.threshold.calibration)


def compared(
    expected: Mapping[str, Any],
    now: Mapping[str, Any],
    rtol: float,
    p_step: float,
    name: str = "",
    normal: np.ndarray | None = None,
) -> float:
    """The worst relative difference of two findings of `said`; what is no number must be equal.

    A p-value may be a step away, 1 / (n + 1) of n `normal` scores, where a score moved past one of them, and further
    where several are as near to it as `rtol`, such as those of equal rows; with a loose `rtol` more. A flag may be
    another where the score is as near to the threshold as `rtol`.

    Raises:
        AssertionError: more than `rtol`; the words say where.
    """
    wrong, worst = [], 0.0
    loose = rtol > 1e-4
    now = json.loads(json.dumps(now))
    for path, one, other, unit in _pairs(expected, now, ""):
        if path.startswith(".is_anomaly"):
            score = expected["scores"][int(path[len(".is_anomaly[") : -1])]
            right = one == other or abs(score - expected["threshold"]) <= rtol * abs(expected["threshold"])
        elif "p_value" in path:
            score = _score_of(path, expected)
            near = 0 if normal is None else int((abs(normal - score) <= 2 * rtol * score).sum())
            right = abs(one - other) <= p_step * (max(1, near) + 0.01 + (1000 * rtol if loose else 0))
        elif unit is not None and isinstance(other, float | int):
            apart = abs(one - other) / unit if unit else abs(one - other)
            worst = max(worst, apart)
            # of a column with a logarithm the network says the exponent
            right = apart <= (10 * rtol if path.endswith(".expected") else rtol)
        else:
            right = one == other or (loose and path.endswith("item_count"))
        if not right:
            wrong.append(f"{path}: {other!r}, was {one!r}")
    assert not wrong, f"{name}: {len(wrong)} differences of {rtol:.1e} and more: " + "; ".join(wrong[:6])
    return worst


def _score_of(path: str, expected: Mapping[str, Any]) -> float:
    """The score that the p-value at this path belongs to."""
    if path.startswith(".p_values"):
        return float(expected["scores"][int(path[len(".p_values[") : -1])])
    return float(expected[path.split(".")[1]]["score"])


def _pairs(one: Any, other: Any, path: str, unit: float = 0.0) -> Iterator[tuple[str, Any, Any, float | None]]:
    """Leaf by leaf, with what a difference of numbers is measured by: the number itself, or `unit` if that is more."""
    if isinstance(one, dict) and isinstance(other, dict) and path.endswith(".items") and "uses" not in one:
        # beyond the weakest that were written down two may have changed places: those weigh as good as the same
        least = min([*one.values(), *other.values()], default=0.0)
        for key in {**one, **other}:
            yield f"{path}.{key}", one.get(key, least), other.get(key, least), max(one.values())
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            left, right = one.get(key, "nothing"), other.get(key, "nothing")
            if path.endswith(".cells"):
                for what in ("seen", "expected", "error"):
                    beside = [abs(v) for v in (left["seen"], left["expected"]) if isinstance(v, float)]
                    size = (
                        sum(cell["error"] for cell in one.values())
                        if what == "error"
                        else max(beside, default=0.0)
                    )
                    yield from _pairs(left[what], right[what], f"{path}.{key}.{what}", size)
            else:
                yield from _pairs(left, right, f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _pairs(left, right, f"{path}[{at}]")
    else:
        yield path, one, other, max(abs(one), unit) if isinstance(one, float) else None


def main() -> None:
    """Checks those that are named, or all, and says how far they are apart."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("names", nargs="*")
    words.add_argument("--rtol", type=float, default=RTOL)
    words.add_argument("--fast", action="store_true")
    given = words.parse_args()
    failed = 0
    for name in given.names or GOLDENS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(f"{name:20} {check(name, Path(folder), given.rtol, fast=given.fast):.1e}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAILED {error}", flush=True)
    raise SystemExit(f"{failed} failed" if failed else 0)


if __name__ == "__main__":
    main()
