"""Files that were cut are noticed in every container whose parts state their sizes, and whole ones are not."""

import struct
from pathlib import Path

import numpy as np
import pytest

from memae.video.ends import ASF_FILE_PROPERTIES, cut_short
from tests.video_files import moving_digits, write_video

FRAMES = moving_digits(60)
MP4, TS, PS, ASF, AVI = "mov,mp4,m4a,3gp,3g2,mj2", "mpegts", "mpeg", "asf", "avi"
MATROSKA = "matroska,webm"
FILES = {
    "h264.ts": (TS, "h264.ts", {}),
    "camera.ts": (TS, "h264.ts", {"mpegts_m2ts_mode": "1"}),
    "mpeg2.mpg": (PS, "mpeg2.mpg", {}),
    "mpeg1.mpg": (PS, "mpeg1.mpg", {}),
    "wmv2.wmv": (ASF, "wmv2.wmv", {}),
    "fragments.mp4": (MP4, "h264.mp4", {"movflags": "frag_keyframe+empty_moov"}),
    "dash.mp4": (MP4, "h264.mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "mpeg4.avi": (AVI, "mpeg4.avi", {}),
    "mjpeg.avi": (AVI, "mjpeg.avi", {}),
    "vp9.mkv": (MATROSKA, "vp9.mkv", {}),
    "vp8.webm": (MATROSKA, "vp8.webm", {}),
    "front.mp4": (MP4, "h264.mp4", {"movflags": "faststart"}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The content of a file of every kind."""
    root = tmp_path_factory.mktemp("files")
    return {
        name: write_video(root / name, FRAMES, like, container=options).read_bytes()
        for name, (_, like, options) in FILES.items()
    }


def check(tmp_path: Path, content: bytes, container: str) -> bool:
    path = tmp_path / "file"
    path.write_bytes(content)
    return cut_short(path, container)


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_whole_and_one_cut_anywhere_is_not(
    files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    content, container = files[name], FILES[name][0]
    assert not check(tmp_path, content, container)
    places = np.random.default_rng(0).integers(len(content) // 10, len(content), 200)
    found = [check(tmp_path, content[:place], container) for place in places.tolist()]
    # a cut between two packets leaves a whole file, and so does one in the 4 bytes before a packet of camera.ts
    assert np.mean(found) > 0.96


def test_a_recording_that_starts_within_a_packet_may_be_whole(files: dict[str, bytes], tmp_path: Path) -> None:
    late = files["h264.ts"][1000:]
    assert not check(tmp_path, late, TS)
    assert check(tmp_path, late[:-1], TS)


def test_what_is_no_part_of_the_container_is_nothing_to_go_by(files: dict[str, bytes], tmp_path: Path) -> None:
    assert not check(tmp_path, files["front.mp4"] + b"\x00\x01\x02\xff\x80\x81 notes of a camera", MP4)
    assert not check(tmp_path, files["mpeg2.mpg"] + b"notes of a camera", PS)
    assert not check(tmp_path, b"no pack at all" * 9, PS)
    assert not check(tmp_path, b"no packet at all" * 99, TS)
    assert not check(tmp_path, b"no header at all", ASF)
    assert not check(tmp_path, files["wmv2.wmv"][:99], "mpegvideo")
    for tail in (b"\n", bytes(3), bytes(1000)):
        assert not check(tmp_path, files["front.mp4"] + tail, MP4)
        assert not check(tmp_path, files["h264.ts"] + tail, TS)
        assert not check(tmp_path, files["mpeg4.avi"] + tail, AVI)
    assert not check(tmp_path, b"no segment at all" * 9, MATROSKA)
    assert not check(tmp_path, b"", AVI)


def test_a_stream_that_was_written_without_an_end_states_no_size(files: dict[str, bytes], tmp_path: Path) -> None:
    live = write_video(tmp_path / "live.mkv", FRAMES, "vp9.mkv", container={"live": "1"}).read_bytes()
    assert not check(tmp_path, live, MATROSKA)
    assert not check(tmp_path, live[: len(live) // 2], MATROSKA)
    content = bytearray(files["mpeg4.avi"])
    content[4:8] = bytes(4)
    assert not check(tmp_path, bytes(content[:-1000]), AVI)


def test_a_box_up_to_the_end_and_one_of_64_bits_are_read(tmp_path: Path) -> None:
    long = struct.pack(">I4sQ", 1, b"mdat", 24) + bytes(8)
    assert not check(tmp_path, long, MP4)
    assert check(tmp_path, long[:-1], MP4)
    assert not check(tmp_path, long + struct.pack(">I4s", 0, b"mdat") + bytes(5), MP4)


def test_a_program_that_says_that_it_ends_is_whole(files: dict[str, bytes], tmp_path: Path) -> None:
    assert not check(tmp_path, files["mpeg2.mpg"] + b"\0\0\1\xb9", PS)


def test_a_broadcast_states_no_size(files: dict[str, bytes], tmp_path: Path) -> None:
    content = bytearray(files["wmv2.wmv"][:-1000])
    at = content.find(ASF_FILE_PROPERTIES)
    content[at + 88] |= 1
    assert not check(tmp_path, bytes(content), ASF)
