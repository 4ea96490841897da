"""Costs: bind a model, a belief and a goal into the one thing that a planner knows, a function of actions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from innerworld.plan import Cost
from innerworld.types import State, each
from innerworld.world import WorldModel, flatten

LARGEST = 2**28
"""Numbers in the beliefs that are imagined at once: beliefs of many tokens would not find room for all candidates."""

Shape = Literal["last", "mean", "ramp"]
"""Which imagined steps count: the last one, all alike, or rising from 0.1 to 1 as in PLDM (arXiv 2502.14819)."""


def goal_cost(
    model: WorldModel, state: State, goal: State, shape: Shape = "mean", power: float = 1.0, every: int = 1
) -> Cost:
    """How far from the `goal` does each candidate lead? `state` and `goal` each `b ...`; candidates `b n h a` → `b n`.

    The cost is the weighted sum over the imagined steps of energy to the `power`. The exponent decides about detours:
    with 1 or 1/2 (squared and plain distance) the way around a wall, which first leads away, costs more than to stay
    where it is near, and no search can mend that. Near 0 the cost approaches the logarithm, every step that is not at
    the goal costs nearly the same, and the cheapest plan is the one that arrives first. With `every` = k only each k-th
    imagined step is looked at.
    """

    counted = set(goal)  # parts of a belief that are imagined: all, until the first are seen

    def cost(actions: Tensor) -> Tensor:
        beliefs = actions.shape[0] * actions.shape[2]  # of one candidate in every world
        costs, done = [], 0
        while done < actions.shape[1]:
            at_once = max(1, LARGEST // (beliefs * sum(goal[name][0].numel() for name in counted)))
            costs.append(some(actions[:, done : done + at_once]))
            done += at_once
        return torch.cat(costs, dim=1)

    def some(actions: Tensor) -> Tensor:
        b, n = actions.shape[:2]
        futures = each(lambda value: value[:, :, every - 1 :: every], model.imagine(state, actions))  # b n h ...
        counted.intersection_update(futures)
        h = len(range(every - 1, actions.shape[2], every))
        goals = {name: goal[name][:, None, None].expand(b, n, h, *goal[name].shape[1:]) for name in futures}
        energy = model.energy(flatten(futures, 3), flatten(goals, 3)).reshape(b, n, h)
        smallest = torch.finfo(energy.dtype).tiny  # the root of zero has no gradient
        return energy.clamp_min(smallest).pow(power) @ weights(shape, h, energy)

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
