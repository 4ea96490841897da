"""One shard: arrays in one safetensors file that a kill cannot tear, read back by memory map."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from innerworld.disk import write_atomic
from innerworld.errors import UserError

DTYPES: dict[str, type[np.generic]] = {"U8": np.uint8, "F32": np.float32, "I64": np.int64, "BOOL": np.bool_}
"""The names which the safetensors format gives to the types that a shard may hold."""

HEADER_LIMIT = 100_000_000
"""Bytes; the same limit as the safetensors library's, so that a damaged length is not taken for a huge header."""


@dataclass(frozen=True)
class Column:
    """Where an array lies in its file."""

    dtype: type[np.generic]
    shape: tuple[int, ...]
    offset: int  # bytes from the beginning of the file

    @property
    def bytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize


def write_shard(path: Path, columns: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write each column, given in pieces that follow one another along the first axis. Raises `UserError` (disk)."""
    # The widest type first: then every column is aligned, which readers on all machines can rely on.
    names = sorted(columns, key=lambda name: -columns[name][0].dtype.itemsize)
    pieces = (np.ascontiguousarray(piece).data for name in names for piece in columns[name])
    write_atomic(path, [_header({name: columns[name] for name in names}), *pieces])


def read_columns(path: Path) -> dict[str, Column]:
    """Where each array of a shard lies. Raises `UserError` that names the file if its header does not fit its size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, HEADER_LIMIT):
                raise UserError(f"{path} is truncated or not a shard: {size} bytes")
            header = json.loads(file.read(length))
        columns = {name: _column(entry, 8 + length) for name, entry in header.items() if name != "__metadata__"}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is corrupt: its header cannot be read") from error
    end = max((column.offset + column.bytes for column in columns.values()), default=8 + length)
    if end != size:
        raise UserError(f"{path} is {'truncated' if end > size else 'corrupt'}: {size} bytes, its header says {end}")
    return columns


def map_columns(path: Path, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
    """The arrays of a shard, read from disk as they are touched. Raises `UserError` that names a file that is gone."""
    try:
        # Copy-on-write: torch refuses to share memory that cannot be written, and the file must not change.
        whole = np.memmap(path, np.uint8, mode="c")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if any(column.offset + column.bytes > whole.size for column in columns.values()):
        raise UserError(f"{path} is truncated: it has become shorter since it was opened")
    # A plain array over the same memory: slicing a memmap costs several times as much.
    flat = np.asarray(whole)
    return {
        name: flat[column.offset : column.offset + column.bytes].view(column.dtype).reshape(column.shape)
        for name, column in columns.items()
    }


def _header(columns: Mapping[str, Sequence[np.ndarray]]) -> bytes:
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {}
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
