"""`Critic`: what a belief is worth, and a slow copy of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.distributions import TwoHot, symexp_bins, symlog_bins
from innerworld.nn.mlp import ACTIVATIONS, MLP, Activation, Norm
from innerworld.nn.schedules import follow_
from innerworld.nn.sensors import symexp, symlog


class CriticConfig(Config):
    layers: int = Field(default=3, description="hidden layers", ge=0)
    units: int = Field(default=64, description="their width", ge=1)
    norm: Norm = Field(default="rms", description="after each of them")
    activation: Activation = Field(default="silu", description="after that")
    outscale: float = Field(default=0.0, description="factor of the last layer's initial weights", ge=0)
    kind: Literal["twohot", "symlog", "normal"] = Field(
        default="twohot",
        description="what it tells: weights of bins (Dreamer v3), of its symlog's (STORM, DRAMA), or a normal (v1, v2)",
    )
    bins: int = Field(default=255, description="two-hot bins, odd", ge=3)
    slow_rate: float = Field(default=0.02, description="share by which the slow copy moves to the critic", gt=0, le=1)
    slow_every: int = Field(default=1, description="optimiser steps between two moves of the slow copy", ge=1)
    slow_weight: float = Field(default=1.0, description="weight of the loss that keeps it near its slow copy", ge=0)
    slow_target: bool = Field(default=False, description="returns rest on what the slow copy says, not on the critic")
    rate: float = Field(default=1.0, description="factor of the learning rate", gt=0)


@dataclass(frozen=True)
class Normal:
    """A normal of deviation 1: the squared error's distribution."""

    centre: Tensor

    def mean(self) -> Tensor:
        return self.centre

    def losses(self, values: Tensor) -> Tensor:
        """Negative log-likelihoods but for a constant, `... n` → `... n`."""
        return 0.5 * (self.centre.unsqueeze(-1) - values).square()


@dataclass(frozen=True)
class Squeezed:
    """A number of which the symlog is believed."""

    symlog: TwoHot

    def mean(self) -> Tensor:
        return symexp(self.symlog.mean())

    def losses(self, values: Tensor) -> Tensor:
        """Cross-entropies with two-hot symlogs, n of them each: `... n` → `... n`."""
        return self.symlog.losses(symlog(values))


Verdict = TwoHot | Squeezed | Normal


class Critic(nn.Module):
    """Features `... d` → a distribution of their worth `...`. Where the slow copy is not used there is none.

    Raises `UserError` for an even number of bins.
    """

    def __init__(self, config: CriticConfig, width: int) -> None:
        super().__init__()
        if config.bins % 2 == 0:
            raise UserError(f"bins={config.bins}: choose an odd number, so that one of them is 0")
        self.config = config
        self.net = MLP(
            width,
            config.units,
            config.layers,
            out_dim=1 if config.kind == "normal" else config.bins,
            norm=config.norm,
            activation=ACTIVATIONS[config.activation],
            outscale=config.outscale,
        )
        used = config.slow_target or config.slow_weight > 0
        self.slow = deepcopy(self.net).requires_grad_(False) if used else None
        self.bins: Tensor
        self.updates: Tensor
        self.register_buffer("bins", _bins(config), persistent=False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, features: Tensor) -> Verdict:
        return self._told(self.net(features))

    def slowly(self, features: Tensor) -> Verdict:
        """What the slow copy tells, or where there is none the critic itself."""
        return self._told((self.slow or self.net)(features))

    def follow(self) -> None:
        """Let the slow copy follow, when it is time: after each optimiser step."""
        self.updates += 1
        every = self.config.slow_every
        if self.slow is not None and (every == 1 or int(self.updates) % every == 0):
            follow_(self.slow.parameters(), self.net.parameters(), 1 - self.config.slow_rate)

    def _told(self, out: Tensor) -> Verdict:
        if self.config.kind == "normal":
            return Normal(out.float().squeeze(-1))
        told = TwoHot(out, self.bins)
        return Squeezed(told) if self.config.kind == "symlog" else told


def _bins(config: CriticConfig) -> Tensor:
    match config.kind:
        case "twohot":
            return symexp_bins(config.bins)
        case "symlog":
            return symlog_bins(config.bins)
        case "normal":
            return torch.empty(0)
