"""Several low-energy answers at once: many starts, each followed downhill, those that meet counted as one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from innerworld.energy.descend import Descent, Optimiser, descend
from innerworld.energy.scalar import Energy, Projection, anywhere, values
from innerworld.errors import UserError


@dataclass(frozen=True)
class Minima:
    """The answers, lowest first."""

    x: Tensor  # k ...
    energy: Tensor  # k
    basin: Tensor  # k   how many starts led there
    converged: Tensor  # k   whether its lowest point had settled; if not, it may be on its way to another answer


def minima(
    energy: Energy,
    starts: Tensor,
    apart: float,
    steps: int = 500,
    lr: float = 0.05,
    optimiser: Optimiser = "adam",
    project: Projection = anywhere,
    repel: float = 0.0,
) -> Minima:
    """Descend from every point of `starts` `n ...`; ends within `apart` (Euclidean) of a lower one are that one.

    With `repel` > 0 the points first push each other away while they descend, by a Gaussian hill of that height and of
    width `apart` on every other point, so that starts of one basin may find others; then all descend alone. Raises
    `UserError` as `descend` does. Starts of energy NaN or infinity are no answers.
    """
    if not apart > 0 or repel < 0 or not len(starts):
        raise UserError(
            f"minima take a start or more, apart > 0 and repel >= 0, got {len(starts)}, {apart:g}, {repel:g}"
        )
    if repel > 0:
        pushed = _with_hills(energy, apart, repel)
        starts = _last(pushed, starts, steps, lr, optimiser, project)
    return _merged(descend(energy, starts, steps, lr, optimiser, project=project), apart)


def free_energy(energies: Tensor, temperature: float, dim: int = -1) -> Tensor:
    """What remains when a latent is summed out: −T log mean exp(−E / T) over `dim`.

    `energies` are those of latents drawn evenly. For T → 0 it is the least energy; a temperature of 0 gives that.
    """
    if temperature == 0:
        return energies.amin(dim=dim)
    if not temperature > 0:
        raise UserError(f"a temperature is 0 or more, got {temperature:g}")
    count = torch.tensor(energies.shape[dim], dtype=energies.dtype, device=energies.device)
    return -temperature * ((-energies / temperature).logsumexp(dim=dim) - count.log())


def _with_hills(energy: Energy, width: float, height: float) -> Energy:
    """The energy with a hill on every point of the batch, for the others; the hills themselves do not move."""

    def pushed(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        far = (flat[:, None] - flat.detach()[None]).square().sum(dim=-1)  # n n
        hills = height * torch.exp(-far / (2 * width**2))
        return values(energy, x) + hills.sum(dim=1) - hills.diagonal()

    return pushed


def _last(energy: Energy, starts: Tensor, steps: int, lr: float, optimiser: Optimiser, project: Projection) -> Tensor:
    """Where the points are after the last step: the lowest seen would mean little where the hills move along."""
    seen = starts

    def follow(x: Tensor) -> Tensor:
        nonlocal seen
        seen = x.detach().clone()
        return energy(x)

    descend(follow, starts, steps, lr, optimiser, project=project, tolerance=None)
    return seen


def _merged(ends: Descent, apart: float) -> Minima:
    order = ends.energy.argsort(stable=True)
    order = order[ends.energy[order].isfinite()]
    flat = ends.x[order].flatten(1)
    far = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")  # n n
    kept: list[int] = []
    basin: list[int] = []
    for i in range(len(order)):
        near = [place for place, k in enumerate(kept) if far[i, k] <= apart]
        if near:
            basin[near[0]] += 1
        else:
            kept.append(i)
            basin.append(1)
    chosen = order[kept]
    counted = torch.tensor(basin, device=ends.x.device)
    return Minima(ends.x[chosen], ends.energy[chosen], counted, ends.converged[chosen])
