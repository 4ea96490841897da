"""`ZarrArray`: reads an array of a Zarr v2 folder (the public format) from its chunk files; needs only numcodecs."""

from __future__ import annotations

import bz2
import json
import lzma
import math
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from innerworld.data.importers.inside import check_room, inside
from innerworld.errors import UserError

CODECS = ("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd")
"""Compressors that only compress. There are others, such as pickle, which runs whatever code a file holds."""

FILTERS = ("delta", "shuffle")
"""Those that keep a chunk's size, which is thereby known before it is unpacked."""

MOST_BYTES = 2_000_000_000
"""Of the chunks that hold the same rows. What `.zarray` declares beyond is damaged."""

MOST_CHUNKS = 100_000
"""Files beside each other that hold the same rows."""


class ZarrArray:
    """One array of a Zarr v2 group, read in slices along its first axis; a chunk without a file is the fill value.

    Raises `UserError` that names the file for what is missing, damaged or not understood, and without numcodecs.
    """

    def __init__(self, folder: Path, follow_links: bool = False) -> None:
        about = _read_about(folder / ".zarray")
        try:
            self.shape = tuple(int(size) for size in about["shape"])
            self.dtype = np.dtype(about["dtype"])
            self._chunks = tuple(int(size) for size in about["chunks"])
            self._fill = _fill(about["fill_value"], self.dtype)
            self._order: Any = {"C": "C", "F": "F"}[about["order"]]
            self._separator = {".": ".", "/": "/"}[about.get("dimension_separator", ".")]
            self._codec = str((about["compressor"] or {}).get("id"))
            self._unpack = _codec(about["compressor"], CODECS) if about["compressor"] else None
            self._filters = [_filter(config) for config in about["filters"] or []]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, SyntaxError) as error:
            raise UserError(f"{folder / '.zarray'} cannot be understood: {error!r}") from error
        if self.dtype.kind not in "biuf":
            raise UserError(f"{folder / '.zarray'}: arrays of type {self.dtype} are not numbers")
        if len(self._chunks) != len(self.shape) or min(self._chunks, default=1) < 1 or not self.shape:
            raise UserError(f"{folder / '.zarray'}: chunks {self._chunks} do not fit the shape {self.shape}")
        wide = [math.ceil(size / chunk) for size, chunk in zip(self.shape[1:], self._chunks[1:], strict=True)]
        for shape in (self._chunks, (self._chunks[0], *self.shape[1:])):
            check_room(str(folder / ".zarray"), shape, self.dtype.itemsize, MOST_BYTES)
        if math.prod(wide) > MOST_CHUNKS or min(self.shape) < 0 or self.shape[0] > 2**40:
            raise UserError(f"{folder / '.zarray'}: chunks {self._chunks} do not fit the shape {self.shape}")
        self._folder = folder
        self._follow_links = follow_links
        self._slab = np.empty(0, self.dtype)
        self._slab_number = -1

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, copied. Reading forwards decodes every chunk once."""
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        size = self._chunks[0]
        for number in range(start // size, -(-stop // size)):
            first, last = max(start, number * size), min(stop, (number + 1) * size)
            out[first - start : last - start] = self._rows(number)[first - number * size : last - number * size]
        return out

    def _rows(self, number: int) -> np.ndarray:
        """All chunks that hold the same rows, beside each other; the last one asked for is kept."""
        if number != self._slab_number:
            grid = [range(-(-size // chunk)) for size, chunk in zip(self.shape[1:], self._chunks[1:], strict=True)]
            slab = np.empty((self._chunks[0], *self.shape[1:]), self.dtype)
            for place in product(*grid):
                inside = [slice(i * chunk, (i + 1) * chunk) for i, chunk in zip(place, self._chunks[1:], strict=True)]
                room = slab[(slice(None), *inside)]
                # A chunk at the border is stored whole, beyond the array's end too.
                room[...] = self._chunk((number, *place))[tuple(slice(0, size) for size in room.shape)]
            self._slab, self._slab_number = slab, number
        return self._slab

    def _chunk(self, place: tuple[int, ...]) -> np.ndarray:
        file = inside(self._folder, self._separator.join(map(str, place)), self._follow_links)
        if not file.exists():
            return np.full(self._chunks, self._fill, self.dtype)
        expected = math.prod(self._chunks) * self.dtype.itemsize
        try:
            if file.stat().st_size > 2 * expected + 1_000_000:
                raise UserError(f"{file} is corrupt: it is larger than what it holds, {expected} bytes")
            raw = file.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
        # Blosc writes its length at byte 12. Checked here, because the decoder believes it and reads on.
        if self._codec == "blosc" and (len(raw) < 16 or int.from_bytes(raw[12:16], "little") != len(raw)):
            raise UserError(f"{file} is truncated: it has {len(raw)} bytes")
        try:
            unpacked = raw if self._unpack is None else _unpacked(self._codec, self._unpack, raw, expected)
            for each in reversed(self._filters):
                unpacked = each.decode(unpacked)
            flat = np.frombuffer(unpacked, self.dtype)
            return flat.reshape(self._chunks, order=self._order)
        except Exception as error:  # every codec has errors of its own
            raise UserError(f"{file} is truncated or corrupt: {error}") from error


def _unpacked(name: str, codec: Any, raw: bytes, expected: int) -> bytes | np.ndarray:
    """No more than `expected` bytes, whatever the file promises: a small file may unpack to all of the memory."""
    match name:
        case "zlib" | "gzip":
            return _stream(zlib.decompressobj(zlib.MAX_WBITS | (16 if name == "gzip" else 0)), raw, expected)
        case "bz2":
            return _stream(bz2.BZ2Decompressor(), raw, expected)
        case "lzma":
            return _stream(lzma.LZMADecompressor(codec.format, filters=None), raw, expected)
    out = np.empty(expected, np.uint8)
    promised = _promised(name, raw)
    if promised != expected:
        raise ValueError(f"it holds {promised} bytes, expected {expected}")
    codec.decode(raw, out=out)
    return out


def _promised(name: str, raw: bytes) -> int:
    """How many bytes a chunk says that it holds, in the header of its compressor."""
    if name == "blosc":
        return int.from_bytes(raw[4:8], "little")
    if name == "lz4":
        return int.from_bytes(raw[:4], "little")
    if raw[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("it is not of Zstandard")
    kind, single = raw[4] >> 6, bool(raw[4] & 0x20)  # RFC 8878, 3.1.1.1
    at = 5 + (not single) + (0, 1, 2, 4)[raw[4] & 3]
    size = (int(single), 2, 4, 8)[kind]
    if not size:
        raise ValueError("it does not say how much it holds")
    return int.from_bytes(raw[at : at + size], "little") + (256 if kind == 1 else 0)


def _stream(codec: Any, raw: bytes, expected: int) -> bytes:
    data = codec.decompress(raw, expected + 1)  # one more, so that the end is reached, where the checksum is
    if len(data) != expected or not codec.eof:
        raise ValueError(f"it does not hold {expected} bytes")
    return data


def _read_about(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file.parent} is not a Zarr v2 array: cannot read {file.name}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file} is corrupt: {error}") from error
    if not isinstance(about, dict) or about.get("zarr_format") != 2:
        raise UserError(f"{file} is not of Zarr version 2")
    return about


def _filter(config: dict[str, Any]) -> Any:
    if config.get("astype", config.get("dtype")) != config.get("dtype"):
        raise ValueError(f"filter {config['id']!r} changes the type of numbers")
    return _codec(config, FILTERS)


def _codec(config: dict[str, Any], known: tuple[str, ...]) -> Any:
    if config["id"] not in known:
        raise ValueError(f"{config['id']!r} is not among what can be read: {', '.join(known)}")
    try:
        from numcodecs.registry import get_codec
    except ImportError as error:
        raise UserError('reading Zarr needs numcodecs: pip install "innerworld[data]"') from error
    return get_codec(dict(config))


def _fill(value: Any, dtype: np.dtype) -> Any:
    """JSON has no name for NaN, so Zarr writes it as text; a null leaves the value open."""
    return np.array(0 if value is None else float(value) if isinstance(value, str) else value).astype(dtype)[()]
