import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np
import pytest
from PIL import Image

from memae.errors import ConfigError, DataError, MissingExtraError
from memae.types import Box
from memae.video.encode import encoded_video
from memae.video.render import annotated, frame_caption, save_still

GREY = np.full((240, 320, 3), 110, dtype=np.uint8)
NO_ERROR = np.zeros((6, 8), dtype=np.float32)  # 40 px a place
HOT = NO_ERROR.copy()
HOT[1, 6] = 4.0
PLACE = (slice(40, 80), slice(240, 280))  # of HOT in GREY


def watch(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """The frames (H, W, 3) and times of a video file."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        assert decoded[0].format.name == "yuv420p"
        return [f.to_ndarray(format="rgb24").astype(int) for f in decoded], [f.time for f in decoded]


def written(
    tmp_path: Path, *frames: dict[str, Any], name: str = "a.mp4", threshold: float = 2.0
) -> tuple[list[np.ndarray], list[float]]:
    """A video of the frames, given as arguments of `annotated` and the anomaly map on its own, read back."""
    with encoded_video(tmp_path / name) as encoder:
        for number, arguments in enumerate(frames):
            given = {"frame": GREY, **arguments}
            anomaly_map = given.pop("anomaly_map", None)
            shown = None if anomaly_map is None else (anomaly_map, threshold)
            encoder.write(number / 10, annotated(**given, shown=shown))
    return watch(tmp_path / name)


def tint(pixels: np.ndarray) -> Any:
    """(H, W) how far pixels are from grey."""
    return pixels.max(axis=-1) - pixels.min(axis=-1)


class TestOverlay:
    @pytest.mark.parametrize(("name", "codec"), [("a.mp4", "h264"), ("a.MKV", "h264")])
    def test_frames_keep_their_times_though_the_rate_varies(self, tmp_path: Path, name: str, codec: str) -> None:
        times = [0.0, 0.04, 0.08, 0.2, 0.24, 1.0, 1.0 + 1001 / 30000, 2.5]
        with encoded_video(tmp_path / name) as encoder:
            for time_s in times:
                encoder.write(time_s, annotated(GREY))
        frames, found = watch(tmp_path / name)
        assert found == pytest.approx(times, abs=2e-5 if name.endswith("mp4") else 1e-3)
        assert frames[0].shape[1] == 320 and frames[0].shape[0] >= 240
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].codec_context.name == codec
            assert container.duration / av.time_base == pytest.approx(
                2.54, abs=0.01
            )  # the last frame is shown too
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_heat_is_where_the_error_is_and_nowhere_else(self, tmp_path: Path) -> None:
        (pixels,), _ = written(tmp_path, {"anomaly_map": HOT})
        assert tint(pixels[PLACE])[10:30, 10:30].min() > 60
        away = np.ones((240, 320), dtype=bool)
        away[20:100, 220:300] = False  # the heat fades over half a place
        assert np.abs(pixels[:240][away] - 110).max() < 12

    def test_heat_begins_at_half_the_threshold_and_grows(self, tmp_path: Path) -> None:
        levels = [0.9, 1.2, 2.0, 3.0, 4.0]
        frames, _ = written(tmp_path, *[{"anomaly_map": HOT / 4 * level} for level in levels])
        seen = [np.abs(pixels[PLACE][15:25, 15:25] - 110).max() for pixels in frames]
        assert seen[0] < 5
        assert all(fainter + 8 < stronger for fainter, stronger in pairwise(seen))

    def test_error_without_number_end_or_threshold_is_drawn(self, tmp_path: Path) -> None:
        odd = NO_ERROR.copy()
        odd[1, 6], odd[3, 3] = np.inf, np.nan
        frames, _ = written(tmp_path, {"anomaly_map": odd})
        assert tint(frames[0][PLACE])[10:30, 10:30].min() > 60
        assert tint(frames[0][120:160, 120:160]).max() < 12
        frames, _ = written(tmp_path, {"anomaly_map": np.where(HOT, HOT, np.nan)}, threshold=-1.0)
        assert tint(frames[0][120:160, 120:160]).max() < 12
        frames, _ = written(tmp_path, {"anomaly_map": HOT}, threshold=0.0)
        assert tint(frames[0][PLACE])[10:30, 10:30].min() > 60
        assert tint(frames[0][120:160, 120:160]).max() < 12

    def test_boxes_are_drawn_around_their_place(self, tmp_path: Path) -> None:
        (pixels,), _ = written(tmp_path, {"boxes": [Box(100, 60, 140, 90), Box(0, 0, 320, 240)]})
        assert tint(pixels[63:87, 103:137]).max() < 25  # the inside is left, but for what the codec smears
        for side in (pixels[75, 96:100], pixels[75, 140:144], pixels[56:60, 120], pixels[90:94, 120]):
            red, _, blue = side[np.argmax(tint(side))]
            assert blue > red + 60
        assert (pixels[1:238, :2, 2] > pixels[1:238, :2, 0] + 40).all()  # one as large as the frame stays visible

    def test_an_event_has_a_red_border_and_a_sign(self, tmp_path: Path) -> None:
        (quiet, event), _ = written(tmp_path, {}, {"in_event": True})
        red = (event[..., 0] > 170) & (event[..., 1] < 90)
        assert red[:2, 20:-20].all() and red[20:230, :2].all() and red[20:230, -2:].all()
        assert red[242:].sum() > 300
        assert not ((quiet[..., 0] > 170) & (quiet[..., 1] < 90) & (quiet[..., 2] < 60))[:240].any()

    def test_the_caption_stands_below_the_frame(self, tmp_path: Path) -> None:
        frames, _ = written(tmp_path, {}, {"caption": frame_caption(12.3, 4.1, 3)}, {"caption": "\udce9 \n ö 門"})
        assert all((np.abs(pixels[:236] - 110) < 8).all() for pixels in frames)
        bright = [(pixels[240:258] > 180).all(axis=-1).sum() for pixels in frames]
        assert bright[0] == 0 and bright[1] > 100 and bright[2] > 10

    def test_without_an_anomaly_map_there_is_no_legend(self, tmp_path: Path) -> None:
        with_map, _ = written(tmp_path, {"anomaly_map": NO_ERROR})
        without, _ = written(tmp_path, {})
        assert without[0].shape[0] < with_map[0].shape[0]
        assert tint(without[0]).max() < 12 < tint(with_map[0][240:]).max()

    @pytest.mark.parametrize(("height", "width"), [(241, 321), (240, 321), (47, 33), (1, 1)])
    def test_odd_and_small_frames_are_written(self, tmp_path: Path, height: int, width: int) -> None:
        frames, _ = written(
            tmp_path, {"frame": np.full((height, width, 3), 200, np.uint8), "anomaly_map": HOT * 0}
        )
        assert frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0
        assert frames[0].shape[1] >= 320
        zoom = math.ceil(320 / width)
        assert np.abs(frames[0][: height * zoom - 8, : width * zoom] - 200).max(initial=0) < 12

    def test_a_box_in_a_small_frame_grows_with_it(self, tmp_path: Path) -> None:
        small = np.full((64, 64, 3), 110, np.uint8)
        (pixels,), _ = written(tmp_path, {"frame": small, "boxes": [Box(16, 16, 32, 48)]})
        cyan = pixels[:320, :, 2] > pixels[:320, :, 0] + 60
        rows, columns = np.flatnonzero(cyan.any(axis=1)), np.flatnonzero(cyan.any(axis=0))
        assert np.abs([rows[0] - 80, rows[-1] - 240, columns[0] - 80, columns[-1] - 160]).max() <= 4

    def test_equal_times_still_make_a_video(self, tmp_path: Path) -> None:
        with encoded_video(tmp_path / "a.mp4") as encoder:
            for time_s in (0.0, 0.1, 0.1, 0.1, 0.2):
                encoder.write(time_s, GREY)
        assert watch(tmp_path / "a.mp4")[1] == pytest.approx([0, 0.1, 0.1, 0.1, 0.2], abs=1e-3)

    def test_the_callers_frame_is_left_as_it_was(self, tmp_path: Path) -> None:
        frame = GREY.copy()
        written(tmp_path, {"frame": frame, "anomaly_map": HOT, "boxes": [Box(0, 0, 99, 99)], "in_event": True})
        assert (frame == 110).all()

    def test_an_error_leaves_the_old_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_text("old")
        with pytest.raises(RuntimeError, match="source"), encoded_video(tmp_path / "a.mp4") as encoder:
            encoder.write(0, GREY)
            raise RuntimeError("source")
        assert (tmp_path / "a.mp4").read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_no_frame_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a.mp4: no frame was given"), encoded_video(tmp_path / "a.mp4"):
            pass
        assert not list(tmp_path.iterdir())

    def test_another_suffix_is_an_error(self, tmp_path: Path) -> None:
        with (
            pytest.raises(ConfigError, match=r"a.avi: cannot write a video with the suffix '.avi'; give .mp4"),
            encoded_video(tmp_path / "a.avi"),
        ):
            pass

    def test_without_pyav_it_names_the_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(MissingExtraError, match=r"memae\[video\]"), encoded_video(tmp_path / "a.mp4"):
            pass

    def test_a_pyav_without_x264_writes_mpeg4(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(name: str, mode: str) -> NoReturn:
            raise av.codec.codec.UnknownCodecError(name)

        monkeypatch.setattr(av.codec, "Codec", unknown)
        (pixels,), _ = written(tmp_path, {"anomaly_map": HOT})
        assert tint(pixels[PLACE])[10:30, 10:30].min() > 50
        with av.open(str(tmp_path / "a.mp4")) as container:
            assert container.streams.video[0].codec_context.name == "mpeg4"


@pytest.mark.parametrize(
    ("time_s", "clock"),
    [(0, "00:00.0"), (12.34, "00:12.3"), (59.96, "01:00.0"), (3599.99, "1:00:00.0"), (36061.5, "10:01:01.5")],
)
def test_a_frame_caption_tells_time_score_and_times_of_the_threshold(time_s: float, clock: str) -> None:
    assert frame_caption(time_s, 4.1234, 3) == f"{clock}   score 4.12 = 1.37 x threshold"
    assert frame_caption(time_s, 4.1234, 0) == f"{clock}   score 4.12"
    assert (
        frame_caption(time_s, 4.1234, 3, "appearance") == f"{clock}   score 4.12 = 1.37 x threshold   appearance"
    )
    assert "appearance" not in frame_caption(time_s, 2.9, 3, "appearance")  # below the threshold nothing is wrong


class TestStill:
    @pytest.mark.parametrize(("height", "width", "panel"), [(240, 320, 480), (90, 120, 480), (1080, 1920, 960)])
    def test_the_frame_stands_beside_its_heat(self, tmp_path: Path, height: int, width: int, panel: int) -> None:
        frame = np.full((height, width, 3), 110, np.uint8)
        box = Box(6 * width // 8, height // 6, 7 * width // 8, 2 * height // 6)
        save_still(tmp_path / "a.png", frame, HOT, 2.0, [box], "gate.mp4   00:12.3")
        with Image.open(tmp_path / "a.png") as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
            pixels = np.asarray(picture).astype(int)
        assert 2 * panel < pixels.shape[1] < 2 * panel + 40
        top = np.flatnonzero((pixels[:, panel // 3] == 110).all(axis=-1))[0]
        tall, place = panel * height // width, panel // 8
        middle = (top + tall * 3 // 12, panel * 13 // 16)
        as_filmed, heat = tint(pixels[top : top + tall, :panel]), tint(pixels[top : top + tall, -panel:])
        inside = (slice(middle[0] - top - 9, middle[0] - top + 9), slice(middle[1] - 9, middle[1] + 9))
        assert as_filmed[inside].max() == 0
        assert heat[inside].min() > 60
        cyan = as_filmed > 100
        assert np.flatnonzero(cyan.any(axis=0))[[0, -1]] == pytest.approx([6 * place, 7 * place], abs=4)
        assert (heat > 100).sum() > cyan.sum() > 100

    def test_it_is_replaced_whole(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("old")
        save_still(tmp_path / "a.png", GREY, NO_ERROR, 2.0)
        with Image.open(tmp_path / "a.png") as picture:
            picture.load()
        assert len(list(tmp_path.iterdir())) == 1
