"""The old place of `memae.video.source`; it goes with 0.2.0."""

from memae.video.frames import FrameKey, Frames
from memae.video.source import VideoSource

__all__ = ["FrameKey", "Frames", "VideoSource"]
