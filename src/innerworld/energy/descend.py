"""Inference by gradient: from each start downhill, and what is given back is the lowest point that was seen."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from innerworld.energy.scalar import Energy, Projection, anywhere, floats, over, slope, values
from innerworld.errors import UserError

Optimiser = Literal["adam", "sgd"]


@dataclass(frozen=True)
class Descent:
    """Where each start led."""

    x: Tensor  # n ...   the lowest point seen on the way
    energy: Tensor  # n
    history: Tensor  # n r   the lowest energy so far, at the start and after each step
    converged: Tensor  # n    whether the energy had settled before the steps were used up

    @property
    def steps(self) -> int:
        return self.history.shape[-1] - 1


def descend(
    energy: Energy,
    start: Tensor,
    steps: int = 200,
    lr: float = 0.05,
    optimiser: Optimiser = "adam",
    momentum: float = 0.0,
    project: Projection = anywhere,
    perturb: Projection = anywhere,
    tolerance: float | None = 1e-6,
    patience: int = 10,
) -> Descent:
    """Follow the slope of the energy from every point of `start` `n ...` (LeCun et al. 2006: inference).

    `lr` is a step: in units of the points for adam, per unit of slope for sgd, which takes `momentum`. After each step
    what was reached goes through `perturb` (noise, for example) and then `project`; the start goes through `project`,
    too. A point rests as soon as its energy changed by no more than `tolerance` within `patience` steps (None: never);
    it ends at the same place alone and in company, and never higher than it began. Raises `UserError` for an energy
    without gradient, of a wrong shape, or that is NaN or infinite at every start; a single such start stays.
    """
    _check(steps, lr, momentum, patience)
    with torch.no_grad():
        x = project(floats(start)).clone().requires_grad_()
    step = torch.optim.Adam([x], lr=lr) if optimiser == "adam" else torch.optim.SGD([x], lr=lr, momentum=momentum)
    found = x.detach().clone()
    lowest: list[Tensor] = []  # each n
    recent: deque[Tensor] = deque(maxlen=patience + 1)  # each n
    rests = None
    for k in range(steps + 1):
        with torch.enable_grad():  # who acts does so under no_grad
            energies = values(energy, x)  # n
            if k < steps:
                x.grad = slope(energies, x)
        found = _lower(found, x.detach(), energies.detach(), lowest)
        recent.append(energies.detach())
        if tolerance is not None and k >= patience:
            lately = torch.stack(tuple(recent))  # patience+1 n
            rests = ~(lately.amax(dim=0) - lately.amin(dim=0) > tolerance)  # n   adam overshoots, then comes back
        if k == steps or (rests is not None and bool(rests.all())):
            break
        with torch.no_grad():
            before = None if rests is None else x.clone()
            step.step()
            x.copy_(project(perturb(x)))
            if rests is not None and before is not None:
                x.copy_(torch.where(over(rests, x), before, x))
    history = torch.stack(lowest, dim=-1)
    return Descent(
        found, lowest[-1], history, torch.zeros_like(lowest[-1], dtype=torch.bool) if rests is None else rests
    )


def _lower(found: Tensor, x: Tensor, energies: Tensor, lowest: list[Tensor]) -> Tensor:
    """The lower of what was found before and what is there now; takes the energies into `lowest`."""
    if not lowest:
        if not bool(energies.isfinite().any()):
            raise UserError("the energy is NaN or infinite at every start: begin elsewhere, or mend the energy there")
        lowest.append(energies)
        return found
    better = energies < lowest[-1]
    lowest.append(torch.where(better, energies, lowest[-1]))
    return torch.where(over(better, x), x, found)


def _check(steps: int, lr: float, momentum: float, patience: int) -> None:
    if steps < 0 or not lr > 0 or not 0 <= momentum < 1 or patience < 1:
        raise UserError(
            f"to descend takes steps >= 0, lr > 0, momentum in [0, 1) and patience >= 1, "
            f"got {steps}, {lr:g}, {momentum:g}, {patience}"
        )
