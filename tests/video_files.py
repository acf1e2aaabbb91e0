"""Real video files, encoded from real frames by PyAV, and folders of the same frames as images."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

X264 = {"x264-params": "no-mbtree=1", "crf": "8", "preset": "veryfast"}
"""Options of x264; with its macroblock tree, equal frames give other pictures now and then."""

CODECS = {
    "h264.mp4": ("libx264", "yuv420p", {**X264, "g": "12", "bf": "2"}),
    "fullrange.mp4": ("libx264", "yuvj420p", X264),
    "mpeg4.mp4": ("mpeg4", "yuv420p", {"qmin": "1", "qmax": "2", "g": "12"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"qmin": "1", "qmax": "2", "g": "12"}),
    "reordered.avi": ("libx264", "yuv420p", {**X264, "bf": "2"}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {"qmin": "1", "qmax": "2"}),
    "vp9.mkv": (
        "libvpx-vp9",
        "yuv420p",
        {"crf": "10", "b": "0", "cpu-used": "8", "g": "12", "deadline": "realtime"},
    ),
    "ffv1.mkv": ("ffv1", "bgr0", {"g": "1"}),
    "vp8.webm": ("libvpx", "yuv420p", {"b": "2M", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "12"}),
    "h264.ts": ("libx264", "yuv420p", {**X264, "g": "12", "bf": "2"}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"qmin": "1", "qmax": "2", "g": "12"}),
    "mpeg1.mpg": ("mpeg1video", "yuv420p", {"qmin": "1", "qmax": "2", "g": "12"}),
    "reordered.wmv": ("libx264", "yuv420p", {**X264, "bf": "2"}),
    "wmv2.wmv": ("wmv2", "yuv420p", {"qmin": "1", "qmax": "2"}),
}
"""By a file name: a codec that goes into that container, with pixel format and options for a faithful encode."""


def moving_digits(count: int, height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) uint8: scikit-learn's digits, smoothly enlarged, on a tape of colour that moves.

    A white and a black square stay in the upper corners, and every frame differs from every other.
    """
    rng = np.random.default_rng(seed)
    digits = load_digits().images[rng.permutation(200)[: 4 + width // 32]]
    tape = Image.fromarray((np.concatenate(digits, axis=1) * 15.9).astype(np.uint8))
    grey = np.asarray(tape.resize((len(digits) * 32, height), Image.Resampling.BICUBIC)).astype(float)
    colour = np.stack([grey, 0.6 * grey + 60, 230 - 0.7 * grey], axis=-1).clip(0, 255).astype(np.uint8)
    frames = np.stack([np.roll(colour, -2 * frame, axis=1)[:, :width] for frame in range(count)])
    for frame in range(count):  # a dark line that falls
        frames[frame, (3 * frame) % height] //= 2
    side = min(height, width) // 4
    frames[:, :side, :side], frames[:, :side, -side:] = 255, 0
    return frames


def write_video(
    path: Path,
    frames: np.ndarray,
    like: str | None = None,
    rate: int = 25,
    times_s: Sequence[float] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    sound_s: float = 0.0,
    container: dict[str, str] | None = None,
) -> Path:
    """Encodes frames the way CODECS says for the name `like`, or for the name of the file.

    Args:
        path: of the file; its suffix chooses the container.
        frames: (S, H, W, 3) uint8.
        like: a key of CODECS.
        rate: frames per second.
        times_s: the presentation time of each frame instead, in whole milliseconds.
        rotation: degrees counterclockwise that a player has to turn the pictures.
        mirrored: whether a player has to mirror them left to right.
        sound_s: seconds of silence in a stream of its own.
        container: options of the container.
    """
    codec, layout, options = CODECS[like or path.name]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as file:
        stream: Any = file.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = layout
        if times_s is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        sound: Any = file.add_stream("aac", rate=16000, layout="mono") if sound_s else None
        for place, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            if times_s is not None:
                frame.pts, frame.time_base = round(times_s[place] * 1000), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if sound is not None:
            _write_silence(file, sound, sound_s)
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """A file of silence and no pictures."""
    with av.open(str(path), "w") as file:
        _write_silence(file, file.add_stream("aac", rate=16000, layout="mono"), seconds)
    return path


def write_frames(
    folder: Path, frames: np.ndarray, name: str = "{:03d}.png", first: int = 1, **options: Any
) -> Path:
    """The frames as numbered images; `options` go to Pillow."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(frames, first):
        Image.fromarray(pixels).save(folder / name.format(number), **options)
    return folder


def cut(path: Path, share: float, target: Path) -> Path:
    """The first part of a file, as a full disk or a lost connection leaves it."""
    content = path.read_bytes()
    target.write_bytes(content[: int(share * len(content))])
    return target


def _write_silence(file: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    silence = np.zeros((1, 1600), dtype=np.float32)
    for place in range(round(seconds * 10)):
        frame = av.AudioFrame.from_ndarray(silence, "fltp", "mono")
        frame.sample_rate, frame.pts = 16000, place * 1600
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))
