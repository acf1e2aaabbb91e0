"""What a person looks at after a video was scored: video with errors as heat, stills, clips, and rows of events."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from memae.errors import ConfigError, DataError, MissingExtraError
from memae.files import atomic_file
from memae.image.heat import FULL_HEAT, NO_HEAT, draw_heat, heat_colours
from memae.types import FrameKey
from memae.video.events import Event
from memae.video.regions import Box

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

__all__ = ["OverlayWriter", "frame_caption", "save_clips", "save_still", "write_events"]

CONTAINERS = {".mp4": "mp4", ".mkv": "matroska"}
TICKS_PER_S = 60_000  # whole ticks a frame at 24, 25, 30, 50, 60 and 29.97 a second; MPEG-4 can do at most 65,535

LEAST_WIDTH = 320  # px of a video with a caption; smaller frames are drawn larger by a whole factor
PANEL_WIDTHS = (480, 960)  # px of one picture of a still, at least and at most
NEAR_PEAK_S = 0.5  # for so long around the peak of an event its place tells where things are

PAPER, INK, FAINT = (24, 24, 24), (255, 255, 255), (170, 170, 170)
ALARM = (225, 30, 30)
BOX = (0, 235, 255)  # no colour of the heat, and rare in footage


class OverlayWriter:
    """A video of frames with their errors as heat, boxes around places and a caption below; for a `with` block.

    Frames keep their presentation times. The file is there when the block has ended without an error.

    Args:
        path: .mp4 or .mkv, replaced if there is one.
        threshold: that the heat is measured by, in the units of the error maps; None for a video without heat.

    Raises:
        ConfigError: another suffix.
        MissingExtraError: PyAV is not installed.
        DataError: the block ended before any frame was written.
    """

    def __init__(self, path: Path, threshold: float | None = None) -> None:
        if path.suffix.lower() not in CONTAINERS:
            raise ConfigError(f"{path}: cannot write a video with the suffix {path.suffix!r}; give .mp4 or .mkv")
        self._path = path
        self._threshold = threshold
        self._stack = ExitStack()
        self._encoder: _Encoder | None = None

    def __enter__(self) -> OverlayWriter:
        self._encoder = self._stack.enter_context(_opened(self._path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._encoder = None  # it holds the frames that x264 looks ahead at
        self._stack.__exit__(kind, error, trace)

    def write(
        self,
        time_s: float,
        frame: np.ndarray,
        error_map: np.ndarray | None = None,
        boxes: Sequence[Box] = (),
        caption: str = "",
        in_event: bool = False,
    ) -> None:
        """Adds one frame.

        Args:
            time_s: presentation time from the beginning of the file, later than that of the frame before.
            frame: (H, W, 3) uint8 RGB, of one size for the whole file.
            error_map: (h, w) over the whole frame; NaN has no heat.
            boxes: drawn around, in px of the frame.
            caption: one line below the frame.
            in_event: draws a red border around the frame and a red sign beside the caption.
        """
        zoom = math.ceil(LEAST_WIDTH / frame.shape[1])
        picture = _resized(frame, frame.shape[1] * zoom, frame.shape[0] * zoom)
        if error_map is not None and self._threshold is not None:
            draw_heat(picture, error_map, self._threshold)
        _draw_boxes(picture, boxes, zoom)
        if in_event:
            _draw_border(picture)
        strip = _strip(picture.width, caption, in_event, legend=self._threshold is not None)
        assert self._encoder is not None, "use the writer in a with block"
        self._encoder.write(time_s, np.concatenate([np.asarray(picture), np.asarray(strip)]))


def frame_caption(time_s: float, score: float, threshold: float) -> str:
    """A line about a frame: its time, its score, and how many times the threshold that is."""
    times = f" = {score / threshold:.2f} x threshold" if threshold > 0 else ""
    return f"{_clock(time_s)}   score {score:.3g}{times}"


def save_still(
    path: Path,
    frame: np.ndarray,
    error_map: np.ndarray,
    threshold: float,
    boxes: Sequence[Box] = (),
    caption: str = "",
) -> None:
    """Saves a PNG of one frame as filmed, with the same frame under the heat of its errors beside it.

    Args:
        path: of the PNG, replaced if there is one.
        frame: (H, W, 3) uint8 RGB.
        error_map: (h, w) over the whole frame, NaN has no heat.
        threshold: that the heat is measured by, in the units of the error map.
        boxes: drawn around, in px of the frame.
        caption: one line below.
    """
    height, width = frame.shape[:2]
    zoom = float(np.clip(width, *PANEL_WIDTHS)) / width
    panels = [_resized(frame, round(width * zoom), max(1, round(height * zoom))) for _ in range(2)]
    draw_heat(panels[1], error_map, threshold)
    for panel in panels:
        _draw_boxes(panel, boxes, zoom)
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


def save_clips(
    frames: Iterable[tuple[FrameKey, np.ndarray]],
    clips: Iterable[tuple[Path, Event]],
    before_s: float = 3.0,
    after_s: float = 3.0,
    boxes: Callable[[FrameKey], Sequence[Box]] | None = None,
) -> None:
    """Cuts a video of each event, with some footage before and after it, in one pass over the frames.

    Frames are read one at a time, and no further than the last event needs. Captions show the time in the whole
    video; a clip itself begins at 0. A frame of the event has a red border.

    Args:
        frames: of one video, in order of time: its key and (H, W, 3) uint8 RGB.
        clips: where to, an .mp4 or .mkv file, and which event of this video.
        before_s: footage before the first frame of the event.
        after_s: footage after its last one.
        boxes: what to draw around in a frame, in its px; None draws the event's region near its peak.

    Raises:
        ConfigError: a file of another suffix.
        DataError: no frame lies in the time of an event.
        MissingExtraError: PyAV is not installed.
    """
    waiting = [_Clip(event.start_s - before_s, event.end_s + after_s, event, path) for path, event in clips]
    waiting.sort(key=lambda clip: clip.begin_s, reverse=True)
    running: list[_Clip] = []
    with ExitStack() as files:
        for key, frame in frames if waiting else ():
            while waiting and waiting[-1].begin_s <= key.time_s:
                running.append(files.enter_context(waiting.pop()))
            for clip in running:
                clip.write(key, frame, boxes)
            running = [clip for clip in running if clip.end_s >= key.time_s]
            if not waiting and not running:
                break
    for clip in waiting:
        raise DataError(
            f"{clip.path}: no frame was given of the event from {clip.event.start_s:.3f} s on; give those of "
            f"{clip.event.video} from its beginning"
        )


def write_events(path: Path, events: Iterable[Event]) -> int:
    """Writes one JSON object a line and event, and returns how many; times in seconds, region in px.

    A number that is not finite becomes null.
    """
    count = 0
    with atomic_file(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        for event in events:
            file.write(json.dumps(_row(event), ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


class _Clip:
    """The video of one event; it opens its file with its first frame and ends it after its last one."""

    def __init__(self, begin_s: float, end_s: float, event: Event, path: Path) -> None:
        self.begin_s, self.end_s = begin_s, end_s
        self.event, self.path = event, path
        self._writer = OverlayWriter(path)
        self._first_s: float | None = None

    def __enter__(self) -> _Clip:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def write(self, key: FrameKey, frame: np.ndarray, boxes: Callable[[FrameKey], Sequence[Box]] | None) -> None:
        if key.time_s > self.end_s:
            self._writer.__exit__(None, None, None)  # now, so that a long video holds no encoder for each event
            return
        self._first_s = key.time_s if self._first_s is None else self._first_s
        self._writer.write(
            key.time_s - self._first_s,
            frame,
            boxes=boxes(key) if boxes else self._place(key),
            caption=f"{_clock(key.time_s)}   {_text(key.video)}",
            in_event=self.event.first_frame <= key.frame <= self.event.last_frame,
        )

    def _place(self, key: FrameKey) -> tuple[Box, ...]:
        region = self.event.region
        return (region,) if region and abs(key.time_s - self.event.peak_s) <= NEAR_PEAK_S else ()


class _Encoder:
    """Frames into a container, the codec opened for the size of the first one."""

    def __init__(self, container: OutputContainer) -> None:
        self._container = container
        self._stream: VideoStream | None = None
        self._last = -1

    def write(self, time_s: float, pixels: np.ndarray) -> None:
        import av

        height, width = pixels.shape[:2]
        even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")  # yuv420p halves both sides
        if self._stream is None:
            self._stream = _add_stream(self._container, even.shape[0], even.shape[1])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        self._last = max(round(time_s * TICKS_PER_S), self._last + 1)  # no container takes one time twice
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS_PER_S)
        self._container.mux(self._stream.encode(frame))

    def finish(self, path: Path) -> None:
        if self._stream is None:
            raise DataError(f"{path}: no frame was given to write; a video needs at least one")
        self._container.mux(self._stream.encode(None))


@contextmanager
def _opened(path: Path) -> Iterator[_Encoder]:
    try:
        import av
    except ImportError:
        raise MissingExtraError("writing video", "video") from None
    kind = CONTAINERS[path.suffix.lower()]  # named, because the name of the file in progress does not tell it
    with atomic_file(path) as part, av.open(str(part), "w", format=kind) as container:
        encoder = _Encoder(container)
        yield encoder
        encoder.finish(path)


def _add_stream(container: OutputContainer, height: int, width: int) -> VideoStream:
    import av

    try:
        av.codec.Codec("libx264", "w")
    except ValueError:  # a PyAV that was built without GPL code
        stream = container.add_stream("mpeg4", rate=25)
        stream.bit_rate = 4 * height * width
    else:
        # with B-frames, which are written out of order, an MP4 of varying frame rate would lose its last second
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "23", "bf": "0"})
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
    return stream


def _resized(frame: np.ndarray, width: int, height: int) -> Image.Image:
    picture = Image.fromarray(frame)
    return (
        picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.BICUBIC)
    )


def _draw_boxes(picture: Image.Image, boxes: Sequence[Box], zoom: float) -> None:
    """Lines around the boxes, not on them, with a dark edge that shows on bright places."""
    draw = ImageDraw.Draw(picture)
    line = max(2, picture.width // 400)
    for box in boxes:
        left, top, right, bottom = (round(side * zoom) for side in box)
        for around, width, colour in ((line + 1, 1, PAPER), (line, line, BOX)):
            corners = (
                max(left - around, 0),
                max(top - around, 0),
                min(right - 1 + around, picture.width - 1),
                min(bottom - 1 + around, picture.height - 1),
            )
            draw.rectangle(corners, outline=colour, width=width)


def _draw_border(picture: Image.Image) -> None:
    corners = (0, 0, picture.width - 1, picture.height - 1)
    ImageDraw.Draw(picture).rectangle(corners, outline=ALARM, width=max(3, picture.width // 120))


def _strip(width: int, caption: str, in_event: bool, legend: bool, size: int | None = None) -> Image.Image:
    """The lines below a picture: its caption, with a sign during an event, and what the heat means."""
    size = size or _font_px(width)
    strip = _legend(width, size).copy() if legend else Image.new("RGB", (width, 2 * size), PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((size // 2, size), _text(caption), INK, _font(size), anchor="lm")
    if in_event:
        wide = draw.textlength("EVENT", _font(size)) + size
        draw.rectangle((width - wide, 0, width, 2 * size - 1), fill=ALARM)
        draw.text((width - wide / 2, size), "EVENT", INK, _font(size), anchor="mm")
    return strip


@cache
def _legend(width: int, size: int) -> Image.Image:
    """An empty caption with the colours of heat below it."""
    legend = Image.new("RGB", (width, 4 * size), PAPER)
    draw = ImageDraw.Draw(legend)
    font, middle, left = _font(size), 3 * size - size // 2, size // 2

    def write(text: str) -> None:
        nonlocal left
        draw.text((left, middle), text, FAINT, font, anchor="lm")
        left += round(draw.textlength(text, font)) + size // 2

    write("error / threshold:   0.5")
    bar = Image.fromarray(heat_colours()[None]).resize((8 * size, size + 4))
    legend.paste(bar, (left, middle - size // 2 - 2))
    at_threshold = left + round(8 * size * (1 - NO_HEAT) / (FULL_HEAT - NO_HEAT))
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


def _clock(time_s: float) -> str:
    """Minutes and seconds, and hours once there are any: 00:12.3."""
    tenths = round(time_s * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:" if hours else "") + f"{minutes:02}:{rest // 10:02}.{rest % 10}"


def _row(event: Event) -> dict[str, Any]:
    return {
        "video": _text(event.video),
        "start_s": _rounded(event.start_s),
        "end_s": _rounded(event.end_s),
        "first_frame": event.first_frame,
        "last_frame": event.last_frame,
        "peak_s": _rounded(event.peak_s),
        "peak_frame": event.peak_frame,
        "peak_score": _significant(event.peak),
        "region": event.region._asdict() if event.region else None,
        "items": [{"item": use.item, "weight": _rounded(use.weight, 4)} for use in event.items],
        "still": None if event.still is None else _text(event.still),
        "clip": None if event.clip is None else _text(event.clip),
    }


def _rounded(value: float, digits: int = 3) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None


def _significant(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _text(text: str) -> str:
    """Text that any file and font can hold: a file name of other bytes than UTF-8 shows them as \\xe9."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
