"""Frames of video drawn for a person: with their anomaly map, boxes and a caption, as a video or as a still."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from memae.files.atomic import atomic_file
from memae.plots.anomaly_map import CLEAR, STRONGEST, draw_anomaly_map, map_colours
from memae.plots.regions import draw_boxes
from memae.types import Box

__all__ = ["annotated", "clock", "frame_caption", "plain_text", "save_still"]

LEAST_WIDTH = 320  # px of a video with a caption; smaller frames are drawn larger by a whole factor
PANEL_WIDTHS = (480, 960)  # px of one picture of a still, at least and at most

PAPER, INK, FAINT = (24, 24, 24), (255, 255, 255), (170, 170, 170)
ALARM = (225, 30, 30)


def annotated(
    frame: np.ndarray,
    boxes: Sequence[Box] = (),
    caption: str = "",
    shown: tuple[np.ndarray, float] | None = None,
    *,
    in_event: bool = False,
) -> np.ndarray:
    """(H', W', 3) uint8 RGB: a frame with boxes around places and a caption below.

    Frames of less than 320 px of width are enlarged by a whole factor.

    Args:
        frame: (H, W, 3) uint8 RGB.
        boxes: drawn around, in px of the frame.
        caption: one line below the frame.
        shown: an anomaly map (h, w) over the whole frame, in which NaN has no colour, and its threshold, that the
            colours are measured by.
        in_event: draws a red border around the frame and a red sign beside the caption.
    """
    zoom = math.ceil(LEAST_WIDTH / frame.shape[1])
    picture = _resized(frame, frame.shape[1] * zoom, frame.shape[0] * zoom)
    if shown:
        draw_anomaly_map(picture, *shown)
    draw_boxes(picture, boxes, zoom)
    if in_event:
        width = max(3, picture.width // 120)
        ImageDraw.Draw(picture).rectangle(
            (0, 0, picture.width - 1, picture.height - 1), outline=ALARM, width=width
        )
    strip = _strip(picture.width, caption, in_event, legend=shown is not None)
    return np.concatenate([np.asarray(picture), np.asarray(strip)])


def frame_caption(time_s: float, score: float, threshold: float, part: str = "motion") -> str:
    """A line about a frame: its time, its score, how many times the threshold that is, and whether it is appearance."""
    times = f" = {score / threshold:.2f} x threshold" if threshold > 0 else ""
    still = "   appearance" if part == "appearance" and score >= threshold else ""
    return f"{clock(time_s)}   score {score:.3g}{times}{still}"


def save_still(
    path: Path,
    frame: np.ndarray,
    anomaly_map: np.ndarray,
    threshold: float,
    boxes: Sequence[Box] = (),
    caption: str = "",
) -> None:
    """Saves a PNG of one frame as filmed, beside the same frame under its anomaly map.

    Args:
        path: of the PNG, replaced if there is one.
        frame: (H, W, 3) uint8 RGB.
        anomaly_map: (h, w) over the whole frame, NaN has no colour.
        threshold: of the anomaly map, that its colours are measured by.
        boxes: drawn around, in px of the frame.
        caption: one line below.
    """
    height, width = frame.shape[:2]
    zoom = float(np.clip(width, *PANEL_WIDTHS)) / width
    panels = [_resized(frame, round(width * zoom), max(1, round(height * zoom))) for _ in range(2)]
    draw_anomaly_map(panels[1], anomaly_map, threshold)
    for panel in panels:
        draw_boxes(panel, boxes, zoom)
    size = _font_px(2 * panels[0].width)
    page = Image.new("RGB", (2 * panels[0].width + size // 2, panels[0].height + 2 * size), PAPER)
    for panel, title, left in zip(
        panels, ("as filmed", "where the error is"), (0, panels[0].width + size // 2), strict=True
    ):
        page.paste(panel, (left, 2 * size))
        ImageDraw.Draw(page).text((left + size // 2, size), title, INK, _font(size), anchor="lm")
    strip = _strip(page.width, caption, in_event=False, legend=True, size=size)
    whole = np.concatenate([np.asarray(page), np.asarray(strip)])
    with atomic_file(path) as part:
        Image.fromarray(whole).save(part, format="png")


def _resized(frame: np.ndarray, width: int, height: int) -> Image.Image:
    picture = Image.fromarray(frame)
    return (
        picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.BICUBIC)
    )


def _strip(width: int, caption: str, in_event: bool, legend: bool, size: int | None = None) -> Image.Image:
    """The strip below a picture: its caption, a sign during an event, and the legend of the colours."""
    size = size or _font_px(width)
    strip = _legend(width, size).copy() if legend else Image.new("RGB", (width, 2 * size), PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((size // 2, size), plain_text(caption), INK, _font(size), anchor="lm")
    if in_event:
        wide = draw.textlength("EVENT", _font(size)) + size
        draw.rectangle((width - wide, 0, width, 2 * size - 1), fill=ALARM)
        draw.text((width - wide / 2, size), "EVENT", INK, _font(size), anchor="mm")
    return strip


@cache
def _legend(width: int, size: int) -> Image.Image:
    """An empty caption with the colours of the anomaly map below it."""
    legend = Image.new("RGB", (width, 4 * size), PAPER)
    draw = ImageDraw.Draw(legend)
    font, middle, left = _font(size), 3 * size - size // 2, size // 2

    def write(text: str) -> None:
        nonlocal left
        draw.text((left, middle), text, FAINT, font, anchor="lm")
        left += round(draw.textlength(text, font)) + size // 2

    write("error / threshold:   0.5")
    bar = Image.fromarray(map_colours()[None]).resize((8 * size, size + 4))
    legend.paste(bar, (left, middle - size // 2 - 2))
    at_threshold = left + round(8 * size * (1 - CLEAR) / (STRONGEST - CLEAR))
    draw.text((at_threshold, middle), "1", INK, font, anchor="mm")
    left += 8 * size + size // 2
    write("2 and more")
    return legend


def _font_px(width: int) -> int:
    return max(11, min(width // 50, 28))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib's own font knows more alphabets than Pillow's, and file names come in all of them
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def clock(time_s: float) -> str:
    """Minutes and seconds, and hours once there are any: 00:12.3."""
    tenths = round(time_s * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:" if hours else "") + f"{minutes:02}:{rest // 10:02}.{rest % 10}"


def plain_text(text: str) -> str:
    """Text that any file and font can hold: a file name of other bytes than UTF-8 shows them as \\xe9."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
