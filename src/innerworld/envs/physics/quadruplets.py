"""Films of the physics world: possible ones to learn from, and matched quadruplets to be surprised at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from innerworld.envs.physics.drawing import draw
from innerworld.envs.physics.engine import follow
from innerworld.envs.physics.principles import PRINCIPLES, draw_pair
from innerworld.envs.physics.scene import Path, Scene, hidden_of, state_of
from innerworld.envs.physics.solid import draw_solid
from innerworld.errors import UserError

Dimensions = Literal[2, 3]
"""Of the pictures: flat ones of our own, or MuJoCo's. What happens is the same."""

Sensors = dict[str, NDArray[Any]]
"""`pixels` uint8, `state` and `hidden` float32, each with the same leading axes."""


@dataclass(frozen=True)
class Quadruplets:
    """Of each q two possible films and two impossible ones: film 2 begins as film 0 does, and goes on as film 1."""

    sensors: Sensors  # each q 4 t ...
    cut: NDArray[np.int64]  # q   the last frame before what comes after was exchanged


def quadruplets(
    principle: str, n: int, seed: int = 0, size: int = 64, first: int = 0, dimensions: Dimensions = 2
) -> Quadruplets:
    """Quadruplets `first` to `first + n` of a principle; each depends on the seed and its number alone.

    The films 2 and 3 are impossible: of 0 and 1 with what comes after the cut exchanged. Raises `UserError` for an
    unknown principle, fewer than one quadruplet, and without pymunk, or in three dimensions MuJoCo.
    """
    if n < 1:
        raise UserError(f"quadruplets: n is at least 1, got {n}")
    rngs = [np.random.default_rng([seed, _KINDS["test"], _number(principle), first + i]) for i in range(n)]
    made = [_quadruplet(principle, rng, size, dimensions) for rng in rngs]
    names = made[0][0]
    return Quadruplets(
        {name: np.stack([sensors[name] for sensors, _ in made]) for name in names}, np.array([cut for _, cut in made])
    )


def possible(
    n: int,
    seed: int = 0,
    size: int = 64,
    principles: Sequence[str] = tuple(PRINCIPLES),
    dimensions: Dimensions = 2,
) -> Sensors:
    """`n` possible films of any of the principles' scenes, each sensor `n t ...`: what there is to learn from."""
    films = [film(np.random.default_rng([seed, _KINDS["train"], i]), size, principles, dimensions) for i in range(n)]
    return {name: np.stack([each[name] for each in films]) for name in films[0]}


def film(
    rng: np.random.Generator,
    size: int,
    principles: Sequence[str] = tuple(PRINCIPLES),
    dimensions: Dimensions = 2,
) -> Sensors:
    """One possible film of a scene of one of the principles: each sensor `t ...`."""
    pair = draw_pair(principles[int(rng.integers(len(principles)))], rng)
    return _shown(pair.one, follow(pair.one), size, dimensions)


_KINDS = {"test": 0, "train": 1}
"""So that no film to be judged on is among those to learn from, whatever the seeds."""


def _quadruplet(principle: str, rng: np.random.Generator, size: int, dimensions: Dimensions) -> tuple[Sensors, int]:
    pair = draw_pair(principle, rng)
    one, other = follow(pair.one), follow(pair.other)
    cut = _parting(one, other) if pair.cut is None else pair.cut
    films = [_shown(scene, path, size, dimensions) for scene, path in ((pair.one, one), (pair.other, other))]
    return {name: _joined(films[0][name], films[1][name], cut) for name in films[0]}, cut


def _parting(one: Path, other: Path) -> int:
    """The last frame before the things of two films are at different places."""
    differ = np.flatnonzero((one[..., :2] != other[..., :2]).any(axis=(1, 2)))
    return int(differ[0]) - 1


def _joined(one: NDArray[Any], other: NDArray[Any], cut: int) -> NDArray[Any]:
    """Two films `t ...` and what comes of exchanging their ends: `4 t ...`."""
    films = np.empty((4, *one.shape), one.dtype)
    films[0], films[1] = one, other
    films[2, : cut + 1], films[2, cut + 1 :] = one[: cut + 1], other[cut + 1 :]
    films[3, : cut + 1], films[3, cut + 1 :] = other[: cut + 1], one[cut + 1 :]
    return films


def _shown(scene: Scene, path: Path, size: int, dimensions: Dimensions) -> Sensors:
    pixels = draw(scene, path, size) if dimensions == 2 else draw_solid(scene, path, size)
    return {"pixels": pixels, "state": state_of(scene, path), "hidden": hidden_of(scene, path)}


def _number(principle: str) -> int:
    return crc32(principle.encode())
