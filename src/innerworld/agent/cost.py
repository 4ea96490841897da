"""Costs: bind a model, a belief and a goal into the one thing that a planner knows, a function of actions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from innerworld.plan import Cost
from innerworld.types import State, each
from innerworld.world import WorldModel, flatten

Shape = Literal["last", "mean", "ramp"]
"""Which imagined steps count: the last one, all alike, or rising from 0.1 to 1 as in PLDM (arXiv 2502.14819)."""


def goal_cost(model: WorldModel, state: State, goal: State, shape: Shape = "ramp") -> Cost:
    """How far from the `goal` (`b ...`) does each candidate lead from `state` (`b ...`)? Candidates `b n h a` → `b n`."""

    def cost(actions: Tensor) -> Tensor:
        b, n, h, _ = actions.shape
        futures = model.imagine(state, actions)  # b n h ...
        goals = each(lambda value: value[:, None, None].expand(b, n, h, *value.shape[1:]), goal)
        matched = {name: goals[name] for name in futures if name in goals}
        energy = model.energy(flatten(futures, 3), flatten(matched, 3)).reshape(b, n, h)
        return energy @ weights(shape, h, energy)

    return cost


def weights(shape: Shape, horizon: int, like: Tensor) -> Tensor:
    """The weight of each imagined step, `h`, summing to one."""
    if shape == "last":
        weight = like.new_zeros(horizon)
        weight[-1] = 1
        return weight
    rising = torch.linspace(0.1, 1, horizon, dtype=like.dtype, device=like.device)
    weight = rising if shape == "ramp" else like.new_ones(horizon)
    return weight / weight.sum()
