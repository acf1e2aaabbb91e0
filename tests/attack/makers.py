"""Hostile input of each kind, made from a seed."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from tests.attack.kinds import Known
from tests.attack.mutate import mutated, odd_number
from tests.attack.odd_tables import write_odd_arrow, write_odd_parquet
from tests.attack.originals import EPS
from tests.attack.structures import (
    broken_json,
    broken_npy,
    broken_png,
    broken_tensors,
    broken_zip,
    dumped,
    odd_value,
    zeros,
)

__all__ = [
    "make_arrow",
    "make_checkpoint",
    "make_csv",
    "make_frames",
    "make_idx",
    "make_image",
    "make_list",
    "make_mask",
    "make_model",
    "make_npy",
    "make_npz",
    "make_parquet",
    "make_playlist",
    "make_settings",
    "make_truth",
    "make_video",
]

CELLS = (
    "", "nan", "NaN", "NA", "inf", "-inf", "1e308", "1e999", "-0", "0x10", "1_000", "1,5", "1.5.2", "9" * 400, "=1+1",
    '"', '""', "a\nb", "a\0b", "\ufeff", "\u202e", "\x1b[31m", "é", "true", "2026-13-45", "x" * 5000, "٣", "1 ",
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1", "cp037", "utf-7")
IMAGE_SUFFIXES = (".png", ".jpg", ".webp", ".tiff", ".bmp")
KEYS = (
    "train.epochs", "train.batch_size", "train.learning_rate", "memory.num_items", "memory.shrinkage", "network", "x.y",
    "threshold.false_alarm_rate", "image.size_px", "table.number_scale",
)  # fmt: skip
PACKED = 1 << 24  # bytes that a small packed file unpacks to, now and then


def make_csv(rng: random.Random, folder: Path, known: Known) -> Path:
    """Changed bytes, or changed cells in any encoding, or far more than its size when it is unpacked."""
    _, content, others = known.some(rng, "csv")
    path, way = folder / rng.choice(("t.csv", "t.csv", "t.tsv", "t.csv.gz")), rng.random()
    if way < 0.5:
        return _written(path, mutated(rng, content, others))
    if way < 0.501:
        return _written(
            path, _repeated(rng.choice((b"1,", b"1\n", b'"', b"x", b"\n")), rng.choice((1 << 20, PACKED)))
        )
    lines = [line.split(",") for line in known.files["csv"]["comma"].decode().splitlines()]
    for _ in range(rng.choice((1, 1, 2, 5, 50))):
        line = rng.choice(lines)
        change = rng.random()
        if change < 0.7 and line:
            line[rng.randrange(len(line))] = rng.choice(CELLS)
        elif change < 0.8:
            line.append(rng.choice(CELLS))
        elif change < 0.9 and line:
            del line[rng.randrange(len(line))]
        else:
            lines.insert(rng.randrange(len(lines)), list(line))
    text = rng.choice(("\n", "\n", "\r\n", "\r", "\n\n")).join(rng.choice(",,,;\t|").join(line) for line in lines)
    coded = text.encode(rng.choice(ENCODINGS), "replace")
    coded = coded[: -rng.choice((1, 3))] if rng.random() < 0.1 else coded
    return _written(path, gzip.compress(coded) if rng.random() < 0.1 else coded)


def make_parquet(rng: random.Random, folder: Path, known: Known) -> Path:
    """Changed bytes, or a whole file of odd types and odd metadata."""
    path = folder / "t.parquet"
    if rng.random() < 0.15:
        write_odd_parquet(rng, path)
        return path
    _, content, others = known.some(rng, "parquet")
    if rng.random() < 0.4:  # the footer, where all is described
        at = len(content) - int.from_bytes(content[-8:-4], "little") - 8
        content = content[:at] + _same_length(rng, content[at:-8]) + content[-8:]
        return _written(path, content)
    return _written(path, mutated(rng, content, others))


def make_arrow(rng: random.Random, folder: Path, known: Known) -> Path:
    """Changed bytes, or a whole file of odd types and odd metadata."""
    path = folder / rng.choice(("t.arrow", "t.feather"))
    if rng.random() < 0.15:
        write_odd_arrow(rng, path)
        return path
    _, content, others = known.some(rng, "arrow")
    changed = _same_length(rng, content) if rng.random() < 0.6 else mutated(rng, content, others)
    return _written(path, changed)


def make_npy(rng: random.Random, folder: Path, known: Known) -> Path:
    """Changed bytes, or another header."""
    _, content, others = known.some(rng, "npy")
    return _written(
        folder / "a.npy", broken_npy(rng, content) if rng.random() < 0.5 else mutated(rng, content, others)
    )


def make_npz(rng: random.Random, folder: Path, known: Known) -> Path:
    """Changed bytes, or a whole archive with changed members."""
    _, content, others = known.some(rng, "npz")
    return _written(
        folder / "a.npz", broken_zip(rng, content) if rng.random() < 0.6 else mutated(rng, content, others)
    )


def make_idx(rng: random.Random, folder: Path, known: Known) -> Path:
    """Changed bytes, packed again in half of the cases; labels beside it now and then."""
    content = known.files["idx"]["plain"]
    changed = mutated(rng, content, [content])
    if rng.random() < 0.001:
        packed = zeros(1 << 26)
        return _written(folder / "a-images-idx3-ubyte.gz", gzip.compress(content[:16], 1) + _as_gzip(packed))
    if rng.random() < 0.3:
        _written(folder / "a-labels-idx1-ubyte", mutated(rng, b"\0\0\x08\x01\0\0\0\x03abc", [content]))
    path = folder / rng.choice(("a-images-idx3-ubyte", "a-images-idx3-ubyte.gz"))
    packing = rng.random()
    if packing < 0.3:
        return _written(path, gzip.compress(changed, 1))
    packed = known.files["idx"]["packed"]
    return _written(path, mutated(rng, packed, [packed]) if packing < 0.6 else changed)


def make_image(rng: random.Random, folder: Path, known: Known) -> Path:
    """A folder with one image, or the image: changed bytes or chunks, under a name that may not be its own."""
    name, content = _hostile_image(rng, known)
    whole = folder / "images"
    whole.mkdir()
    path = _written(whole / name, content)
    if rng.random() < 0.3:
        _written(whole / "good.png", known.files["image"]["grey.png"])
        return whole
    return path if rng.random() < 0.5 else whole


def make_frames(rng: random.Random, folder: Path, known: Known) -> Path:
    """A folder of four frames, of which one is hostile."""
    whole = folder / "frames"
    whole.mkdir()
    name, content = _hostile_image(rng, known)
    odd = rng.randrange(4)
    for number in range(4):
        if number != odd:
            _written(whole / f"{number:03}.png", known.files["image"]["grey.png"])
            continue
        stem = rng.choice((f"{number:03}", f"{number:03}", "003", "9" * 200, "x", "-1"))
        _written(whole / f"{stem}.{name.rpartition('.')[2]}", content)
    return whole


def make_truth(rng: random.Random, folder: Path, known: Known) -> Path:
    """Labels as CSV, or masks as images or as an array."""
    way = rng.random()
    if way < 0.4:
        rows = b"video,frame,label\n" + b"".join(b"clip,%d,%d\n" % (frame, frame % 2) for frame in range(4))
        segments = b"video,start,end\nclip,1,2\n"
        return _written(folder / "truth.csv", mutated(rng, rng.choice((rows, segments)), [rows, segments]))
    whole = folder / "truth"
    (whole / "clip").mkdir(parents=True)
    if way < 0.6:
        (whole / "clip").rmdir()
        _, content, _ = known.some(rng, "npy")
        _written(whole / "clip.npy", broken_npy(rng, content))
        return whole
    name, content = _hostile_image(rng, known)
    for number in range(3):
        _written(whole / "clip" / f"{number}.png", known.files["image"]["grey.png"])
    suffix = name.rpartition(".")[2] if rng.random() < 0.5 else "png"
    _written(whole / "clip" / f"3.{suffix}", content)
    return whole


def make_mask(rng: random.Random, folder: Path, known: Known) -> Path:
    """Polygons as JSON, or an image."""
    if rng.random() < 0.7:
        good = (known.originals / "mask.json").read_bytes()
        text = dumped(broken_json(rng, json.loads(good))) if rng.random() < 0.6 else mutated(rng, good, [good])
        return _written(folder / "mask.json", text)
    name, content = _hostile_image(rng, known)
    return _written(folder / f"mask.{name.rpartition('.')[2]}", content)


def make_list(rng: random.Random, folder: Path, known: Known) -> Path:
    """A list of images, one path a line."""
    _written(folder / "good.png", known.files["image"]["grey.png"])
    lines = ["good.png"] * rng.choice((1, 2, 20))
    odd = (
        "../x.png",
        "/etc/passwd",
        "good.png\0",
        "http://x/y.png",
        "*.png",
        ".",
        "",
        "\x1b[0m.png",
        "x" * 5000 + ".png",
    )
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(odd))
    text = "\n".join(lines).encode()
    return _written(folder / "list.txt", mutated(rng, text, [text]) if rng.random() < 0.5 else text)


def make_video(rng: random.Random, folder: Path, known: Known) -> Path:
    """Changed bytes, most of them where containers have their tables: at the ends."""
    name, content, others = known.some(rng, "video")
    suffix = (
        name.rpartition(".")[2] if rng.random() < 0.9 else rng.choice(("mp4", "avi", "mkv", "ts", "wmv", "webm"))
    )
    way = rng.random()
    if way < 0.35:
        at = min(len(content), rng.choice((64, 256, 1024, 4096)))
        content = _same_length(rng, content[:at]) + content[at:]
    elif way < 0.6:
        at = max(0, len(content) - rng.choice((64, 256, 1024, 4096)))
        content = content[:at] + _same_length(rng, content[at:])
    else:
        content = mutated(rng, content, others)
    return _written(folder / f"v.{suffix}", content)


def make_playlist(rng: random.Random, folder: Path, known: Known) -> Path:
    """A playlist under the name of a video, whole or changed behind its head."""
    _, content, others = known.some(rng, "playlists")
    if rng.random() < 0.5:
        content = content[:9] + mutated(rng, content[9:], others)
    return _written(folder / f"v.{rng.choice(('mp4', 'avi', 'mkv', 'ts'))}", content)


def make_settings(rng: random.Random, folder: Path, known: Known) -> Path:
    """A TOML file with changed bytes or values."""
    text = (known.originals / "settings.toml").read_bytes()
    if rng.random() < 0.5:
        return _written(folder / "s.toml", mutated(rng, text, [text]))
    value = dumped(odd_value(rng)).decode() if rng.random() < 0.5 else str(odd_number(rng))
    key = rng.choice(KEYS)
    line = f"{key} = {value[:20000]}\n".encode("utf-8", "surrogatepass")
    return _written(folder / "s.toml", line + rng.choice((b"", text)))


def make_model(rng: random.Random, folder: Path, known: Known) -> Path:
    """A model with changed settings or weights, or a stranger in it; digests redone in half of the cases."""
    name = rng.choice(list(known.models))
    files = dict(known.models[name])
    weights, settings = files["model.safetensors"], files["config.json"]
    way, path = rng.random(), folder / "m.model"
    value: Any = json.loads(settings)
    if way < 0.35:
        value = broken_json(rng, value)
        settings = dumped(value)
    elif way < 0.45:
        settings = mutated(rng, settings, [known.models[rng.choice(list(known.models))]["config.json"]])
        try:
            value = json.loads(settings)
        except (ValueError, RecursionError):
            value = None
    elif way < 0.7:
        weights = broken_tensors(rng, weights)
    elif way < 0.8:
        weights = mutated(rng, weights, [known.models[rng.choice(list(known.models))]["model.safetensors"]])
    elif way < 0.9:
        other = known.models[rng.choice(list(known.models))]
        weights = rng.choice((known.pickle, b"PK\x03\x04" + known.pickle, other["model.safetensors"], b""))
    path.mkdir()
    if way >= 0.9:
        stranger = rng.choice(("a.pkl", "a.pt", "a", "data.bin", "model.safetensors.pth", "a.ckpt", ".a", "a.txt"))
        _written(path / stranger, known.pickle)
    if isinstance(value, dict) and rng.random() < 0.5:
        value["model_sha256"] = hashlib.sha256(weights).hexdigest()
        value.pop("config_sha256", None)
        try:
            canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
            settings = dumped({**value, "config_sha256": hashlib.sha256(canonical).hexdigest()})
        except (UnicodeEncodeError, RecursionError):
            settings = dumped(value)
    _written(path / "model.safetensors", weights)
    _written(path / "config.json", settings)
    if rng.random() < 0.02:
        (path / rng.choice(("config.json", "model.safetensors"))).unlink()
    return path


def make_checkpoint(rng: random.Random, folder: Path, known: Known) -> Path:
    """A checkpoint with a changed state; what says whose it is stays as it was in most cases."""
    path = folder / "c"
    (path / "main").mkdir(parents=True)
    tensors, state = known.checkpoint["state.safetensors"], known.checkpoint["state.json"]
    way = rng.random()
    if way < 0.4:
        tensors = broken_tensors(rng, tensors)
    elif way < 0.5:
        tensors = mutated(rng, tensors, [tensors])
    elif way < 0.9:
        changed = broken_json(rng, json.loads(state))
        if isinstance(changed, dict) and rng.random() < 0.8:
            changed["fingerprint"] = json.loads(state)["fingerprint"]
        state = dumped(changed)
    else:
        tensors = rng.choice((known.pickle, b"", b"PK\x03\x04" + known.pickle))
    _written(path / "main" / "state.safetensors", tensors)
    _written(path / "main" / "state.json", state)
    return path


def _hostile_image(rng: random.Random, known: Known) -> tuple[str, bytes]:
    name, content, others = known.some(rng, "image")
    way = rng.random()
    if way < 0.03:
        content = EPS
    elif way < 0.4 and name.endswith(".png"):
        content = broken_png(rng, content)
    elif way < 0.95:
        content = mutated(rng, content, others)
    own = name.rpartition(".")[2]
    suffix = f".{own}" if f".{own}" in IMAGE_SUFFIXES and rng.random() < 0.7 else rng.choice(IMAGE_SUFFIXES)
    return f"000{suffix}", content


def _same_length(rng: random.Random, content: bytes) -> bytes:
    """Other values at one to ten places, and no byte more or less, so that what points elsewhere still does."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 10))):
        width = rng.choice((1, 1, 2, 4, 8))
        at = rng.randrange(max(1, len(changed) - width))
        now = int.from_bytes(changed[at : at + width], "little")
        number = rng.choice((odd_number(rng), now + 1, now - 1, now * 2, now ^ 1 << rng.randrange(8 * width)))
        changed[at : at + width] = (number & (1 << 8 * width) - 1).to_bytes(width, "little")
    return bytes(changed[: len(content)])


@cache
def _repeated(cell: bytes, size: int) -> bytes:
    return gzip.compress(cell * (size // len(cell)), 1)


def _as_gzip(packed: bytes) -> bytes:
    """A zlib stream as a member of gzip, without a checksum that fits."""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packed[2:-4] + bytes(8)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
