"""A camera that speaks RTSP, behind a password, which goes away, stalls and comes back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from memae.live.address import Address
from memae.live.capture import Capture
from memae.live.record import record
from tests.live.rtsp_server import PASSWORD, RtspServer
from tests.live.waiting import until
from tests.small_footage import scene


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer(scene(0)[0]) as one:
        yield one


def test_it_goes_away_stalls_and_comes_back(server: RtspServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    capture = Capture("yard", Address(server.url), 25, (32, 48), 1000, read_s=1.0, first_wait_s=0.1)
    capture.start()
    again = None
    try:
        until(lambda: capture.is_up)
        assert all("RTP/AVP/TCP" in transport for transport in server.asked)
        until(lambda: any(one.begins for one in capture.take()))
        server.stalled = True
        until(lambda: capture.reconnects >= 1)
        server.stalled = False
        until(lambda: any(one.begins for one in capture.take()))
        before = capture.reconnects
        server.close()
        until(lambda: capture.reconnects > before)
        assert not capture.is_up
        again = RtspServer(scene(0)[0][:, ::2, ::2], port=server.port)
        until(lambda: any(one.begins and one.picture.frame.width == 36 for one in capture.take()))
    finally:
        capture.stop()
        if again:
            again.close()
    assert "camera yard: up, 72 x 48 px" in caplog.text
    assert "connecting again" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_wrong_password_is_told_and_not_shown(server: RtspServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    address = Address(server.url.replace(f":{PASSWORD}@", ":not-hush@"))
    capture = Capture("yard", address, 25, (32, 48), 1000, read_s=1.0, first_wait_s=0.1)
    capture.start()
    until(lambda: capture.is_over)
    capture.stop()
    assert capture.failed
    assert "401" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_recording_has_the_packets_of_the_camera(server: RtspServer, tmp_path: Path) -> None:
    (path,) = record(Address(server.url), tmp_path, 2.0)
    with av.open(str(path)) as video:
        assert video.streams.video[0].codec_context.name == "h264"
        packets = [packet for packet in video.demux(video=0) if packet.size]
    assert packets[0].is_keyframe
    sent = {unit for picture in server.pictures for unit in picture if unit[0] & 0x1F in (1, 5)}
    for packet in packets:
        assert any(unit in bytes(packet) for unit in sent)
    assert len(packets) > 10
