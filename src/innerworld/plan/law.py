"""The laws that a sampling planner narrows: a Gaussian over continuous actions, a categorical over discrete ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Generator, Tensor

from innerworld.plan.constraints import Constraint, free
from innerworld.plan.noise import coloured, gumbel
from innerworld.plan.plan import one_hot


@dataclass(frozen=True)
class Gaussian:
    """Independent normals, clipped to [-1, 1] and constrained; `p` is the axis of populations that search side by side.

    All that comes out of it satisfies the constraint, so that elites do, too.
    """

    mean: Tensor  # b p h a
    std: Tensor  # b p h a
    min_std: float
    constrain: Constraint = free

    def sample(self, noise: Tensor) -> Tensor:
        """Standard normal noise `b p n h a` → candidates of the same shape."""
        return self.constrain((self.mean[:, :, None] + self.std[:, :, None] * noise).clamp(-1, 1))

    def centre(self) -> Tensor:
        """The middle of the law: actions `b p h a`."""
        return self.constrain(self.mean)

    def spread(self, noise: Tensor) -> Gaussian:
        """Add a population around each of the draws `b p h a`."""
        mean = torch.cat([self.mean, self.sample(noise[:, None])[:, 0]], dim=1)  # b p h a
        return replace(self, mean=mean, std=self.std[:, :1].expand_as(mean))

    def refit(self, actions: Tensor, weight: Tensor, momentum: float, fixed_std: bool = False) -> Gaussian:
        """Move to the mean and std of candidates `b p n h a` by `weight` `b p n`, keeping `momentum` of the old.

        A population without weight (none of its candidates was finite) stays as it is.
        """
        weight, alive = _normalised(weight)
        mean = (weight * actions).sum(dim=2)  # b p h a
        std = (weight * (actions - mean[:, :, None]).square()).sum(dim=2).sqrt()
        mean = torch.where(alive, torch.lerp(mean, self.mean, momentum), self.mean)
        std = torch.where(alive, torch.lerp(std, self.std, momentum), self.std).clamp(min=self.min_std)
        return replace(self, mean=mean, std=self.std if fixed_std else std)


@dataclass(frozen=True)
class Categorical:
    """One choice for each step, with a share `explore` of uniform choice that never vanishes."""

    probs: Tensor  # b p h a
    explore: float

    def sample(self, noise: Tensor) -> Tensor:
        """Standard normal noise `b p n h a` → one-hot candidates of the same shape (the Gumbel trick)."""
        choice = (self.probs[:, :, None].log() + gumbel(noise)).argmax(dim=-1)  # b p n h
        return one_hot(choice, noise.shape[-1], like=noise)

    def centre(self) -> Tensor:
        """The likeliest choice of each step: one-hot `b p h a`."""
        return one_hot(self.probs.argmax(dim=-1), self.probs.shape[-1], like=self.probs)

    def spread(self, noise: Tensor) -> Categorical:
        """Add a population that leans half towards each of the draws `b p h a`."""
        draws = self.sample(noise[:, None])[:, 0]
        return replace(self, probs=torch.cat([self.probs, (self.probs + draws) / 2], dim=1))

    def refit(self, actions: Tensor, weight: Tensor, momentum: float, fixed_std: bool = False) -> Categorical:
        """Move to the frequencies among candidates `b p n h a` by `weight` `b p n`, keeping `momentum` of the old."""
        weight, alive = _normalised(weight)
        seen = (weight * actions).sum(dim=2)  # b p h a
        probs = torch.where(alive, torch.lerp(seen, self.probs, momentum), self.probs)
        return replace(self, probs=_mix(probs, self.explore))


Law = Gaussian | Categorical


def begin(
    start: Tensor, discrete: bool, init_std: float, min_std: float, explore: float, constrain: Constraint = free
) -> Law:
    """The law of one population around a start `b h a`; choices know no constraint."""
    start = rearrange(start, "b h a -> b 1 h a")
    if discrete:
        return Categorical(_mix(start, explore), explore)
    return Gaussian(start, torch.full_like(start, max(init_std, min_std)), min_std, constrain)


def populate(law: Law, count: int, rng: Sequence[Generator], like: Tensor) -> Law:
    """Search with `count` populations: the first stays at the start, the others begin at draws around it.

    The draws are smooth in time whatever the noise of the search is, because white ones cancel out and begin all
    populations in the same basin. `like` is `b h a`.
    """
    return law if count == 1 else law.spread(coloured(rng, count - 1, like, beta=4.0))


def elite(actions: Tensor, cost: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` cheapest of candidates `b p n h a` that cost `b p n`, cheapest first, and their costs."""
    cost, index = cost.topk(k, dim=2, largest=False)  # b p k
    index = index[..., None, None].expand(-1, -1, -1, *actions.shape[3:])
    return actions.gather(2, index), cost


def _mix(probs: Tensor, explore: float) -> Tensor:
    return (1 - explore) * probs + explore / probs.shape[-1]


def _normalised(weight: Tensor) -> tuple[Tensor, Tensor]:
    total = weight.sum(dim=2, keepdim=True)  # b p 1
    weight = weight / total.clamp(min=torch.finfo(weight.dtype).tiny)
    return weight[..., None, None], (total > 0)[..., None]  # b p n 1 1, b p 1 1
