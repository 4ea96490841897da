"""`Rows`: rows of a store's columns, read straight into a batch; what the disk must fetch is asked for all at once."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from innerworld.data.store.shard import Column
from innerworld.data.store.store import Store
from innerworld.errors import UserError

OPEN_FILES = 128
"""Shards held open at once: many systems grant a process only 256 files."""

TRIES = 3

SMALL_ROW = 4096
"""Bytes. Columns with shorter rows (actions, rewards, vectors) are kept in memory if together they are small."""

SMALL_TOTAL = 256_000_000
"""Bytes of such columns that may stay in memory; a store with more of them has them read row by row."""

LINUX = sys.platform == "linux"
POSITIONED = sys.platform != "win32"  # Windows has no preadv: there everything is copied out of the memory map


class Late(NamedTuple):
    """A read that would have to wait for the disk. `advise` all of them first, that it works on many at a time."""

    file: OpenShard
    at: int  # bytes from the beginning of the file
    out: memoryview

    def advise(self) -> None:
        self.file.advise(self.at, len(self.out))

    def wait(self) -> None:
        self.file.wait(self.at, self.out)


class Rows:
    """Reads by position, not through a memory map: nothing is faulted in page by page, memory in use stays flat however
    large the store, and a file that was cut short is an error instead of a dead process. Safe for several threads.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._small: dict[int, dict[str, np.ndarray]] = {}
        self._small_bytes = 0
        self._lock = threading.Lock()

    def shard(self, number: int) -> OpenShard:
        """The file of one entry of `store.shard_of`. Raises `UserError` if it is gone or was cut short."""
        with self._lock:
            found = self._open.get(number)
            if found is not None:
                self._open.move_to_end(number)
                return found
        # Outside of the lock, for it may have to be fetched; should two threads open the same one, one wins.
        opened = self._opened(number)
        small = self._small.get(number)
        opened.small = self._keep(opened) if small is None else small
        with self._lock:
            opened = self._open.setdefault(number, opened)
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return opened

    def _opened(self, number: int) -> OpenShard:
        for _ in range(TRIES):
            path, columns = self.store.place(number)
            try:
                return OpenShard(self.store, number, path, columns)
            except FileNotFoundError:  # compacted, or pushed out of the cache, between two lines
                continue
        raise UserError(f"cannot read {path}: it is gone")

    def _keep(self, shard: OpenShard) -> dict[str, np.ndarray]:
        names = [name for name, column in shard.columns.items() if _row_bytes(column) <= SMALL_ROW]
        size = sum(shard.columns[name].bytes for name in names)
        if self._small_bytes + size > SMALL_TOTAL:
            return {}
        small = {name: shard.whole(name) for name in names}
        with self._lock:
            if shard.number not in self._small:
                self._small_bytes += size
            return self._small.setdefault(shard.number, small)

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["store"])


class OpenShard:
    """The file of one shard. It closes when the last thread lets go of it, not under the feet of one that reads."""

    def __init__(self, store: Store, number: int, path: Path, columns: Mapping[str, Column]) -> None:
        self.store = store
        self.number = number
        self.path = path
        self.columns = columns if POSITIONED else {}
        self.small: dict[str, np.ndarray] = {}
        self._handle = _Handle(path) if self.columns else None

    def take(self, name: str, first: int, step: int, out: np.ndarray, late: list[Late]) -> None:
        """Rows `first`, `first + step`, ... of a column into `out`, or a note in `late` if the disk must fetch them."""
        column = self.columns.get(name)
        if (small := self.small.get(name)) is not None:
            out[...] = small[first : first + len(out) * step : step]
        elif column is None or column.dtype != out.dtype:  # compressed: the store decodes the rows asked for
            out[...] = self.store.arrays(self.number)[name][first : first + (len(out) - 1) * step + 1 : step]
            self.store.touched(out.nbytes)
        elif out.nbytes:
            size = _row_bytes(column)
            at = column.offset + first * size
            memory = _bytes(out)
            if step == 1:
                self._read(at, len(memory), len(memory), memory, late)
            else:
                self._read(at, step * size, size, memory, late)

    def whole(self, name: str) -> np.ndarray:
        column = self.columns[name]
        out = np.empty(column.shape, column.dtype)
        self.wait(column.offset, _bytes(out))
        return out

    def advise(self, at: int, size: int) -> None:
        """Let the disk begin to fetch this stretch."""
        if self._handle is not None and sys.platform == "linux":
            os.posix_fadvise(self._handle.number, at, size, os.POSIX_FADV_WILLNEED)

    def wait(self, at: int, out: memoryview) -> None:
        """Read a stretch of the file, waiting for the disk. Raises `UserError` if the file ends before."""
        while out and self._handle is not None:
            try:
                count = os.preadv(self._handle.number, [out], at)
            except OSError as error:
                raise UserError(f"cannot read {self.path}: {error.strerror}") from error
            if count == 0:
                raise UserError(f"{self.path} is truncated: it has become shorter since it was opened")
            out, at = out[count:], at + count

    def _read(self, at: int, stride: int, size: int, memory: memoryview, late: list[Late]) -> None:
        """Pieces of `size` bytes, `stride` bytes apart in the file, if they are in memory; the others are late."""
        number = self._handle.number if self._handle is not None and self._handle.nowait else -1
        for begin in range(0, len(memory), size):
            piece = memory[begin : begin + size]
            count = 0
            if number >= 0 and sys.platform == "linux":
                try:
                    count = os.preadv(number, [piece], at, os.RWF_NOWAIT)
                except BlockingIOError:
                    count = 0
                except OSError:  # this file system cannot tell whether it would have to wait
                    number = self._cannot_tell()
            if count < size:
                late.append(Late(self, at + count, piece[count:]))
            at += stride

    def _cannot_tell(self) -> int:
        if self._handle is not None:
            self._handle.nowait = False
        return -1


class _Handle:
    def __init__(self, path: Path) -> None:
        self.nowait = LINUX
        self.number = -1
        try:
            self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        if sys.platform == "linux":  # reading ahead of random places fetches what nobody wants
            os.posix_fadvise(self.number, 0, 0, os.POSIX_FADV_RANDOM)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


def _row_bytes(column: Column) -> int:
    return column.bytes // max(1, column.shape[0])


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
