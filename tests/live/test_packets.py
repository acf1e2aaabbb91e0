"""Files of packets on a disk that is full: whole, or not there."""

import errno
import os
import sys
from pathlib import Path

import av
import pytest

from memae.errors import WriteError
from memae.live.packets import PacketFile, StoredPacket
from tests.small_footage import scene
from tests.video_files import write_video

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE there")


def copied(path: Path, target: Path) -> bool:
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        file = PacketFile(target, stream)
        for packet in source.demux(stream):
            stored = StoredPacket.of(packet, float(packet.pts or 0))
            if stored:
                file.write(stored)
        return file.close()


def copied_below(limit: int, path: Path, target: Path) -> int:
    """Copies in a process that can write so many bytes: 0 if it went well, ENOSPC if it said that there is no room."""
    import resource
    import signal

    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    code = 1
    try:
        code = 0 if copied(path, target) else 2
    except WriteError as error:
        code = errno.ENOSPC if "no space left" in str(error) else 3
    finally:
        os._exit(code)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_file_is_whole_or_not_there(suffix: str, tmp_path: Path) -> None:
    path, target = write_video(tmp_path / "h264.mp4", scene(0)[0][:40]), tmp_path / "out" / f"copy.{suffix}"
    target.parent.mkdir()
    assert copied(path, target)
    size = target.stat().st_size
    with av.open(str(target)) as video:
        assert len(list(video.decode(video=0))) == 40
    target.unlink()
    for limit in (100, size // 4, size // 2, size - 500, size - 1):
        assert copied_below(limit, path, target) == errno.ENOSPC, (limit, size)
        assert list(target.parent.iterdir()) == []
    assert copied_below(size, path, target) == 0
    assert target.stat().st_size == size
