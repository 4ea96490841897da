"""`Video`: a file of frames, read by number or by time."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from innerworld.data.video.backend import DECODERS, backend
from innerworld.data.video.decoders import Decoder
from innerworld.data.video.index import FrameIndex, index_of
from innerworld.errors import UserError, choose

OPEN_DECODERS = 128
"""Decoders held open at once: each costs a file handle, of which many systems grant only 256."""

OPEN_BYTES = 1_000_000_000
REFERENCES = 20
"""Frames that a decoder may hold, of one and a half bytes a pixel: what a decoder is thought to cost."""


class Video:
    """Frames are counted from 0 in the order in which they are shown; times are seconds from the first frame.

    Making one reads the packets of the file and decodes one frame (see `index_of` for the errors). Decoders stay open
    and are shared by all videos of the same file in a process; they are closed when others were used more recently.
    """

    def __init__(self, path: str | Path, backend: str | None = None) -> None:
        """`backend` is one of `DECODERS`; None: the one that `backend()` chose. Unusual files are for PyAV always."""
        self.index = index_of(path)
        self._backend = backend
        if backend is not None:
            choose("video backend", backend, DECODERS)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def path(self) -> Path:
        return self.index.path

    @property
    def size(self) -> tuple[int, int]:
        """`y x` in pixels."""
        return self.index.size

    @property
    def fps(self) -> float:
        """Frames per second on average."""
        return self.index.fps

    @property
    def interval(self) -> float:
        """Seconds from one frame to the next: the median."""
        return self.index.interval

    @property
    def times(self) -> np.ndarray:
        """`n` seconds at which each frame is shown, the first at 0."""
        return self.index.times

    def frames(self, numbers: Sequence[int] | np.ndarray | slice | None = None) -> np.ndarray:
        """Frames by number, in any order and as often as asked for; None: all of them. `uint8 t y x c`, RGB.

        Raises `UserError` for a frame that is not there, and for one that is damaged.
        """
        asked = np.arange(len(self)) if numbers is None else _numbers(numbers, len(self))
        if not len(asked):
            return np.empty((0, *self.size, 3), np.uint8)
        if asked.min() < 0 or asked.max() >= len(self):
            wrong = (asked < 0) | (asked >= len(self))
            raise UserError(f"{self.path} has no frame {asked[wrong][0]}: it has {len(self)}, counted from 0")
        rising, places = asked, None
        if not (asked[1:] > asked[:-1]).all():
            rising, places = np.unique(asked, return_inverse=True)
        lock, decoder = _decoders.get(self.index, self._backend or backend().name)
        with lock:
            out = decoder.read(rising.tolist())
        return out if places is None else out[places]

    def at(self, seconds: Sequence[float] | np.ndarray, tolerance: float | None = None) -> np.ndarray:
        """The frames that are shown nearest to these times: `uint8 t y x c`, RGB.

        Raises `UserError` where none is within `tolerance` seconds, by default half a frame.
        """
        return self.frames(self.nearest(seconds, tolerance))

    def nearest(self, seconds: Sequence[float] | np.ndarray, tolerance: float | None = None) -> np.ndarray:
        """The numbers of the frames that are shown nearest to these times: `t`. Raises as `at` does."""
        asked = np.asarray(seconds, np.float64).reshape(-1)
        times = self.times
        after = np.searchsorted(times, asked).clip(1, max(len(times) - 1, 1))
        before = after - 1
        after = np.minimum(after, len(times) - 1)
        numbers = np.where(asked - times[before] <= times[after] - asked, before, after)
        # A hundredth more than half: times are often kept as float32, and rounded.
        allowed = 0.51 * self.index.interval if tolerance is None else tolerance
        good = np.abs(times[numbers] - asked) <= allowed
        if not good.all():
            i = int((~good).argmax())
            raise UserError(
                f"{self.path} has no frame within {allowed:.4g} s of {asked[i]:.6g} s: the nearest is frame "
                f"{numbers[i]} at {times[numbers[i]]:.6g} s of {len(self)}"
            )
        return numbers


def _numbers(numbers: Sequence[int] | np.ndarray | slice, count: int) -> np.ndarray:
    if isinstance(numbers, slice):
        return np.arange(count)[numbers]
    asked = np.asarray(numbers)
    if asked.ndim != 1 or (len(asked) and asked.dtype.kind not in "iu"):
        raise UserError(f"frames are asked for by a list of whole numbers, got {numbers!r}")
    return asked.astype(np.int64)


class _Decoders:
    """The decoders that are open, the most recently used last, each with the lock of whoever uses it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = Lock()
        self._open: OrderedDict[tuple[FrameIndex, str], tuple[Lock, Decoder]] = OrderedDict()

    def get(self, index: FrameIndex, name: str) -> tuple[Lock, Decoder]:
        if not index.plain:
            name = "av"  # TorchCodec 0.13 gives wrong frames where an edit list hides packets, and knows no half files
        key = (index, name)
        with self._lock:
            found = self._open.get(key)
            if found is not None:
                self._open.move_to_end(key)
                return found
            found = self._open[key] = (Lock(), DECODERS[name](index))
            while len(self._open) > 1 and (len(self._open) > OPEN_DECODERS or self._bytes() > OPEN_BYTES):
                self._open.popitem(last=False)  # closed when nobody uses it any more
        return found

    def _bytes(self) -> int:
        return sum(index.coded[0] * index.coded[1] * 3 // 2 * REFERENCES for index, _ in self._open)


_decoders = _Decoders()
if os.name != "nt":
    # A child would share the place in the file with its parent, and each would read what the other sought.
    os.register_at_fork(after_in_child=_decoders.forget)
