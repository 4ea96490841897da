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

FEW = 16  # classes


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
    def log_prob(self, value: Tensor) -> Tensor:
        """Of latents `... g k`, in nats, summed over the g groups: `...`."""

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
        logits = logits.float()
        if not unimix:
            return cls(logits.log_softmax(dim=-1))
        return cls(((1 - unimix) * _softmax(logits) + unimix / logits.shape[-1]).log())

    def mode(self) -> Tensor:
        return _one_hot(self.logits)

    def expected(self) -> Tensor:
        return self.logits.exp()

    def sample(self, rng: Generator | None = None) -> Tensor:
        # Straight-through: the value is one-hot, the gradient that of the probabilities.
        probs = self.logits.exp()
        drawn = _draw(probs.detach(), rng)
        return drawn + (probs - probs.detach()) if probs.requires_grad else drawn

    def kl(self, other: Self) -> Tensor:
        return (self.logits.exp() * (self.logits - other.logits)).sum(dim=(-2, -1))

    def log_prob(self, value: Tensor) -> Tensor:
        return (value * self.logits).sum(dim=(-2, -1))

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
        mean, std = raw.float().chunk(2, dim=-1)
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

    def log_prob(self, value: Tensor) -> Tensor:
        apart = ((value - self.mean) / self.std).square()
        return -(0.5 * apart + self.std.log() + 0.5 * math.log(2 * math.pi)).sum(dim=(-2, -1))

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


def symlog_bins(count: int = 255, device: torch.device | str | None = None) -> Tensor:
    """`count` (odd) numbers from -20 to 20, exactly symmetric about 0: bins of a symlog (DreamerV3 of 2023, STORM)."""
    assert count % 2 == 1, f"an odd number of bins has a zero in the middle, {count} does not"
    low = torch.linspace(-20, 0, count // 2 + 1, device=device)
    return torch.cat([low, -low[:-1].flip(0)])


def twohot(value: Tensor, bins: Tensor) -> Tensor:
    """Weights `... k` on the two `bins` (k, ascending) beside each `value` `...`, whose mean is the value.

    Values outside the bins count as the outermost bin.
    """
    above, weight = _beside(value, bins)
    below, above = F.one_hot(above - 1, len(bins)), F.one_hot(above, len(bins))
    return below * (1 - weight.unsqueeze(-1)) + above * weight.unsqueeze(-1)


@dataclass(frozen=True)
class TwoHot:
    """What is believed of a number: scores `logits` `... k` of the `bins` (k, odd, mirrored about 0)."""

    logits: Tensor
    bins: Tensor

    def mean(self) -> Tensor:
        """`...`. Mirror bins are subtracted first, so that equal weights give exactly 0."""
        probs = self.logits.float().softmax(dim=-1)
        half = len(self.bins) // 2
        return ((probs[..., half + 1 :] - probs[..., :half].flip(-1)) * self.bins[half + 1 :]).sum(dim=-1)

    def losses(self, values: Tensor) -> Tensor:
        """Cross-entropies with two-hot numbers, n of them each: `... n` → `... n`."""
        above, weight = _beside(values, self.bins)
        beside = torch.cat([above - 1, above], dim=-1)  # ... 2n: two of k are read, the other weights are 0
        below, above = self.logits.float().log_softmax(dim=-1).gather(-1, beside).chunk(2, dim=-1)
        return -torch.lerp(below, above, weight)


def twohot_loss(logits: Tensor, value: Tensor, bins: Tensor) -> Tensor:
    """Cross-entropy of `logits` `... k` with the two-hot `value` `...`: `...`."""
    return TwoHot(logits, bins).losses(value.unsqueeze(-1)).squeeze(-1)


def twohot_mean(logits: Tensor, bins: Tensor) -> Tensor:
    """The mean `...` of `logits` `... k`; exactly 0 for equal ones."""
    return TwoHot(logits, bins).mean()


def _beside(value: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the `bins` lies above each `value`, at least the second, and its weight beside the one below."""
    value = value.clamp(bins[0], bins[-1])
    above = torch.searchsorted(bins, value.contiguous()).clamp(1, len(bins) - 1)
    low, high = bins[above - 1], bins[above]
    return above, (value - low) / (high - low)


def _one_hot(score: Tensor) -> Tensor:
    return torch.zeros_like(score).scatter_(-1, score.argmax(dim=-1, keepdim=True), 1.0)


def _draw(probs: Tensor, rng: Generator | None) -> Tensor:
    """One of k, `... k`: where one uniform number falls among the sums. One each is far cheaper than k."""
    sums = probs.cumsum(dim=-1)
    falls = torch.empty_like(sums[..., :1]).uniform_(generator=rng) * sums[..., -1:]
    index = (sums[..., :-1] <= falls).sum(dim=-1, keepdim=True)
    return torch.zeros_like(probs).scatter_(-1, index, 1.0)


def _softmax(logits: Tensor) -> Tensor:
    """Over few classes torch's own takes several times as long on a CPU."""
    if logits.shape[-1] >= FEW:
        return logits.softmax(dim=-1)
    odds = (logits - logits.detach().amax(dim=-1, keepdim=True)).exp()
    return odds / odds.sum(dim=-1, keepdim=True)
