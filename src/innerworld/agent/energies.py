"""How far beliefs are from others, in the model's energy: many at once, of whatever axes beliefs and goals have."""

from __future__ import annotations

import torch
from torch import Tensor

from innerworld.types import State, each
from innerworld.world import WorldModel, flatten

AT_ONCE = 2**24
"""Numbers in the beliefs that are compared at once."""


def to_goal(model: WorldModel, states: State, goal: State, axes: int) -> Tensor:
    """Energies from beliefs, each `b m… …` with so many leading `axes`, to the goal of their row, each `b …`: `b m…`.

    A goal may hold more than the beliefs, which may lack what only going on needs.
    """
    return energies(model, states, each(lambda value: value[(slice(None), *[None] * (axes - 1))], goal), axes)


def to_each(model: WorldModel, states: State, goals: State) -> Tensor:
    """The energy from each belief `b ...` to each goal `k ...`: `b k`, for some of the beliefs at a time."""
    b, k = (len(next(iter(some.values()))) for some in (states, goals))
    rows = max(1, AT_ONCE // (k * sum(value[0].numel() for value in goals.values())))
    there = each(lambda value: value[None], goals)
    found = [
        energies(model, each(lambda value, first=first: value[first : first + rows, None], states), there, 2)
        for first in range(0, b, rows)
    ]
    return torch.cat(found)


def energies(model: WorldModel, states: State, goals: State, axes: int) -> Tensor:
    """Energies between beliefs and goals whose first `axes` axes fit each other; one of size 1 counts for all."""
    pairs = {name: (value, goals[name]) for name, value in states.items()}
    first, second = next(iter(pairs.values()))
    lead = torch.broadcast_shapes(first.shape[:axes], second.shape[:axes])
    here, there = (
        {name: pair[which].expand(*lead, *pair[which].shape[axes:]) for name, pair in pairs.items()} for which in (0, 1)
    )
    return model.energy(flatten(here, axes), flatten(there, axes)).unflatten(0, lead)
