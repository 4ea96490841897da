"""How far from the goal does each action lead? The energy over a grid of two action dimensions, for one belief."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import repeat
from numpy.typing import NDArray
from torch import Tensor

from innerworld.agent import goal_cost
from innerworld.errors import UserError
from innerworld.types import Spec, State
from innerworld.world import WorldModel


@dataclass(frozen=True)
class Landscape:
    """Energies over a grid: `energy[j, i]` belongs to the action with `x[i]` and `y[j]` in its two dimensions."""

    dims: tuple[int, int]
    x: NDArray[np.float64]  # m
    y: NDArray[np.float64]  # m
    energy: NDArray[np.float64]  # m m   rows y, columns x
    now: float  # energy of the belief itself

    @property
    def best(self) -> tuple[float, float]:
        """The grid's lowest point."""
        j, i = np.unravel_index(int(np.argmin(self.energy)), self.energy.shape)
        return float(self.x[i]), float(self.y[j])


@torch.no_grad()
def landscape(
    model: WorldModel,
    state: State,
    goal: State,
    dims: tuple[int, int] = (0, 1),
    reach: float = 1.0,
    points: int = 21,
    base: Tensor | None = None,
    steps: int = 1,
    block: int = 1,
    at_once: int = 64,
) -> Landscape:
    """The energy after doing each action of a grid for `steps` imagined steps, as V-JEPA 2-AC's notebook draws it.

    `state` and `goal` hold one row each. Two dimensions `dims` go from -`reach` to `reach` in `points` points, the
    others stay as in `base` (`a`; zeros). Of a model of blocks (`block` actions joined), each action fills a block.
    `at_once` candidates are imagined together. Raises `UserError` for choices, several rows, and a grid that an action
    has no room for.
    """
    a = _action(model.spec, block)
    _check(a, dims, reach, points, steps)
    if any(len(value) != 1 for value in (*state.values(), *goal.values())):
        raise UserError("an energy landscape is of one belief and one goal: give one row of each")
    base = torch.zeros(a) if base is None else base
    if base.shape != (a,):
        raise UserError(f"base has shape {tuple(base.shape)}, an action ({a},)")
    device = next(iter(goal.values())).device
    ticks = torch.linspace(-reach, reach, points, dtype=base.dtype, device=device)
    actions = base.to(device).repeat(points * points, 1)  # n a
    actions[:, dims[0]] = ticks.repeat(points)
    actions[:, dims[1]] = ticks.repeat_interleave(points)
    candidates = repeat(actions, "n a -> 1 n h (k a)", h=steps, k=block)
    cost = goal_cost(model, state, goal, "last")
    energy = torch.cat([cost(part) for part in candidates.split(at_once, dim=1)], dim=1).reshape(points, points)
    grid = ticks.double().cpu().numpy()
    return Landscape(dims, grid, grid, energy.double().cpu().numpy(), float(model.energy(state, goal)))


def _action(spec: Spec, block: int) -> int:
    """The size of one action."""
    if spec.discrete or block < 1 or spec.action % block or spec.action // block < 2:
        kind = "choices" if spec.discrete else f"actions of size {spec.action} in blocks of {block}"
        raise UserError(f"an energy landscape is over two dimensions of a continuous action, and this model has {kind}")
    return spec.action // block


def _check(a: int, dims: tuple[int, int], reach: float, points: int, steps: int) -> None:
    if len(set(dims)) < 2 or not all(0 <= dim < a for dim in dims):
        raise UserError(f"dims {dims} are not two different dimensions of an action of size {a}, counted from 0")
    if points < 2 or steps < 1 or not 0 < reach <= 1:
        raise UserError(
            f"a landscape has at least 2 points and 1 step and a reach in (0, 1], got {points}, {steps}, {reach:g}"
        )
