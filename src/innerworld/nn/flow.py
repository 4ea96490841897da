"""Between noise and data: levels of noise, what a network is to say at one, and how samples are drawn in a few steps.

A *level* runs from 0, nothing but noise, to 1, clean. What lies between is `signal · x + rest · noise`: along a
straight line (flow matching, arXiv 2210.02747) or along an arc of constant variance, as diffusion has it. A network
says x, the clean thing (the loss then weighs what is nearly clean more: the ramp of Dreamer 4, arXiv 2509.24527), or v,
which way it changes (arXiv 2202.00512). In Diffusion Forcing (arXiv 2407.01392) each frame has a level of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from innerworld.nn.linear import Linear

Schedule = Literal["linear", "sigmoid"]
"""How signal and rest follow from the level: a straight line, or an arc with Oasis' sigmoid (arXiv 2212.11972)."""

Prediction = Literal["x", "v"]

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Something at a level, `r ...` and `r` → what it is when clean, `r ...`."""

BEND = 3.0  # the sigmoid runs from -3 to 3


@dataclass(frozen=True)
class Flow:
    """A schedule, a prediction, and how much less an error weighs where there is nothing but noise.

    Levels have the leading axes of what they belong to: `r f` of `r f s d`.
    """

    schedule: Schedule = "linear"
    prediction: Prediction = "x"
    ramp: float = 0.9

    def mix(self, x: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What is clean, brought to a level of noise."""
        signal, rest = self._shares(level, x.ndim)
        return signal * x + rest * noise

    def target(self, x: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network is to say there."""
        if self.prediction == "x":
            return x
        signal, rest = self._shares(level, x.ndim)
        return x - noise if self.schedule == "linear" else signal * noise - rest * x

    def clean(self, said: Tensor, mixed: Tensor, level: Tensor) -> Tensor:
        """What is clean, by what the network said of `mixed`."""
        if self.prediction == "x":
            return said
        signal, rest = self._shares(level, mixed.ndim)
        return mixed + rest * said if self.schedule == "linear" else signal * mixed - rest * said

    def weight(self, level: Tensor) -> Tensor:
        """Of the squared error at a level: from 1 - `ramp` at nothing but noise to 1 for x, 1 for v."""
        return 1 - self.ramp * (1 - level) if self.prediction == "x" else torch.ones_like(level)

    def moved(self, mixed: Tensor, clean: Tensor, level: Tensor, to: Tensor) -> Tensor:
        """From a level below 1 to another, with the noise that was in it (DDIM, arXiv 2010.02502; on a straight line
        Euler's step)."""
        signal, rest = self._shares(level, mixed.ndim)
        later, less = self._shares(to, mixed.ndim)
        return later * clean + less * (mixed - signal * clean) / rest

    def _shares(self, level: Tensor, axes: int) -> tuple[Tensor, Tensor]:
        """Signal and rest, with as many axes."""
        level = level.reshape(*level.shape, *[1] * (axes - level.ndim))
        if self.schedule == "linear":
            return level, 1 - level
        low, high = (1 / (1 + math.exp(-bend)) for bend in (-BEND, BEND))
        power = ((high - torch.sigmoid((1 - 2 * level) * BEND)) / (high - low)).clamp(0, 1)
        return power.sqrt(), (1 - power).sqrt()


def sample(flow: Flow, denoise: Denoise, start: Tensor, steps: int) -> Tensor:
    """From noise `r ...` to something clean, over levels 0, 1/steps, …, 1."""
    x = start
    for i in range(steps):
        level, to = (torch.full_like(x.flatten(1)[:, 0], at / steps) for at in (i, i + 1))
        clean = denoise(x, level)
        x = clean if i + 1 == steps else flow.moved(x, clean, level, to)
    return x


def noise_like(x: Tensor, rng: Generator | None) -> Tensor:
    """Noise of the shape of `x`; without a generator none, so that what comes of it is certain."""
    if rng is None:
        return torch.zeros_like(x)
    return torch.randn(x.shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device)


class LevelVector(nn.Module):
    """A level `...` as a vector `... d`: waves of 1000 levels, then an MLP, as DiT (arXiv 2212.09748) has it."""

    def __init__(self, dim: int, waves: int = 256) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Linear(waves, dim), nn.SiLU(), Linear(dim, dim))
        frequency = torch.exp(-math.log(10000) * torch.arange(waves // 2) / (waves // 2))
        self.frequency: Tensor
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, level: Tensor) -> Tensor:
        angle = 1000 * level[..., None] * self.frequency
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=-1))
