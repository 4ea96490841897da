"""The two ways to decode: PyAV with one reused colour converter, and TorchCodec; both give frames by exact number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import numpy as np

from innerworld.data.video.container import open_video
from innerworld.data.video.index import MAX_PIXELS, FrameIndex
from innerworld.errors import UserError

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

NEAR = 3
"""Packets decoded in vain rather than seeking a keyframe that is this near."""


FORGETS = "mmco: unref short failure"


class Decoder(Protocol):
    """An open video. It is told frames in rising order, and keeps its place for the next call."""

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """Frames `t y x c`. Raises `UserError` that names the file and the frame."""
        ...


class AvDecoder:
    """PyAV. Strict: a frame that is damaged is an error, not a guess at what it may have looked like."""

    def __init__(self, index: FrameIndex) -> None:
        from av.video.reformatter import VideoReformatter

        self.index = index
        self._convert = VideoReformatter()  # a new one for each frame costs more than decoding it
        self._strict = True
        self._open()

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        from av.error import FFmpegError

        out = np.empty((len(numbers), *self.index.size, 3), np.uint8)
        for i, number in enumerate(numbers):
            try:
                self._write(self._frame(number), out[i])
            except FFmpegError as error:
                if not (self._strict and self._only_forgets(number)):
                    raise UserError(f"{self.index.path}: frame {number} is damaged ({error.strerror})") from error
                self._strict = False
                self._open()
                self._write(self._frame(number), out[i])
        return out

    def _only_forgets(self, number: int) -> bool:
        """Whether FFmpeg's only complaint is that a picture it is to forget is gone: some encoders ask for that."""
        from av import logging
        from av.error import FFmpegError

        level = logging.get_level()
        logging.set_level(logging.ERROR)
        self._open()
        try:
            with logging.Capture() as complaints, suppress(FFmpegError):
                self._frame(number)
        finally:
            logging.set_level(level)
            self._open()
        return all(FORGETS in text for _, _, text in complaints)

    def _open(self) -> None:
        self._container, self._stream = open_video(self.index.path)
        context = self._stream.codec_context
        context.thread_count = 1  # workers are what runs side by side
        context.options = {"max_pixels": str(MAX_PIXELS), **({"err_detect": "explode"} if self._strict else {})}
        self._begin()

    def _begin(self) -> None:
        self._packets: Iterator[Packet] = self._container.demux(self._stream)
        self._fed = 0  # the packet that the decoder gets next
        self._last = -1  # the frame that it gave last
        self._ready: list[VideoFrame] = []
        self._ended = False

    def _frame(self, number: int) -> VideoFrame:
        """Go on from where the decoder is if that is the shortest way, else seek."""
        start = int(self.index.starts[number])
        if self._ended or number <= self._last or start > self._fed + NEAR:
            self._seek(start)
        wanted = int(self.index.pts[number])
        while True:
            for frame in self._decoded():
                if frame.pts == wanted:
                    self._last = number
                    return frame
                if frame.pts is not None and frame.pts > wanted:
                    self._ended = True  # its place is lost
                    raise UserError(f"{self.index.path}: frame {number} is damaged (it cannot be decoded)")

    def _decoded(self) -> Iterator[VideoFrame]:
        """What is ready; when nothing is, the decoder gets one packet more."""
        if not self._ready:
            if self._ended:
                raise UserError(f"{self.index.path}: frame {self._last + 1} or one behind it cannot be decoded")
            packet = next(self._packets, None)
            if packet is None or packet.size == 0:
                self._ended = True
                packet = None
            self._fed += 1
            self._ready = self._stream.codec_context.decode(packet)
        while self._ready:
            yield self._ready.pop(0)

    def _seek(self, start: int) -> None:
        """Make packet `start`, a keyframe, the next one to decode."""
        self._container.seek(int(self.index.packet_dts[start]), stream=self._stream)
        self._begin()
        if not self._skip_to(start):
            # Some containers cannot seek to every keyframe, or only to later ones: read on from the beginning.
            self._open()
            if start and not self._skip_to(start):
                raise UserError(f"{self.index.path} changed while it was read")

    def _skip_to(self, start: int) -> bool:
        """Drop packets before `start`; False if the first one lies behind it already."""
        for packet in self._packets:
            at = None if packet.pts is None else self.index.packet_of(packet.pts)
            if at is None or at > start:
                return False
            if at == start:
                self._fed = start + 1
                self._ready = self._stream.codec_context.decode(packet)
                return True
        return False

    def _write(self, frame: VideoFrame, out: np.ndarray) -> None:
        y, x = self.index.coded
        if frame.is_corrupt or (frame.height, frame.width) != (y, x):
            raise UserError(
                f"{self.index.path}: the frame at {frame.time} s is damaged, or not {x} x {y} like the others"
            )
        converted = self._convert.reformat(frame, format="rgb24", src_color_range=frame.color_range, threads=1)
        plane = converted.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        out[:] = np.rot90(rows[:y, : 3 * x].reshape(y, x, 3), self.index.turns)


class TorchDecoder:
    """TorchCodec, which takes our index instead of scanning the file a second time."""

    def __init__(self, index: FrameIndex) -> None:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportPrivateImportUsage, reportMissingImports]  (an extra)

        durations = np.where(index.durations > 0, index.durations, 1)
        frames = [
            {"pts": int(pts), "duration": int(duration), "key_frame": int(key)}
            for pts, duration, key in zip(index.pts, durations, index.keys, strict=True)
        ]
        self.index = index
        try:
            self._decoder = VideoDecoder(
                str(index.path), dimension_order="NHWC", custom_frame_mappings=json.dumps({"frames": frames})
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{index.path} cannot be opened by TorchCodec: {_first_line(error)}") from error

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        try:
            frames = self._decoder.get_frames_at(indices=list(numbers)).data.numpy()  # t y x c
        except (RuntimeError, ValueError, IndexError) as error:
            raise UserError(
                f"{self.index.path}: frames {numbers[0]} to {numbers[-1]} are damaged: {_first_line(error)}"
            ) from error
        if frames.shape[1:3] != self.index.size:
            raise UserError(f"{self.index.path}: frames are {frames.shape[1:3]}, the first was {self.index.size}")
        return frames


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
