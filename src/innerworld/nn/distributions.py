"""The distributions of latent world models: one-hot and Gaussian latents, balanced KL, two-hot numbers, Bernoulli."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.nn.sensors import symexp


class Latent(ABC):
    """A distribution over latents `... g k`."""

    @abstractmethod
    def mode(self) -> Tensor:
        """The most likely latents `... g k`."""

    @abstractmethod
    def expected(self) -> Tensor:
        """The mean of all draws `... g k`."""

    @abstractmethod
    def sample(self, rng: Generator | None = None) -> Tensor:
        """A draw `... g k` that lets gradients pass."""

    @abstractmethod
    def kl(self, other: Self) -> Tensor:
        """KL(self ‖ other) in nats, summed over the g groups: `...`."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """In nats, summed over the g groups: `...`."""

    @abstractmethod
    def detach(self) -> Self: ...

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""


@dataclass(frozen=True)
class OneHot(Latent):
    """g independent categoricals of k classes; `logits` are normalised log-probabilities `... g k`."""

    logits: Tensor

    @classmethod
    def mixed(cls, logits: Tensor, unimix: float = 0.0) -> OneHot:
        """From raw scores `... g k`, with a share `unimix` of the uniform distribution (DreamerV3: 1 %)."""
        if not unimix:
            return cls(logits.log_softmax(dim=-1))
        return cls(((1 - unimix) * logits.softmax(dim=-1) + unimix / logits.shape[-1]).log())

    def mode(self) -> Tensor:
        return _one_hot(self.logits)

    def expected(self) -> Tensor:
        return self.logits.exp()

    def sample(self, rng: Generator | None = None) -> Tensor:
        # Straight-through: the value is one-hot, the gradient that of the probabilities.
        probs = self.logits.exp()
        waiting = torch.empty_like(probs).exponential_(generator=rng)  # a race: the first to arrive is a fair draw
        return _one_hot(probs.detach() / waiting) + (probs - probs.detach())

    def kl(self, other: Self) -> Tensor:
        return (self.logits.exp() * (self.logits - other.logits)).sum(dim=(-2, -1))

    def entropy(self) -> Tensor:
        return -(self.logits.exp() * self.logits).sum(dim=(-2, -1))

    def detach(self) -> Self:
        return type(self)(self.logits.detach())

    def tensors(self) -> dict[str, Tensor]:
        return {"logits": self.logits}


@dataclass(frozen=True)
class Gaussian(Latent):
    """Independent normals, `... g 1` each, so that they stand where `OneHot`'s `... g k` would."""

    mean: Tensor
    std: Tensor

    @classmethod
    def bounded(cls, raw: Tensor, least: float = 0.1) -> Gaussian:
        """From network outputs `... (2 g)`: std = softplus + `least` (PlaNet, arXiv 1811.04551; Dreamer)."""
        mean, std = raw.chunk(2, dim=-1)
        return cls(mean.unsqueeze(-1), F.softplus(std).unsqueeze(-1) + least)

    def mode(self) -> Tensor:
        return self.mean

    def expected(self) -> Tensor:
        return self.mean

    def sample(self, rng: Generator | None = None) -> Tensor:
        return self.mean + self.std * torch.empty_like(self.mean).normal_(generator=rng)

    def kl(self, other: Self) -> Tensor:
        ratio = (self.std / other.std).square()
        apart = ((self.mean - other.mean) / other.std).square()
        return 0.5 * (ratio + apart - 1 - ratio.log()).sum(dim=(-2, -1))

    def entropy(self) -> Tensor:
        return (self.std.log() + 0.5 * math.log(2 * math.pi) + 0.5).sum(dim=(-2, -1))

    def detach(self) -> Self:
        return type(self)(self.mean.detach(), self.std.detach())

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "std": self.std}


def balanced_kl(posterior: Latent, prior: Latent, free_nats: float = 1.0) -> tuple[Tensor, Tensor]:
    """KL(posterior ‖ prior) twice, each clipped from below *after* the sum over groups: (dyn, rep), both `...`.

    dyn teaches the prior (the posterior is held still), rep the posterior (DreamerV3, arXiv 2301.04104, eq. 5).
    """
    dyn = posterior.detach().kl(prior).clamp(min=free_nats)
    rep = posterior.kl(prior.detach()).clamp(min=free_nats)
    return dyn, rep


def symexp_bins(count: int = 255, device: torch.device | str | None = None) -> Tensor:
    """`count` (odd) numbers ± symexp(0 … 20), exactly symmetric about 0, for `twohot` (DreamerV3)."""
    assert count % 2 == 1, f"an odd number of bins has a zero in the middle, {count} does not"
    low = symexp(torch.linspace(-20, 0, count // 2 + 1, device=device))
    return torch.cat([low, -low[:-1].flip(0)])


def twohot(value: Tensor, bins: Tensor) -> Tensor:
    """Weights `... k` on the two `bins` (k, ascending) beside each `value` `...`, whose mean is the value.

    Values outside the bins count as the outermost bin.
    """
    value = value.clamp(bins[0], bins[-1])
    above = torch.searchsorted(bins, value.contiguous()).clamp(1, len(bins) - 1)
    low, high = bins[above - 1], bins[above]
    weight = ((value - low) / (high - low)).unsqueeze(-1)  # of the upper one
    below, above = F.one_hot(above - 1, len(bins)), F.one_hot(above, len(bins))
    return below * (1 - weight) + above * weight


def twohot_loss(logits: Tensor, value: Tensor, bins: Tensor) -> Tensor:
    """Cross-entropy of `logits` `... k` with the two-hot `value` `...`: `...`."""
    return -(twohot(value, bins) * logits.log_softmax(dim=-1)).sum(dim=-1)


def twohot_mean(logits: Tensor, bins: Tensor) -> Tensor:
    """The mean `...` of `logits` `... k`. Mirror bins are added first, so that equal weights give exactly 0."""
    weighted = logits.softmax(dim=-1) * bins
    half = len(bins) // 2
    return weighted[..., half] + (weighted[..., :half].flip(-1) + weighted[..., half + 1 :]).sum(dim=-1)


def _one_hot(score: Tensor) -> Tensor:
    return torch.zeros_like(score).scatter_(-1, score.argmax(dim=-1, keepdim=True), 1.0)
