"""What moves behind a world and means nothing: a floor that flickers, or blobs that wander, drawn by seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from innerworld.envs.drawing import paint_disc

CELLS = 16  # of the flickering floor, along each side of the picture
BLOBS = 5
BLOB_RADIUS = 0.06  # of a side, as are the next two
BLOB_SPEED = 0.05  # a step, in the long run
BLOB_PUSH = 0.5  # share of its speed that is drawn anew in each step
BLOB_HUES = (0.2, 0.45, 1.0)  # the blobs' colour before the strength: nothing in our worlds that acts is blue


class Backdrop(Protocol):
    """Of many worlds. It is drawn from generators of its own: what happens in front is the same with and without."""

    def begin(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> None:
        """Begin anew in some worlds, with a generator for each of them."""
        ...

    def move(self) -> None:
        """One step, in all worlds."""
        ...

    def paint(self, background: NDArray[np.uint8], floor: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Pictures over what stands still, of which `floor` says how many 256ths are floor: each `n y x 3`."""
        ...


class Noise:
    """Each cell of the floor has a colour drawn anew in each step: no step tells anything of the next."""

    def __init__(self, n: int, size: int, strength: float) -> None:
        self._brightest = round(255 * strength)
        self._cell = np.arange(size) * CELLS // size  # of each row, and each column
        self._colors = np.zeros((n, CELLS, CELLS, 3), np.uint16)
        self._rngs = [np.random.default_rng(0) for _ in range(n)]

    def begin(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> None:
        for i, rng in zip(rows, rngs, strict=True):
            self._rngs[i] = rng
            self._draw(i)

    def move(self) -> None:
        for i in range(len(self._rngs)):
            self._draw(i)

    def paint(self, background: NDArray[np.uint8], floor: NDArray[np.uint16]) -> NDArray[np.uint8]:
        picture = np.take(np.take(self._colors, self._cell, 2), self._cell, 1)  # n y x 3
        picture *= floor  # in place: making new arrays of this size takes longer than the arithmetic
        picture >>= 8
        picture += background
        return np.minimum(picture, 255, out=picture).astype(np.uint8)

    def _draw(self, i: int) -> None:
        self._colors[i] = self._rngs[i].integers(self._brightest + 1, size=(CELLS, CELLS, 3), dtype=np.uint16)


class Blobs:
    """Blue discs that wander over everything but the agent: a pushed, damped walk, of which a step tells a little."""

    def __init__(self, n: int, size: int, strength: float) -> None:
        self.size = size
        self._radius = np.full(n, BLOB_RADIUS * size, np.float32)
        self._color = np.full((n, 3), BLOB_HUES, np.float32) * strength
        self._place = np.zeros((n, BLOBS, 2), np.float32)  # x y, of a side
        self._way = np.zeros((n, BLOBS, 2), np.float32)
        self._rngs = [np.random.default_rng(0) for _ in range(n)]

    def begin(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> None:
        for i, rng in zip(rows, rngs, strict=True):
            self._rngs[i] = rng
            self._place[i] = rng.random((BLOBS, 2))
            self._way[i] = BLOB_SPEED * rng.standard_normal((BLOBS, 2))

    def move(self) -> None:
        push = np.stack([rng.standard_normal((BLOBS, 2)) for rng in self._rngs]).astype(np.float32)
        # Of pushes and damping the spread stays what it was: the variance is (1 - k)² + k (2 - k) = 1.
        self._way = (1 - BLOB_PUSH) * self._way + np.sqrt(BLOB_PUSH * (2 - BLOB_PUSH)) * BLOB_SPEED * push
        place = self._place + self._way
        beyond = (place < 0) | (place > 1)
        self._way = np.where(beyond, -self._way, self._way)
        self._place = np.clip(np.where(place < 0, -place, np.where(place > 1, 2 - place, place)), 0, 1)

    def paint(self, background: NDArray[np.uint8], floor: NDArray[np.uint16]) -> NDArray[np.uint8]:
        picture = background
        for k in range(BLOBS):
            picture = paint_disc(picture, self._place[:, k] * self.size, self._radius, self._color)
        return picture


BACKDROPS: dict[str, type[Noise] | type[Blobs]] = {"noise": Noise, "blobs": Blobs}
