"""Beliefs as plain vectors, so that an energy of beliefs can be descended, sampled and drawn; and what that infers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from innerworld.energy.descend import Descent, descend
from innerworld.energy.scalar import Energy
from innerworld.errors import UserError
from innerworld.types import State

OfBelief = Callable[[State], Tensor]
"""An energy of beliefs, each `n ...` → `n`, such as `lambda belief: model.energy(belief, goal)`."""


@dataclass(frozen=True)
class Latents:
    """The parts `names` of beliefs (each `b ...`) as vectors; the other parts stay as they are in `held`."""

    held: State
    names: tuple[str, ...]

    @property
    def vectors(self) -> Tensor:
        """The beliefs themselves: `b d`."""
        return torch.cat([self.held[name].flatten(1) for name in self.names], dim=-1)

    def belief(self, x: Tensor) -> State:
        """Vectors `n d` → beliefs, each `n ...`; n is that of `held`, or `held` is one row that all share."""
        b = len(self.held[self.names[0]])
        sizes = [self.held[name][0].numel() for name in self.names]
        if x.ndim != 2 or x.shape[1] != sum(sizes) or b not in (1, len(x)):
            raise UserError(f"vectors have shape {tuple(x.shape)}, beliefs of {b} rows need ({b}, {sum(sizes)})")
        free = dict(zip(self.names, x.split(sizes, dim=1), strict=True))
        return {
            name: free[name].unflatten(1, value.shape[1:]) if name in free else value.expand(len(x), *value.shape[1:])
            for name, value in self.held.items()
        }

    def energy(self, of_belief: OfBelief) -> Energy:
        """An energy of beliefs as one of vectors: `n d` → `n`."""
        return lambda x: of_belief(self.belief(x))


def latents(state: State, names: Sequence[str] = ()) -> Latents:
    """Let these parts of a belief be free; none named: all that are floats. Raises `UserError` for other parts."""
    floats = [name for name, value in state.items() if value.is_floating_point()]
    for name in names:
        if name not in floats:
            raise UserError(f"a belief's part {name!r} cannot be inferred: its parts made of floats are {floats}")
    if not (names or floats):
        raise UserError(f"this belief has no part made of floats: {sorted(state)}")
    return Latents(state, tuple(names or floats))


def infer(
    of_belief: OfBelief,
    state: State,
    names: Sequence[str] = (),
    steps: int = 200,
    lr: float = 0.05,
    tolerance: float | None = 1e-6,
) -> tuple[State, Descent]:
    """The belief of least energy found downhill from `state`: what explains an observation, or lies between two.

    An observation is explained with `lambda z: model.energy(z, model.encode(obs))`, or through the decoder; what lies
    between a and b with `lambda z: model.energy(a, z) + model.energy(z, b)`. Only the parts `names` move. Raises
    `UserError` as `latents` and `descend` do.
    """
    free = latents(state, names)
    found = descend(free.energy(of_belief), free.vectors, steps, lr, tolerance=tolerance)
    return free.belief(found.x), found
