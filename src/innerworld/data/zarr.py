"""`ZarrArray`: reads an array of a Zarr v2 folder (the public format) from its chunk files; needs only numcodecs."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from innerworld.errors import UserError


class ZarrArray:
    """One array of a Zarr v2 group, read in slices along its first axis; a chunk without a file is the fill value.

    Raises `UserError` that names the file for what is missing, damaged or not understood, and without numcodecs.
    """

    def __init__(self, folder: Path) -> None:
        about = _read_about(folder / ".zarray")
        try:
            self.shape = tuple(int(size) for size in about["shape"])
            self.dtype = np.dtype(about["dtype"])
            self._chunks = tuple(int(size) for size in about["chunks"])
            self._fill = _fill(about["fill_value"], self.dtype)
            self._order: Any = about["order"]
            self._codecs = [_codec(config) for config in [*(about["filters"] or []), about["compressor"]] if config]
            self._blosc = (about["compressor"] or {}).get("id") == "blosc"
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / '.zarray'} cannot be understood: {error!r}") from error
        if len(self._chunks) != len(self.shape) or min(self._chunks, default=1) < 1 or not self.shape:
            raise UserError(f"{folder / '.zarray'}: chunks {self._chunks} do not fit the shape {self.shape}")
        self._folder = folder
        self._separator = about.get("dimension_separator", ".")
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
        file = self._folder / self._separator.join(map(str, place))
        if not file.exists():
            return np.full(self._chunks, self._fill, self.dtype)
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
        # Blosc writes its length at byte 12. Checked here, because the decoder believes it and reads on.
        if self._blosc and (len(raw) < 16 or int.from_bytes(raw[12:16], "little") != len(raw)):
            raise UserError(f"{file} is truncated: it has {len(raw)} bytes")
        try:
            for codec in reversed(self._codecs):
                raw = codec.decode(raw)
            return np.frombuffer(raw, self.dtype).reshape(self._chunks, order=self._order)
        except Exception as error:  # every codec has errors of its own
            raise UserError(f"{file} is truncated or corrupt: {error}") from error


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


def _codec(config: dict[str, Any]) -> Any:
    try:
        from numcodecs.registry import get_codec
    except ImportError as error:
        raise UserError('reading Zarr needs numcodecs: pip install "innerworld[data]"') from error
    return get_codec(config)


def _fill(value: Any, dtype: np.dtype) -> Any:
    """JSON has no name for NaN, so Zarr writes it as text; a null leaves the value open."""
    return np.array(0 if value is None else float(value) if isinstance(value, str) else value).astype(dtype)[()]
