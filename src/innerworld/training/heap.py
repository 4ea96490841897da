"""Memory that a training step frees stays with the process, for the next step will want it again."""

from __future__ import annotations

import ctypes
import sys

KEEP = 256 * 2**20  # bytes at the heap's end that are not given back
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MMAP = 32 * 2**20  # bytes from which a block has pages of its own; glibc allows no more


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed, up to 256 MiB. Returns whether it is there and obeyed.

    As it comes it gives the end of its heap back to the system whenever 128 KiB there are free, and a step of a small
    model takes and frees megabytes: then the system spends as long on filling pages with zeros as the step on its
    mathematics. Other allocators are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, MMAP)) and bool(mallopt(M_TRIM_THRESHOLD, KEEP))
