"""Matched films, two possible and two impossible ones of a scene: what judges of surprise are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from innerworld.envs.physics.principles import PRINCIPLES
from innerworld.envs.physics.quadruplets import Dimensions, quadruplets
from innerworld.errors import UserError, choose


class Matched(Protocol):
    """Quadruplets of films by the principle that the impossible ones break."""

    def counts(self) -> dict[str, int]:
        """How many quadruplets there are of each principle."""
        ...

    def films(self, principle: str, rows: range) -> dict[str, NDArray[Any]]:
        """Some of them: each sensor `q 4 t ...`. Films 0 and 1 are possible; 2 and 3 are not, and begin as they do."""
        ...


@dataclass(frozen=True)
class PhysicsFilms:
    """The quadruplets of the physics world, drawn when they are asked for; the same for the same seed."""

    each: int  # quadruplets of a principle, of two pairs each
    principles: tuple[str, ...] = tuple(PRINCIPLES)
    seed: int = 0
    size: int = 64
    dimensions: Dimensions = 2

    def __post_init__(self) -> None:
        if self.each < 1 or not self.principles:
            raise UserError("physics films: at least one quadruplet of one principle")
        for principle in self.principles:
            choose("principle", principle, PRINCIPLES)

    def counts(self) -> dict[str, int]:
        return dict.fromkeys(self.principles, self.each)

    def films(self, principle: str, rows: range) -> dict[str, NDArray[Any]]:
        return quadruplets(principle, len(rows), self.seed, self.size, rows.start, self.dimensions).sensors


def in_order(possible: list[NDArray[np.uint8]], impossible: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Two and two films `t y x c` → `4 t y x c`, the impossible ones in the order of those that they begin as.

    Which that is, the number of equal first frames tells; where it does not, the order in which they come.
    """
    straight, crossed = (_alike(possible[0], impossible[i]) + _alike(possible[1], impossible[1 - i]) for i in (0, 1))
    return np.stack([*possible, *(impossible if straight >= crossed else impossible[::-1])])


def _alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """How many first frames are the same."""
    equal = (one == other).reshape(len(one), -1).all(axis=1)
    return len(equal) if equal.all() else int(np.argmin(equal))
