"""The energy over a plane: of a held action's two dimensions, of plans, or of beliefs; for eyes and for searches.

Loss surfaces were drawn so by Li et al. (arXiv 1712.09913), energies of actions by V-JEPA 2-AC (arXiv 2506.09985).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import repeat
from numpy.typing import NDArray
from torch import Tensor

from innerworld.energy.latents import OfBelief, latents
from innerworld.energy.scalar import Cost, Energy, of_plans, values
from innerworld.errors import UserError
from innerworld.types import Spec, State


@dataclass(frozen=True)
class Landscape:
    """Energies over a grid: `energy[j, i]` belongs to `x[i]` along the first direction and `y[j]` along the second."""

    x: NDArray[np.float64]  # m
    y: NDArray[np.float64]  # m
    energy: NDArray[np.float64]  # m m   rows y, columns x; NaN where nothing is allowed
    now: float  # what to compare with: the energy before anything is done, or in the middle

    @property
    def best(self) -> tuple[float, float]:
        """The grid's lowest point."""
        j, i = np.unravel_index(int(np.nanargmin(self.energy)), self.energy.shape)
        return float(self.x[i]), float(self.y[j])


@torch.no_grad()
def landscape(
    energy: Energy, centre: Tensor, directions: Tensor, reach: float = 1.0, points: int = 21, at_once: int = 64
) -> Landscape:
    """The energy at centre + x · directions[0] + y · directions[1], each from -`reach` to `reach` in `points` points.

    `centre` is `...`, `directions` `2 ...`. `at_once` points are asked about together. Raises `UserError` for shapes
    that do not fit, directions that are parallel, an energy of a wrong shape, or one that is nowhere finite.
    """
    _check(centre, directions, reach, points)
    ticks = torch.linspace(-reach, reach, points, dtype=centre.dtype, device=centre.device)
    places = torch.stack([ticks.repeat(points), ticks.repeat_interleave(points)], dim=1)  # (y x) 2
    plane = centre + (places @ directions.flatten(1)).unflatten(1, centre.shape)  # (y x) ...
    found = torch.cat([values(energy, some) for some in plane.split(at_once)]).reshape(points, points)
    if not bool(found.isfinite().any()):
        raise UserError("the energy is NaN or infinite on the whole plane: look elsewhere, or mend the energy there")
    grid = ticks.double().cpu().numpy()
    heights = torch.where(found.isfinite(), found, torch.nan).double().cpu().numpy()
    return Landscape(grid, grid, heights, float(values(energy, centre[None])))


def action_landscape(
    cost: Cost,
    spec: Spec,
    now: float,
    dims: tuple[int, int] = (0, 1),
    reach: float = 1.0,
    points: int = 21,
    base: Tensor | None = None,
    steps: int = 1,
    block: int = 1,
    at_once: int = 64,
) -> Landscape:
    """The cost of each action of a grid when held for `steps` steps, as V-JEPA 2-AC's notebook draws it.

    `cost` is of one world (`1 n h a`), such as `goal_cost(model, state, goal, "last")`; `now` the energy of the belief
    before acting. Two dimensions `dims` go from -`reach` to `reach`, the others stay as in `base` (`a`; zeros). Of a
    model of blocks (`block` actions joined), each action fills a block. Raises `UserError` for choices, a grid that an
    action has no room for, and as `landscape` does.
    """
    a = _action(spec, block)
    if len(set(dims)) < 2 or not all(0 <= dim < a for dim in dims):
        raise UserError(f"dims {dims} are not two different dimensions of an action of size {a}, counted from 0")
    if steps < 1 or not 0 < reach <= 1:
        raise UserError(f"a landscape of actions has at least 1 step and a reach in (0, 1], got {steps}, {reach:g}")
    centre = torch.zeros(a) if base is None else base.clone()
    if centre.shape != (a,):
        raise UserError(f"base has shape {tuple(centre.shape)}, an action ({a},)")
    centre[list(dims)] = 0
    along = torch.eye(a, dtype=centre.dtype, device=centre.device)[list(dims)]  # 2 a
    held, both = (repeat(value, "... a -> ... h (k a)", h=steps, k=block) for value in (centre, along))
    found = landscape(of_plans(cost), held, both, reach, points, at_once)
    return Landscape(found.x, found.y, found.energy, now)


