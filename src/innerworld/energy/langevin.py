"""Inference by sampling: points drawn with probability ∝ exp(-E / T), by noisy steps downhill (Langevin dynamics).

Unadjusted as in Welling and Teh 2011; with a Metropolis test (MALA, Roberts and Tweedie 1996) the draws are exact for
any step size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from innerworld.energy.scalar import Energy, Projection, anywhere, floats, over, slope, values
from innerworld.errors import UserError


@dataclass(frozen=True)
class Chains:
    """Where each chain got to."""

    x: Tensor  # n ...
    energy: Tensor  # n
    accepted: Tensor  # n   share of the proposals that were taken; 1 without the test
    kept: Tensor  # k n ...   the points after each `every` steps


def langevin(
    energy: Energy,
    start: Tensor,
    rng: Generator,
    steps: int = 100,
    step_size: float = 0.01,
    temperature: float | Sequence[float] = 1.0,
    adjust: bool = False,
    project: Projection = anywhere,
    every: int = 0,
) -> Chains:
    """Walk from every point of `start` `n ...`: x ← x − η ∇E(x) + √(2 η T) ξ, with η the `step_size`, ξ normal.

    `temperature` is one number, or one for each step (`annealed`). With `adjust` each step is a proposal that is taken
    or refused so that exp(-E / T) is what is drawn from; bounds are then said by an energy that is infinite beyond
    them, which refuses the step, and `project` is for unadjusted chains alone. With `every` = k each k-th point is
    kept. Raises `UserError` for an energy without gradient or of a wrong shape, a start of energy NaN or infinity, and
    an unadjusted chain that gets to such a place.
    """
    heat = _heat(temperature, steps, step_size, adjust, project)
    x = project(floats(start)).clone()
    now, down = _look(energy, x)
    if not bool(now.isfinite().all()):
        raise UserError("the energy is NaN or infinite at a start: begin elsewhere, or mend the energy there")
    accepted, kept = torch.zeros_like(now), []
    for k, t in enumerate(heat, start=1):
        noise = torch.randn(x.shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device)
        there = project(x - step_size * down + math.sqrt(2 * step_size * t) * noise)
        then, slope_there = _look(energy, there)
        if adjust:
            back = _squares(x - there + step_size * slope_there, now) / (4 * step_size * t)
            chance = (now - then) / t + _squares(noise, now) / 2 - back  # n   logarithm
            drawn = torch.rand(now.shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device).log()
            take = drawn < chance
        else:
            take = then.isfinite()
            if not bool(take.all()):
                raise UserError(f"the energy became NaN or infinite in step {k}: choose a smaller step_size")
        x, down = (torch.where(over(take, x), new, old) for new, old in ((there, x), (slope_there, down)))
        now, accepted = torch.where(take, then, now), accepted + take
        if every and k % every == 0:
            kept.append(x)
    return Chains(x, now, accepted / max(1, len(heat)), torch.stack(kept) if kept else x.new_zeros(0, *x.shape))


def annealed(first: float, last: float, steps: int) -> list[float]:
    """Temperatures that fall by the same factor in every step, from `first` to `last`: one for each step."""
    if not (first > 0 and last > 0 and steps >= 1):
        raise UserError(f"annealing takes temperatures above 0 and steps >= 1, got {first:g}, {last:g}, {steps}")
    return [first * (last / first) ** (k / max(1, steps - 1)) for k in range(steps)]


def _look(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """Energy `n` and slope `n ...` of points, of which the caller needs no graph."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        energies = values(energy, at)
        return energies.detach(), slope(energies, at)


def _squares(x: Tensor, rows: Tensor) -> Tensor:
    return x.square().flatten(rows.ndim).sum(dim=-1) if x.ndim > rows.ndim else x.square()


def _heat(
    temperature: float | Sequence[float], steps: int, step_size: float, adjust: bool, project: Projection
) -> list[float]:
    """The temperature of each step."""
    heat = [float(temperature)] * steps if isinstance(temperature, int | float) else [float(t) for t in temperature]
    if len(heat) != steps:
        raise UserError(f"{len(heat)} temperatures for {steps} steps: give one number, or one for each step")
    if not step_size > 0 or min(heat, default=1.0) < 0 or (adjust and min(heat, default=1.0) == 0):
        raise UserError("a chain takes step_size > 0 and temperatures of 0 or more, with adjust above 0")
    if adjust and project is not anywhere:
        raise UserError("an adjusted chain is not projected: give an energy that is infinite beyond the bounds")
    return heat
