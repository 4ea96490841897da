"""`Actor`: what to do, given the features of a belief, as a distribution over actions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.nn.distributions import Gaussian, Latent, OneHot
from innerworld.nn.mlp import ACTIVATIONS, MLP, Activation, Norm
from innerworld.types import Spec

MEAN = 5.0  # tanh_normal: its mean stays within this, before the tanh
LEAST = 1e-4  # tanh_normal: least deviation
EDGE = 1 - 1e-6  # tanh_normal: actions are taken to lie within, for at 1 the tanh comes from infinity
NODES, SHARES = np.polynomial.hermite.hermgauss(16)


class ActorConfig(Config):
    layers: int = Field(default=3, description="hidden layers", ge=0)
    units: int = Field(default=64, description="their width", ge=1)
    norm: Norm = Field(default="rms", description="after each of them")
    activation: Activation = Field(default="silu", description="after that")
    outscale: float = Field(default=0.01, description="factor of the last layer's initial weights", ge=0)
    continuous: Literal["bounded_normal", "tanh_normal"] = Field(
        default="bounded_normal", description="distribution of continuous actions: of Dreamer v3, or of v1"
    )
    min_std: float = Field(default=0.1, description="bounded_normal: least deviation, action units", gt=0)
    max_std: float = Field(default=1.0, description="bounded_normal: greatest deviation, action units", gt=0)
    init_std: float = Field(default=5.0, description="tanh_normal: deviation at the start, before the tanh", gt=0)
    unimix: float = Field(default=0.0, description="discrete: share of the uniform mixed in", ge=0, lt=1)
    noise: float = Field(
        default=0.0,
        description="when it explores: deviation of noise on an action; discrete: chance of any choice instead",
        ge=0,
    )
    rate: float = Field(default=1.0, description="factor of the learning rate", gt=0)


@dataclass(frozen=True)
class Choice:
    """A distribution over actions `... a`: `latent` is one of `... a 1` numbers, or of one out of `... 1 a` choices."""

    latent: Latent

    def sample(self, rng: Generator | None = None) -> Tensor:
        """A draw `... a` that lets gradients pass; continuous ones may lie outside [-1, 1], see `Actor.act`."""
        return self.latent.sample(rng).flatten(-2)

    def mode(self) -> Tensor:
        """The most likely action `... a`."""
        return self.latent.mode().flatten(-2)

    def log_prob(self, action: Tensor) -> Tensor:
        """Of actions `... a`, in nats: `...`."""
        return self.latent.log_prob(action.reshape(self.latent.mode().shape))

    def entropy(self) -> Tensor:
        """In nats: `...`."""
        return self.latent.entropy()


@dataclass(frozen=True)
class Squashed(Choice):
    """The tanh of normals (Dreamer v1, arXiv 1912.01603). Its mode is taken to be the tanh of their mean."""

    latent: Gaussian

    def sample(self, rng: Generator | None = None) -> Tensor:
        return super().sample(rng).tanh()

    def mode(self) -> Tensor:
        return super().mode().tanh()

    def log_prob(self, action: Tensor) -> Tensor:
        before = action.clamp(-EDGE, EDGE).atanh()
        return super().log_prob(before) - _log_slope(before).sum(dim=-1)

    def entropy(self) -> Tensor:
        """The normals' own, and the mean log slope of the tanh by Gauss-Hermite quadrature."""
        node = torch.as_tensor(NODES * math.sqrt(2), dtype=self.latent.mean.dtype, device=self.latent.mean.device)
        share = torch.as_tensor(SHARES / math.sqrt(math.pi), dtype=node.dtype, device=node.device)
        slope = (_log_slope(self.latent.mean + self.latent.std * node) * share).sum(dim=-1)  # ... a
        return super().entropy() + slope.sum(dim=-1)


class Actor(nn.Module):
    """Features `... d` → a `Choice` of the spec's actions `... a`."""

    def __init__(self, config: ActorConfig, width: int, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.net = MLP(
            width,
            config.units,
            config.layers,
            out_dim=spec.action if spec.discrete else 2 * spec.action,
            norm=config.norm,
            activation=ACTIVATIONS[config.activation],
            outscale=config.outscale,
        )

    def forward(self, features: Tensor) -> Choice:
        out = self.net(features).float()
        if self.spec.discrete:
            return Choice(OneHot.mixed(out.unsqueeze(-2), self.config.unimix))
        mean, std = out.unsqueeze(-1).chunk(2, dim=-2)  # ... a 1
        if self.config.continuous == "tanh_normal":
            start = math.log(math.expm1(self.config.init_std))
            return Squashed(Gaussian(MEAN * (mean / MEAN).tanh(), F.softplus(std + start) + LEAST))
        low, high = self.config.min_std, self.config.max_std
        return Choice(Gaussian(mean.tanh(), low + (high - low) * torch.sigmoid(std + 2)))

    def act(self, features: Tensor, rng: Generator | None = None) -> Tensor:
        """An action that a world takes, `b a`: with `rng` a draw with noise, without it the most likely one."""
        choice = self(features)
        action = choice.mode() if rng is None else self._explore(choice.sample(rng), rng)
        return action if self.spec.discrete else action.clamp(-1, 1)

    def _explore(self, action: Tensor, rng: Generator) -> Tensor:
        if not self.config.noise:
            return action
        if not self.spec.discrete:
            return action + self.config.noise * torch.empty_like(action).normal_(generator=rng)
        score = torch.empty_like(action).uniform_(generator=rng)
        any_choice = F.one_hot(score.argmax(dim=-1), action.shape[-1]).to(action.dtype)
        dares = torch.empty_like(action[..., :1]).uniform_(generator=rng) < self.config.noise
        return torch.where(dares, any_choice, action)


def _log_slope(x: Tensor) -> Tensor:
    """log(1 - tanh²x), exact where tanh²x rounds to 1."""
    return 2 * (math.log(2) - x - F.softplus(-2 * x))
