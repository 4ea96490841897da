"""`Buffers`: memory for batches that is used again once nobody holds the batch; fresh memory costs half of a read."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from math import prod

import numpy as np

LARGE = 1 << 20
"""Bytes. What is smaller comes from the allocator, which keeps such pieces itself."""

SPARE = 2
"""Free pieces kept of each size: one that is being filled while another is freed, and one for a prefetching thread."""


class Buffers:
    """Arrays whose memory comes back when the array is gone, and with it every tensor that shares it.

    A large array fresh from the system is handed out page by page, each cleared first: at 224 x 224 that takes about as
    long as copying the frames. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray]] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"_free": {}}

    def empty(self, shape: Sequence[int], dtype: type[np.generic]) -> np.ndarray:
        """An array with any content. Hand on this very object (or a tensor over it): views do not keep it alive."""
        size = prod(shape) * np.dtype(dtype).itemsize
        if size < LARGE:
            return np.empty(shape, dtype)
        free = self._free.setdefault(size, [])
        try:
            memory = free.pop()
        except IndexError:  # not `if free`: another thread may take the last one in between
            memory = np.empty(size, np.uint8)
        array = memory.view(dtype).reshape(shape)
        weakref.finalize(array, _give_back, free, memory).atexit = False
        return array


def _give_back(free: list[np.ndarray], memory: np.ndarray) -> None:
    if len(free) < SPARE:
        free.append(memory)
