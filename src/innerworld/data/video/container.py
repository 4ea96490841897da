"""A video file as a container: opened with nothing allowed but what we read, and whether its end is missing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from innerworld.errors import UserError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

CODECS = ("h264", "hevc", "av1", "vp9", "vp8", "mjpeg", "mpeg4", "ffv1")
"""What is decoded. FFmpeg knows hundreds more, most of them seldom used and seldom tested against evil files."""

DECODERS = (*CODECS, "libdav1d", "libaom-av1", "libvpx-vp9", "libvpx")
FORMATS = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi")
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
BOX_TYPES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"wide", b"skip", b"sidx", b"mfra", b"uuid", b"emsg")


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """The container and its video. Raises `UserError` that names the file: missing, no video, a codec not allowed."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise UserError(f'{path} is a video, which needs PyAV: pip install "innerworld[data]"') from error
    if not path.is_file():
        raise UserError(f"there is no video {path}")
    allowed = {
        "protocol_whitelist": "file",  # a playlist would make it read other files and addresses
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join(DECODERS),
    }
    extent = extent_of(path)
    source = f"file:{path}" if extent.bytes == path.stat().st_size else _Head(path, extent.bytes)
    try:
        container = av.open(source, "r", options=allowed, metadata_errors="ignore")
    except (FFmpegError, ValueError) as error:
        raise UserError(f"{path} cannot be opened as a video: {_why(path, extent, error)}") from error
    streams = [stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic]
    try:
        if not streams and extent.cut:
            raise UserError(f"{path} cannot be opened as a video: its end is missing, and with it the index (moov)")
        if not streams:
            raise UserError(f"{path} has no video in it")
        for stream in streams:
            if stream.codec_context is None:
                raise UserError(f"{path} does not say how it is coded: damaged")
            name = stream.codec_context.codec.canonical_name
            if name not in CODECS:
                raise UserError(f"{path} is coded as {name}, which is not read; {', '.join(CODECS)} are")
    except UserError:
        container.close()
        raise
    return container, streams[0]


@dataclass(frozen=True)
class Extent:
    """How much of a file there is."""

    cut: bool  # it ends before what it declares: a copy that stopped, or a writer that was killed
    bytes: int  # what can be read; less than the file where it ends inside a table that nobody can read by half


def extent_of(path: Path) -> Extent:
    """From the outermost structure of the container alone."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[4:8] in BOX_TYPES:
            return _boxes(file, size)
        if head[:4] == EBML:
            return Extent(_segment_is_cut(file, size), size)
        if head[:4] == b"RIFF":
            return Extent(int.from_bytes(head[4:8], "little") + 8 > size, size)
    return Extent(False, size)


class _Head(io.RawIOBase):
    """The first bytes of a file, as if it ended there."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = path.open("rb")
        self._size = size

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            return self._file.seek(self._size + offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def _why(path: Path, extent: Extent, error: Exception) -> str:
    if not path.stat().st_size:
        return "it is empty"
    if extent.cut:
        return "its end is missing, and with it the index (moov)"
    return str(error).partition(":")[0].partition("] ")[2] or type(error).__name__


def _boxes(file: BinaryIO, size: int) -> Extent:
    """Walk the outermost boxes of an MP4. A fragment is a list of samples (moof) and then the samples (mdat)."""
    at, fragment = 0, None
    while at < size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        elif length == 0 and len(head) >= 8:
            break  # to the end of the file, whatever that is
        whole = len(head) >= 8 and length >= 8 and at + length <= size
        if kind == b"moof" or not whole:
            fragment = at
        if not whole:
            return Extent(True, size if kind == b"mdat" else fragment or size)
        if kind == b"mdat":
            fragment = None
        at += length
    return Extent(fragment is not None, size if fragment is None else fragment)


def _segment_is_cut(file: BinaryIO, size: int) -> bool:
    """Matroska: the segment says how long it is; one that never learnt it was never finished."""
    file.seek(4)
    _, header = _element_size(file)
    file.seek(header, 1)
    if file.read(4) != SEGMENT:
        return True
    unknown, length = _element_size(file)
    return unknown or file.tell() + length > size


def _element_size(file: BinaryIO) -> tuple[bool, int]:
    first = file.read(1)
    if not first or not first[0]:
        return True, 0
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & ((1 << (7 - more)) - 1)]) + file.read(more), "big")
    return value == (1 << (7 * (more + 1))) - 1, value
