"""Good models and files, each of a few kB, from which hostile ones are made."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from memae import Detector
from tests.attack.canary import Trip
from tests.small_data import write_idx
from tests.video_files import CODECS, moving_digits, write_video

__all__ = ["EPS", "make_originals", "rows"]

BRIEF: dict[str, Any] = {"train": {"epochs": 2}, "memory": {"num_items": 8}}
VIDEO: dict[str, Any] = {
    "video": {"height": 16, "width": 16, "crop_px": 16, "channels": [8, 8], "place_px": 8, "stride": 16},
    "memory": {"num_items": 8, "warmup_epochs": 0},
    "train": {"epochs": 0},
}
VIDEOS = (
    "h264.mp4",
    "mpeg4.avi",
    "mjpeg.avi",
    "vp9.mkv",
    "ffv1.mkv",
    "vp8.webm",
    "h264.ts",
    "mpeg2.mpg",
    "wmv2.wmv",
)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) (w) file\nshowpage\n%%EOF\n"
"""For which Pillow would start Ghostscript."""


def rows(count: int, seed: int = 0) -> pd.DataFrame:
    """Rows of four numbers, a category, a truth value and a date."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(count, 4)), columns=list("abcd"))
    frame["kind"] = np.where(rng.random(count) > 0.5, "tcp", "udp")
    frame["open"] = rng.random(count) > 0.5
    frame["day"] = [f"2026-01-{1 + place % 28:02}" for place in range(count)]
    return frame


def make_originals(path: Path) -> None:
    """Writes them below a folder: models, and one sub-folder for each kind of file."""
    path.mkdir(parents=True, exist_ok=True)
    _models(path)
    _tables(path)
    _arrays(path)
    _images(path)
    _videos(path)


def _models(path: Path) -> None:
    images = (np.random.default_rng(0).random((24, 8, 8)) * 255).astype(np.uint8)
    plain = BRIEF | {"memory": {"enabled": False}}
    (path / "models").mkdir(exist_ok=True)
    write_video(path / "normal.mp4", moving_digits(40, 32, 32), like="h264.mp4")
    for name, x, settings in (
        ("table", rows(60).drop(columns="day"), BRIEF),
        ("plain", rows(60)[["a", "b"]].to_numpy(), plain),
        ("image", images, BRIEF),
        ("video", path / "normal.mp4", VIDEO),
    ):
        Detector(settings=settings, device="cpu", engine="torch").fit(x).save(path / "models" / name)
    # the training of the table again, stopped after an epoch, as a checkpoint to resume
    rows(60).drop(columns="day").to_csv(path / "checkpointed.csv", index=False)
    detector = Detector(settings=BRIEF, device="cpu", engine="torch")
    detector.fit(path / "checkpointed.csv", checkpoint=path / "checkpoint")


def _tables(path: Path) -> None:
    for name in ("csv", "parquet", "arrow"):
        (path / name).mkdir(exist_ok=True)
    frame = rows(12, seed=1)
    plain, odd = frame.drop(columns="day"), frame.assign(a=np.where(frame.a > 1, np.nan, frame.a))
    comma = plain.to_csv(index=False)
    german = plain.to_csv(index=False, sep=";", decimal=",")
    texts = {
        "comma": comma.encode(),
        "german": german.encode("cp1252"),
        "tab": odd.to_csv(index=False, sep="\t").encode(),
        "utf16": comma.encode("utf-16"),
        "quoted": plain.assign(kind='a "word",\nand more').to_csv(index=False).encode("utf-8-sig"),
        "packed": gzip.compress(comma.encode()),
    }
    for name, content in texts.items():
        (path / "csv" / name).write_bytes(content)
    for name, table in (("plain", plain), ("odd", odd.set_index("day"))):
        for packing in ("none", "snappy", "zstd"):
            table.to_parquet(
                path / "parquet" / f"{name}-{packing}", compression=None if packing == "none" else packing
            )
        kept = table.reset_index(drop=True)
        for packing in ("uncompressed", "lz4", "zstd"):
            kept.to_feather(path / "arrow" / f"{name}-{packing}", compression=packing)


