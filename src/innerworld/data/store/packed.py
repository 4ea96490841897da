"""`Packed`: frames that lie compressed in a shard, of which only the rows that are asked for are unpacked."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np

from innerworld.data.store.meta import Frames
from innerworld.errors import UserError
from innerworld.types import Spec

ZSTD_LEVEL = 1
"""Higher levels save a few percent and cost several times as much (`bench/store_formats.py`)."""

JPEG_QUALITY = 95


class Packed:
    """`t y x c` frames, sliced along time like an array: `packed[start:stop:step]` gives `uint8` in memory."""

    dtype = np.dtype(np.uint8)

    def __init__(self, frames: Frames, blob: np.ndarray, bounds: np.ndarray, shape: tuple[int, ...], name: str) -> None:
        self.shape = (len(bounds) - 1, *shape)
        self._frames: Frames = frames
        self._blob = blob  # bytes of all frames
        self._bounds = bounds  # t+1: frame i is blob[bounds[i] : bounds[i + 1]]
        self._name = name  # of the file, for errors

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, start: int, stop: int) -> Packed:
        """Some of the frames, still packed."""
        return Packed(self._frames, self._blob, self._bounds[start : stop + 1], self.shape[1:], self._name)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Raises `UserError` that names the file for a frame that cannot be unpacked."""
        wanted = range(*rows.indices(len(self)))
        out = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        for into, row in zip(out, wanted, strict=True):
            blob = self._blob[self._bounds[row] : self._bounds[row + 1]]
            try:
                unpack(self._frames, blob, into)
            except (RuntimeError, ValueError, OSError, SyntaxError, struct.error) as error:
                raise UserError(f"{self._name} is corrupt: frame {row} cannot be unpacked: {error}") from error
        return out


def check_frames(frames: Frames, spec: Spec) -> None:
    """Raise `UserError` if images of this spec cannot be packed so, or the package for it is missing."""
    if frames == "zstd":
        _zstd()
    if frames == "jpeg":
        for name in spec.images():
            if spec.obs[name][2] == 4:
                raise UserError(f"sensor {name!r} has 4 channels, which JPEG cannot hold: use frames raw or zstd")


def pack(frames: Frames, image: np.ndarray) -> bytes:
    """One frame `y x c` as bytes."""
    if frames == "zstd":
        return _zstd().compress(np.ascontiguousarray(image), ZSTD_LEVEL)
    from PIL import Image

    file = io.BytesIO()
    flat = image[..., 0] if image.shape[2] == 1 else image
    Image.fromarray(np.ascontiguousarray(flat)).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def unpack(frames: Frames, blob: np.ndarray, into: np.ndarray) -> None:
    """Undo `pack` into `y x c`. Raises `ValueError` or what the decoder raises for bytes that are not such a frame."""
    if frames == "zstd":
        _check_zstd(blob, into.nbytes)
        _zstd().decompress(blob, into)
        return
    from PIL import Image

    with Image.open(io.BytesIO(blob.tobytes()), formats=("JPEG",)) as image:
        if image.size != (into.shape[1], into.shape[0]):  # before it is decoded: it may claim to be enormous
            raise ValueError(f"it is {image.size[1]} x {image.size[0]}, not {into.shape[0]} x {into.shape[1]}")
        into[...] = np.asarray(image).reshape(into.shape)


def pack_all(frames: Frames, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Frames → their bytes one after another, and the `t` ends of each in them."""
    blobs = [pack(frames, image) for image in images]
    ends = np.cumsum([len(blob) for blob in blobs], dtype=np.int64)
    return np.frombuffer(b"".join(blobs), np.uint8), ends


def _check_zstd(blob: np.ndarray, size: int) -> None:
    """The decoder takes a smaller frame than was asked for without a word, so the header is read first (RFC 8878)."""
    head = blob[:18].tobytes()
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("it is no zstd frame")
    kind, single = head[4] >> 6, head[4] >> 5 & 1
    start = 5 + (1 - single) + (0, 1, 2, 4)[head[4] & 3]
    width = (single, 2, 4, 8)[kind]
    said = int.from_bytes(head[start : start + width], "little") + (256 if kind == 1 else 0)
    if said != size:
        raise ValueError(f"it holds {said} bytes, not {size}")


def _zstd():  # type: ignore[no-untyped-def]
    try:
        import numcodecs.zstd
    except ModuleNotFoundError:
        raise UserError('frames packed with zstd need the package numcodecs: pip install "innerworld[data]"') from None
    return numcodecs.zstd
