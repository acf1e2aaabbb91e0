"""Addresses of cameras: which are allowed, how FFmpeg opens them, and what of them may be shown."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from memae.errors import ConfigError, DataError

__all__ = ["Address"]

SCHEMES = ("rtsp", "rtsps", "http", "https")
# FFmpeg goes by the content. Its readers of playlists (hls, concat, dash, ...) open whatever stands in there, so only
# these readers are allowed, and these only by the protocols of the address itself.
_READERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,mpeg,mpegts,mpegvideo,m4v,h264,hevc,mjpeg,mpjpeg"
_PLAYLISTS = (".m3u8", ".m3u", ".mpd", ".pls", ".asx", ".sdp", ".ffconcat")
_DEVICE = re.compile(r"/dev/video\d+")


@dataclass(frozen=True)
class Address:
    """Where a camera is.

    Args:
        text: rtsp://, rtsps://, http:// or https://, a device such as /dev/video0, or the path of a video file.

    Raises:
        ConfigError: another scheme, a playlist, or an address without a host.
        DataError: no such file.
    """

    text: str

    def __post_init__(self) -> None:
        scheme = self._scheme
        if scheme is None:
            _check_file(self)
            return
        if scheme not in SCHEMES:
            raise ConfigError(
                f"{self}: addresses of the scheme {scheme}:// are not opened; give rtsp://, http://, a device such as "
                "/dev/video0, or a video file"
            )
        parts = urlsplit(self.text)
        if not parts.hostname:
            raise ConfigError(f"{self}: names no host; write it as {scheme}://host/path")
        if parts.path.lower().endswith(_PLAYLISTS):
            raise ConfigError(
                f"{self}: is a playlist, which may point anywhere (HLS, DASH); give the camera's RTSP address or its "
                "MJPEG stream"
            )

    def __str__(self) -> str:
        """What may be shown: neither user and password, nor path and query, which hold tokens."""
        scheme = self._scheme
        if scheme is None:
            return self.text
        rest = self.text.partition("://")[2]
        host = re.split(r"[/?#]", rest.rpartition("@")[2], maxsplit=1)[0]
        return f"{scheme}://{host}"

    def __repr__(self) -> str:
        return f"Address({self})"

    @property
    def is_device(self) -> bool:
        """A webcam."""
        return self._scheme is None and bool(_DEVICE.fullmatch(self.text))

    @property
    def is_file(self) -> bool:
        """A video file, which has an end."""
        return self._scheme is None and not self.is_device

    @property
    def name(self) -> str:
        """A name for a camera that has none: the file or device without its folder and suffix, or the host."""
        bare = Path(self.text).stem if self._scheme is None else urlsplit(self.text).hostname or "camera"
        return re.sub(r"[^A-Za-z0-9_-]+", "-", bare).strip("-") or "camera"

    @property
    def url(self) -> str:
        """As FFmpeg takes it."""
        return f"file:{self.text}" if self.is_file else self.text

    @property
    def format(self) -> str | None:
        """The format to name to FFmpeg; None where the content tells."""
        return "v4l2" if self.is_device else None

    @property
    def options(self) -> dict[str, str]:
        """Options of FFmpeg."""
        match self._scheme:
            case "rtsp":
                return {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtp,tcp"}
            case "rtsps":
                return {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtp,tls,tcp"}
            case "http" | "https":
                return {"format_whitelist": _READERS, "protocol_whitelist": "http,https,tls,tcp"}
        return {} if self.is_device else {"format_whitelist": _READERS, "protocol_whitelist": "file"}

    @property
    def _scheme(self) -> str | None:
        """In small letters; None of a path."""
        scheme, slashes, _ = self.text.partition("://")
        return scheme.lower() if slashes and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) else None


def _check_file(address: Address) -> None:
    path = Path(address.text)
    if not path.exists():
        what = "device: is the webcam plugged in?" if address.is_device else "file; check the path"
        raise DataError(f"{path}: no such {what}")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; a camera is an address, a device or one video file")
    if address.is_device and not stat.S_ISCHR(path.stat().st_mode):
        raise DataError(f"{path}: is no device; give a webcam such as /dev/video0")
