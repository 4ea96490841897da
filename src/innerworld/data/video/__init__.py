"""Video: read exactly the frames that are asked for, and write files that survive whatever kills the writer."""

from innerworld.data.video.backend import Backend, backend
from innerworld.data.video.index import FrameIndex, index_of
from innerworld.data.video.video import Video
from innerworld.data.video.writer import VideoWriter

__all__ = ["Backend", "FrameIndex", "Video", "VideoWriter", "backend", "index_of"]
