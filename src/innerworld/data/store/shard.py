"""One file of arrays: a safetensors file that a kill cannot tear, with a checksum of its header and its index."""

from __future__ import annotations

import json
import mmap
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from innerworld.disk import write_atomic
from innerworld.errors import UserError

DTYPES: dict[str, type[np.generic]] = {
    "U8": np.uint8,
    "F16": np.float16,
    "F32": np.float32,
    "I64": np.int64,
    "BOOL": np.bool_,
    "U32": np.uint32,
}
"""The names which the safetensors format gives to the types that a shard may hold."""

HEADER_LIMIT = 100_000_000
"""Bytes; the same limit as the safetensors library's, so that a damaged length is not taken for a huge header."""

NOTES = "__metadata__"
CHECK = b'"check": "%s"'


@dataclass(frozen=True)
class Column:
    """Where an array lies in its file."""

    dtype: type[np.generic]
    shape: tuple[int, ...]
    offset: int  # bytes from the beginning of the file

    @property
    def bytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def rows(self, start: int, stop: int) -> Column:
        """Some of its rows."""
        row = self.bytes // self.shape[0] if self.shape[0] else 0
        return replace(self, shape=(stop - start, *self.shape[1:]), offset=self.offset + start * row)


@dataclass(frozen=True)
class Head:
    """What a file says at its beginning."""

    columns: dict[str, Column]
    notes: dict[str, str]
    text: bytes  # as it stands in the file, with its length before it


def write_shard(
    path: Path,
    columns: Mapping[str, Sequence[np.ndarray]],
    notes: Mapping[str, str] | None = None,
    index: Sequence[str] = (),
    durable: bool = True,
) -> None:
    """Write each column, given in pieces that follow one another along the first axis. Raises `UserError` (disk).

    With `notes`, short texts, a checksum over the header and the columns named in `index` is put beside them.
    """
    # The widest type first: then every column is aligned, which readers on all machines can rely on. Then the smallest:
    # what a torn end takes are frames of the last episodes, not a column that all of them need.
    names = sorted(columns, key=lambda name: (-columns[name][0].dtype.itemsize, sum(p.nbytes for p in columns[name])))
    pieces = {name: [np.ascontiguousarray(piece) for piece in columns[name]] for name in names}
    head = _header(pieces, {**notes, "check": "0" * 8} if notes is not None else None)
    if notes is not None:
        check = _check(head, [piece for name in sorted(index) for piece in pieces[name]])
        head = head.replace(CHECK % (b"0" * 8), CHECK % check, 1)
    write_atomic(path, [head, *(_bytes(piece) for name in names for piece in pieces[name])], durable)


def read_head(path: Path, whole: bool = True) -> Head:
    """Where each array of a shard lies. Raises `UserError` that names the file if its header does not fit its size.

    Without `whole` the file may be shorter than its header says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            if size < 8 or length > min(size - 8, HEADER_LIMIT):
                raise UserError(f"{path} is truncated or not a shard: {size} bytes")
            text = file.read(length)
        header = json.loads(text)
        columns = {name: _column(entry, 8 + length) for name, entry in header.items() if name != NOTES}
        notes = {str(name): str(value) for name, value in header.get(NOTES, {}).items()}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is corrupt: its header cannot be read") from error
    end = max((column.offset + column.bytes for column in columns.values()), default=8 + length)
    if end < size or (whole and end > size):
        raise UserError(f"{path} is {'truncated' if end > size else 'corrupt'}: {size} bytes, its header says {end}")
    return Head(columns, notes, first + text)


def read_columns(path: Path) -> dict[str, Column]:
    """`read_head`'s columns alone."""
    return read_head(path).columns


def read_arrays(path: Path, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
    """Small arrays, read into memory. Raises `UserError` that names the file."""
    try:
        with path.open("rb") as file:
            arrays = {}
            for name, column in columns.items():
                file.seek(column.offset)
                arrays[name] = np.frombuffer(file.read(column.bytes), column.dtype).reshape(column.shape)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is truncated: it has become shorter since it was opened") from error
    return arrays


def check_head(path: Path, head: Head, index: Mapping[str, np.ndarray]) -> None:
    """Raise `UserError` unless header and `index` are what was written. A shard of format 1 has no checksum."""
    if head.notes:
        said = head.notes.get("check", "")
        blank = head.text.replace(CHECK % said.encode(), CHECK % (b"0" * 8), 1)
        if _check(blank, [index[name] for name in sorted(index)]) != said.encode():
            raise UserError(f"{path} is corrupt: its header or its index is not what was written")


def open_map(path: Path) -> mmap.mmap:
    """Raises `FileNotFoundError` for a file that is gone, `UserError` for one that cannot be mapped."""
    try:
        with path.open("rb") as file:
            # Copy-on-write: torch refuses to share memory that cannot be written, and the file must not change.
            if sys.version_info >= (3, 13):
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY, trackfd=False)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def view_columns(path: Path, memory: mmap.mmap, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
    """The arrays over a map. Raises `UserError` if the file is too short for them."""
    flat = np.frombuffer(memory, np.uint8)
    if any(column.offset + column.bytes > flat.size for column in columns.values()):
        raise UserError(f"{path} is truncated: it has become shorter since it was opened")
    return {
        name: flat[column.offset : column.offset + column.bytes].view(column.dtype).reshape(column.shape)
        for name, column in columns.items()
    }


def map_columns(path: Path, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
    """The arrays of a shard, read from disk as they are touched. Raises `UserError` that names a file that is gone."""
    try:
        return view_columns(path, open_map(path), columns)
    except FileNotFoundError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _check(head: bytes, index: Sequence[np.ndarray]) -> bytes:
    crc = zlib.crc32(head)
    for array in index:
        crc = zlib.crc32(_bytes(array), crc)
    return b"%08x" % crc


def _bytes(array: np.ndarray) -> memoryview | bytes:
    return array.data.cast("B") if array.size else b""


def _header(columns: Mapping[str, Sequence[np.ndarray]], notes: Mapping[str, str] | None) -> bytes:
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {} if notes is None else {NOTES: dict(notes)}
    offset = 0
    for name, pieces in columns.items():
        end = offset + sum(piece.nbytes for piece in pieces)
        shape = [sum(len(piece) for piece in pieces), *pieces[0].shape[1:]]
        header[name] = {"dtype": names[pieces[0].dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _column(entry: Mapping[str, Any], start: int) -> Column:
    first, last = entry["data_offsets"]
    shape = tuple(int(size) for size in entry["shape"])
    column = Column(DTYPES[entry["dtype"]], shape, start + int(first))
    if first < 0 or min(shape, default=0) < 0 or last - first != column.bytes:
        raise ValueError("the offsets do not fit the shape")
    return column
