"""`Columns`: raw files of rows of one size, one file for each column, whose whole length is on the disk from the start.

They are read and written in pieces rather than mapped: what a process touches of a mapped file counts as its memory,
and in training that is all of it sooner or later. The pages stay in the system's cache either way.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from urllib.parse import quote

import numpy as np

from innerworld.disk import reason
from innerworld.errors import UserError

ZEROS = bytes(1 << 20)


@dataclass(frozen=True)
class Kind:
    """What a row of a column is: the shape and the type of its numbers, as NumPy names it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Columns:
    """`streams` rings of `rows` rows in each column; the row after the last of a ring is its first.

    Opens the files that are in `folder`, or else makes them. Raises `UserError` where they do not fit on the disk,
    before anything is written.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, Kind], streams: int, rows: int) -> None:
        self.folder, self.kinds, self.streams, self.rows = folder, dict(kinds), streams, rows
        paths = {name: folder / f"{quote(name, safe='')}.raw" for name in kinds}
        sizes = {name: kind.bytes * streams * rows for name, kind in kinds.items()}
        whole = all(path.is_file() and path.stat().st_size == sizes[name] for name, path in paths.items())
        if not whole:
            _make({paths[name]: size for name, size in sizes.items()}, folder)
        self._files = {name: path.open("r+b", buffering=0) for name, path in paths.items()}

    @property
    def bytes(self) -> int:
        return self.streams * self.rows * sum(kind.bytes for kind in self.kinds.values())

    def read(self, name: str, stream: int, start: int, into: np.ndarray) -> None:
        """Fill `into` with the rows from number `start` on, which may be beyond the ring's end: it goes round.

        Raises `UserError` when the disk refuses, or a file was cut off.
        """
        for place, part in self._parts(name, stream, start, into):
            try:
                _fill(self._seek(name, place), part)
            except (OSError, EOFError) as error:
                raise UserError(f"cannot read the replay in {self.folder}: {error}") from error

    def write(self, name: str, stream: int, start: int, values: np.ndarray) -> None:
        """Put rows where `read` finds them. Raises `UserError` when the disk refuses."""
        for place, part in self._parts(name, stream, start, values):
            try:
                _put(self._seek(name, place), part)
            except OSError as error:
                raise UserError(f"{reason(error)} while writing {self.folder}") from error

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _parts(self, name: str, stream: int, start: int, values: np.ndarray) -> list[tuple[int, memoryview]]:
        """The bytes of the rows in one piece, or in two where they go round, each with its place in the file."""
        count, kind = len(values), self.kinds[name]
        if count == 0 or kind.bytes == 0:
            return []
        flat = values.data.cast("B")
        first = start % self.rows
        until = min(count, self.rows - first)
        begin = stream * self.rows
        parts = [((begin + first) * kind.bytes, flat[: until * kind.bytes])]
        if until < count:
            parts.append((begin * kind.bytes, flat[until * kind.bytes :]))
        return parts

    def _seek(self, name: str, place: int) -> FileIO:
        file = self._files[name]
        file.seek(place)
        return file


def _make(sizes: Mapping[Path, int], folder: Path) -> None:
    """Give every file its whole length, so that the disk cannot be full later. What was there is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sizes:
        path.unlink(missing_ok=True)
    total = sum(sizes.values())
    free = shutil.disk_usage(folder).free
    if total > free:
        raise UserError(
            f"a replay of {told(total)} does not fit into {folder}: {told(free)} are free there. Make room, or keep "
            "fewer rows (capacity)"
        )
    try:
        for path, size in sizes.items():
            _allocate(path, size)
    except OSError as error:
        for path in sizes:
            path.unlink(missing_ok=True)
        raise UserError(f"{reason(error)} for a replay of {told(total)} in {folder}: keep fewer rows") from error


def _allocate(path: Path, size: int) -> None:
    with path.open("wb", buffering=0) as file:
        if size and sys.platform == "linux":
            os.posix_fallocate(file.fileno(), 0, size)
            return
        for start in range(0, size, len(ZEROS)):
            _put(file, memoryview(ZEROS)[: size - start])


def _fill(file: FileIO, into: memoryview) -> None:
    """Raises `EOFError` where the file is shorter than it was made."""
    while into:
        count = file.readinto(into)
        if not count:
            raise EOFError(f"{file.name} was cut off")
        into = into[count:]


def _put(file: FileIO, part: memoryview) -> None:
    while part:
        part = part[file.write(part) :]


def told(count: int) -> str:
    """A number of bytes, as one says it."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.2f} MB"
