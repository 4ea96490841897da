"""What a training step frees is there for the next."""

from __future__ import annotations

import subprocess
import sys

import pytest

STEPS = 50
WORK = f"""
import ctypes, resource, sys
from innerworld.training.heap import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(3)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def step():
    blocks = [libc.malloc(100_000) for _ in range(40)]
    for block in blocks:
        ctypes.memset(block, 1, 100_000)
    for block in blocks:
        libc.free(block)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({STEPS}):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Pages that the system had to fill with zeros while a process took and freed four megabytes again and again."""
    done = subprocess.run([sys.executable, "-c", WORK, how], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("the allocator is not glibc's")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
def test_what_is_freed_is_not_zeroed_again():
    given_back, kept = faults("as it comes"), faults("keep")
    assert given_back > STEPS * 500, given_back
    assert kept < STEPS * 10, kept
