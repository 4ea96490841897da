"""What an energy is here: points in, one number for each out, low where things go together; asked with checks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from innerworld.errors import UserError

Energy = Callable[[Tensor], Tensor]
"""How badly does that fit? Points `n ...` → `n`, lower is better; NaN and infinity count as worst."""

Cost = Callable[[Tensor], Tensor]
"""A planner's cost, as `plan.Cost`: candidate actions `b n h a` → `b n`."""

Projection = Callable[[Tensor], Tensor]
"""Points `n ...` → allowed ones of the same shape; what is allowed already stays as it is."""


def anywhere(x: Tensor) -> Tensor:
    """No bounds."""
    return x


def box(low: float, high: float) -> Projection:
    """Every number of a point within [low, high]; actions lie in `box(-1, 1)`."""
    if not low < high:
        raise UserError(f"a box reaches from low to high, got [{low:g}, {high:g}]")
    return lambda x: x.clamp(low, high)


def of_plans(cost: Cost) -> Energy:
    """A cost of one world (`1 n h a` → `1 n`, such as `agent.goal_cost` makes) as an energy of plans `n h a`."""
    return lambda plans: cost(plans[None])[0]


def floats(start: Tensor) -> Tensor:
    """The start of a search, without its past. Raises `UserError` unless it holds points `n ...` of floats."""
    if not start.ndim or not start.is_floating_point():
        raise UserError(f"a start is points n ... of floats, got {start.dtype} of shape {tuple(start.shape)}")
    return start.detach()


def values(energy: Energy, x: Tensor) -> Tensor:
    """The energy of each point, with infinity for what is not finite: `n ...` → `n` (also `b n ...` → `b n`).

    Raises `UserError` when the energy does not give one number for each point.
    """
    value = energy(x)
    if not value.ndim or value.shape != x.shape[: value.ndim] or (value.ndim == x.ndim and x.ndim > 1):
        raise UserError(
            f"the energy returned shape {tuple(value.shape)} for points of shape {tuple(x.shape)}: "
            "give one number for each point"
        )
    return torch.where(value.isfinite(), value, torch.inf)


def slope(energies: Tensor, x: Tensor) -> Tensor:
    """Gradient of each point's own energy, in the shape of `x`; zero where it is not finite, so that a lost one rests.

    `energies` are what `values` gave for `x`, which requires a gradient. Raises `UserError` when there is none.
    """
    told = None
    if energies.requires_grad:
        (told,) = torch.autograd.grad(energies[energies.isfinite()].sum(), x, allow_unused=True)
    if told is None:
        raise UserError(
            "the energy has no gradient with respect to its points (or actions): "
            "compute it without detach and no_grad, or search by sampling (a planner such as cem)"
        )
    return torch.where(told.isfinite(), told, 0)


def over(rows: Tensor, x: Tensor) -> Tensor:
    """One number for each point, `n` → `n 1 ...`, to go with points `n ...`."""
    return rows.reshape(*rows.shape, *[1] * (x.ndim - rows.ndim))
