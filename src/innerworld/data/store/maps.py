"""`Maps`: memory maps of a store's files, no more open at once than the system grants, and never much in memory."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Mapping

import numpy as np

from innerworld.data.store.packed import Packed

Columns = Mapping[str, np.ndarray | Packed]

RESIDENT_BYTES = 1_000_000_000
"""Of mapped files in memory, above which they are given back; their pages stay in the system's cache."""

ASK_EVERY_BYTES = 64_000_000
LARGEST = 16_384
"""Maps, where the system grants more: Linux allows 65,530 areas of memory to a process."""


class Maps:
    """The columns of mapped files by a number; the oldest go when there are too many."""

    def __init__(self) -> None:
        self.limit = open_limit()
        self._open: dict[int, tuple[Columns, mmap.mmap]] = {}
        self._touched = 0
        self._touched_since = 0  # memory was given back
        self._before: int | None = None

    def get(self, number: int) -> Columns | None:
        found = self._open.get(number)
        return None if found is None else found[0]

    def put(self, number: int, columns: Columns, memory: mmap.mmap) -> None:
        # One step each for the interpreter: a thread that fetches ahead may do the same meanwhile.
        self._open[number] = (columns, memory)
        for oldest in list(self._open)[: max(0, len(self._open) - self.limit)]:
            self._open.pop(oldest, None)

    def touched(self, count: int) -> None:
        """Say that about `count` bytes were read through the maps: now and then their memory is given back.

        Every page that a process touches in a mapped file counts as its memory, and the system maps the pages around it
        as well; in training from a large store that is all of the store sooner or later.
        """
        if self._before is None:
            self._before = mapped_bytes()
        self._touched += count
        if self._touched < ASK_EVERY_BYTES:
            return
        self._touched_since += self._touched
        self._touched = 0
        now = mapped_bytes()
        grown = 4 * self._touched_since if now is None or self._before is None else now - self._before
        if grown > RESIDENT_BYTES:
            self.forget()

    def forget(self) -> None:
        """Give the memory of all maps back; what is read again comes from the system's cache, or from the disk."""
        self._touched_since = 0
        if sys.platform == "win32":
            self._open.clear()
            return
        for _, memory in list(self._open.values()):
            memory.madvise(mmap.MADV_DONTNEED)


def open_limit() -> int:
    """How many files may be mapped at once: half of what this process may open, for each map costs a file handle.

    From Python 3.13 on it costs none.
    """
    if sys.platform == "win32":
        return LARGEST
    if sys.version_info >= (3, 13):
        return LARGEST
    import resource  # which Windows lacks

    granted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LARGEST if granted == resource.RLIM_INFINITY else min(LARGEST, max(8, granted // 2))


def mapped_bytes() -> int | None:
    """Memory of this process that is backed by files. None where the system does not say (only Linux does)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[2]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
