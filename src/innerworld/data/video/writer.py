"""`VideoWriter`: frames to a fragmented MP4, readable up to the last few frames whatever kills the writer."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from innerworld.disk import reason, sync
from innerworld.errors import UserError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Codec = Literal["h264", "lossless", "av1"]

FINE = 96
"""Pictures up to this side keep all their colours: at half the colours, as is usual, small pictures lose most."""

QUALITY = {"h264": 18, "lossless": 0, "av1": 24}
ENCODERS = {"h264": "libx264", "lossless": "libx264rgb", "av1": "libsvtav1"}


def keeps_colours(y: int, x: int) -> bool:
    """Whether H.264 is written without halving the colours."""
    return max(y, x) <= FINE or bool(y % 2 or x % 2)


class VideoWriter:
    """A context that writes one video. What it wrote is a legal file at any moment, and lasts when it is closed.

    `h264` keeps all colours for pictures up to 96 pixels and odd sizes (yuv444p), half of them else (yuv420p);
    `lossless` is H.264 in RGB, bit for bit; `av1` is smaller and slower, for even sizes from 64 pixels. `gop`: frames
    from one keyframe to the next: few make random clips fast, many make files small. `quality`: 0 (best) to 51 or 63.
    """

    def __init__(
        self, path: str | Path, fps: float, codec: Codec = "h264", gop: int = 16, quality: int | None = None
    ) -> None:
        """Raises `UserError` for settings that no file can have; the file is made with the first frame."""
        if codec not in ENCODERS:
            raise UserError(f"unknown codec {codec!r}: {', '.join(ENCODERS)}")
        if not 0 < fps <= 1000 or gop < 1:
            raise UserError(f"fps must be between 0 and 1000 and gop at least 1, got {fps} and {gop}")
        self.path = Path(path)
        self.codec: Codec = codec
        self.gop = gop
        self.quality = QUALITY[codec] if quality is None else quality
        self.rate = Fraction(fps).limit_denominator(1001)
        self.frames = 0
        self._shape: tuple[int, ...] | None = None

    def add(self, frame: np.ndarray) -> None:
        """Append one frame `y x c` (`uint8`, c is 1 or 3). Raises `UserError` for another kind, and a full disk."""
        import av

        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in (1, 3):
            raise UserError(f"{self.path}: a frame is uint8 (y, x, c) with c 1 or 3, got {frame.dtype} {frame.shape}")
        if self._shape is None:
            self._open(frame.shape[0], frame.shape[1])
            self._shape = frame.shape
        if frame.shape != self._shape:
            raise UserError(f"{self.path}: frame {self.frames} has shape {frame.shape}, the first had {self._shape}")
        rgb = np.ascontiguousarray(np.broadcast_to(frame, (*frame.shape[:2], 3)))
        picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        picture.pts, picture.time_base = self.frames, 1 / self.rate
        self._write(picture)
        self.frames += 1

    def close(self) -> None:
        """Write what the encoder still holds, and wait until the disk has it. Raises `UserError` without a frame."""
        if self._shape is None:
            raise UserError(f"{self.path}: a video needs at least one frame")
        self._write(None)
        self._close()
        sync(self.path)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif self._shape is not None:
            self._close()

    def _open(self, y: int, x: int) -> None:
        import av
        from av.error import FFmpegError

        fine = keeps_colours(y, x)
        if self.codec == "av1" and (y % 2 or x % 2 or min(y, x) < 64):
            raise UserError(f"{self.path}: AV1 wants even sizes from 64 pixels, got {x} x {y}: use h264 or lossless")
        # Fragments begin with a keyframe, and each has its own index: a reader needs nothing that comes later.
        flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        try:
            self._container = av.open(f"file:{self.path}", "w", format="mp4", options=flags)
        except (FFmpegError, OSError) as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        stream = cast("VideoStream", self._container.add_stream(ENCODERS[self.codec], self.rate, self._options()))
        stream.width, stream.height = x, y
        formats = {"h264": "yuv444p" if fine else "yuv420p", "lossless": "rgb24", "av1": "yuv420p"}
        stream.pix_fmt = formats[self.codec]
        stream.time_base = 1 / self.rate
        stream.codec_context.gop_size = self.gop
        stream.codec_context.thread_count = 1
        self._stream = stream

    def _options(self) -> dict[str, str]:
        if self.codec == "av1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only: it has no other switch
            return {"crf": str(self.quality), "preset": "8", "svtav1-params": "lp=1:fast-decode=1"}
        # What the encoder looks ahead is lost with it. Frames that are decoded out of order (B-frames) would make the
        # first one start late, which an index at the front cannot say, and LeRobot's own reader does not forgive.
        options = {"preset": "veryfast", "rc-lookahead": str(min(self.gop, 16)), "sc_threshold": "0", "bf": "0"}
        return {**options, "qp" if self.codec == "lossless" else "crf": str(self.quality)}

    def _write(self, picture: VideoFrame | None) -> None:
        from av.error import FFmpegError

        try:
            self._container.mux(self._stream.encode(picture))
        except (FFmpegError, OSError) as error:
            raise UserError(f"cannot write {self.path}: {_reason(error)}") from error

    def _close(self) -> None:
        from av.error import FFmpegError

        try:
            self._container.close()
        except (FFmpegError, OSError) as error:
            raise UserError(f"cannot write {self.path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return reason(error) if isinstance(error, OSError) else str(error)