def _arrays(path: Path) -> None:
    rng = np.random.default_rng(2)
    images = (rng.random((3, 8, 8)) * 255).astype(np.uint8)
    for name in ("npy", "npz", "idx"):
        (path / name).mkdir(exist_ok=True)
    numbers = rng.normal(size=(5, 2))
    arrays: dict[str, np.ndarray] = {
        "images": images,
        "rows": numbers,
        "floats": images.astype(np.float32),
        "turned": np.asfortranarray(numbers),
        "big-endian": numbers.astype(">f8"),
    }
    for name, array in arrays.items():
        np.save(path / "npy" / f"{name}.npy", array)
        (path / "npy" / f"{name}.npy").rename(path / "npy" / name)
    canary = np.array([Trip()], dtype=object)
    np.save(path / "npy" / "pickle.npy", canary)
    (path / "npy" / "pickle.npy").rename(path / "npy" / "pickle")
    stored, packed, evil = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(stored, x=images, y=np.arange(3))
    np.savez_compressed(packed, X=numbers)
    np.savez(evil, x=images, y=canary)
    for name, buffer in (("stored", stored), ("packed", packed), ("pickle", evil)):
        (path / "npz" / name).write_bytes(buffer.getvalue())
    write_idx(images, path / "idx" / "plain")
    (path / "idx" / "packed").write_bytes(gzip.compress((path / "idx" / "plain").read_bytes()))
    (path / "pickle").write_bytes(pickle.dumps(Trip()))


def _images(path: Path) -> None:
    (path / "image").mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    grey = Image.fromarray((rng.random((8, 8)) * 255).astype(np.uint8))
    colour = Image.fromarray((rng.random((8, 8, 3)) * 255).astype(np.uint8))
    deep = Image.fromarray((rng.random((8, 8)) * 65535).astype(np.uint16))
    floats = Image.fromarray(rng.random((8, 8)).astype(np.float32))
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, image, options in (
        ("grey.png", grey, {}),
        ("colour.png", colour, {}),
        ("deep.png", deep, {}),
        ("palette.png", colour.convert("P"), {"transparency": 0}),
        ("grey.jpg", grey, {}),
        ("colour.jpg", colour, {"exif": turned}),
        ("progressive.jpg", colour, {"progressive": True}),
        ("colour.webp", colour, {}),
        ("lossless.webp", colour, {"lossless": True}),
        ("grey.tiff", grey, {}),
        ("floats.tiff", floats, {}),
        ("packed.tiff", colour, {"compression": "tiff_lzw"}),
        ("deflate.tiff", deep, {"compression": "tiff_adobe_deflate"}),
        ("grey.bmp", grey, {}),
        ("colour.bmp", colour, {}),
        ("other.gif", grey, {}),
        ("other.ico", colour, {}),
        ("other.ppm", colour, {}),
        ("other.jp2", colour, {}),
        ("other.tga", colour, {}),
    ):
        image.save(path / "image" / name, **options)
    (path / "image" / "other.eps").write_bytes(EPS)
    (path / "image" / "other.svg").write_bytes(
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>"
    )


def _videos(path: Path) -> None:
    (path / "video").mkdir(exist_ok=True)
    for name in VIDEOS:
        if name in CODECS:
            write_video(path / "video" / name, moving_digits(20, 32, 32))
    (path / "playlists").mkdir(exist_ok=True)
    inner = path / "video" / VIDEOS[0]
    for name, text in (
        ("hls", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{inner}\n#EXT-X-ENDLIST\n"),
        ("concat", f"ffconcat version 1.0\nfile '{inner}'\n"),
        ("sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n"),
        ("dash", "<?xml version='1.0'?><MPD type='static'><Period><AdaptationSet/></Period></MPD>"),
    ):
        (path / "playlists" / name).write_text(text)
    (path / "mask.json").write_text(json.dumps({"width": 32, "height": 32, "exclude": [[[0, 0], [8, 0], [8, 8]]]}))
    (path / "settings.toml").write_text(
        '[train]\nepochs = 2\n[memory]\nnum_items = 8\n[table]\nnumber_scale = "log"\n'
    )


if __name__ == "__main__":
    import sys

    import torch

    torch.set_num_threads(1)
    make_originals(Path(sys.argv[1]))