def plan_landscape(
    cost: Cost, centre: Tensor, directions: Tensor, reach: float = 1.0, points: int = 21, at_once: int = 64
) -> Landscape:
    """The cost over a plane of plans: `centre` `h a`, `directions` `2 h a`, such as the `principal` ones of elites.

    `cost` is of one world (`1 n h a`). Where an action would leave [-1, 1] there is no plan, and the energy is NaN.
    Raises `UserError` for a centre out of bounds, and as `landscape` does.
    """
    if centre.ndim != 2 or not bool((centre.abs() <= 1).all()):
        raise UserError(f"the centre is a plan h a within [-1, 1], got shape {tuple(centre.shape)}")
    plans = of_plans(cost)

    def bounded(x: Tensor) -> Tensor:
        outside = (x.abs() > 1 + 1e-6).flatten(1).any(dim=1)  # n
        return plans(x.clamp(-1, 1)).masked_fill(outside, torch.inf)

    return landscape(bounded, centre, directions, reach, points, at_once)


def belief_landscape(
    of_belief: OfBelief,
    state: State,
    directions: Tensor,
    names: tuple[str, ...] = (),
    reach: float = 1.0,
    points: int = 21,
    at_once: int = 64,
) -> Landscape:
    """The energy around one belief (each `1 ...`) over two `directions` `2 d` of its parts `names`, as in `Latents`.

    Raises `UserError` for several rows, and as `latents` and `landscape` do.
    """
    if any(len(value) != 1 for value in state.values()):
        raise UserError("an energy landscape is around one belief: give one row")
    free = latents(state, names)
    return landscape(free.energy(of_belief), free.vectors[0], directions, reach, points, at_once)


def principal(x: Tensor) -> Tensor:
    """The two directions in which points `n ...` spread most, each as long as their standard deviation: `2 ...`.

    Raises `UserError` for points that lie on a line.
    """
    flat = x.flatten(1)
    _, sizes, rows = torch.linalg.svd(flat - flat.mean(dim=0), full_matrices=False)
    if len(sizes) < 2 or not sizes[1] > 1e-6 * sizes[0]:
        raise UserError(f"{len(x)} points of {flat.shape[1]} numbers spread in fewer than two directions: give others")
    signs = rows[:2].gather(1, rows[:2].abs().argmax(dim=1, keepdim=True)).sign()  # or a sign would be chance
    return (signs * rows[:2] * sizes[:2, None] / len(x) ** 0.5).unflatten(1, x.shape[1:])


def _action(spec: Spec, block: int) -> int:
    """The size of one action."""
    if spec.discrete or block < 1 or spec.action % block or spec.action // block < 2:
        kind = "choices" if spec.discrete else f"actions of size {spec.action} in blocks of {block}"
        raise UserError(f"an energy landscape is over two dimensions of a continuous action, and this model has {kind}")
    return spec.action // block


def _check(centre: Tensor, directions: Tensor, reach: float, points: int) -> None:
    if directions.shape != (2, *centre.shape):
        raise UserError(
            f"directions have shape {tuple(directions.shape)}, around a centre of shape {tuple(centre.shape)} "
            f"they are {(2, *centre.shape)}"
        )
    if torch.linalg.matrix_rank(directions.flatten(1)) < 2:
        raise UserError("the two directions are parallel, or zero: a plane needs two different ones")
    if points < 2 or not reach > 0:
        raise UserError(f"a landscape has at least 2 points and a reach above 0, got {points}, {reach:g}")
