"""A mixture of normals for each dimension apart, with a temperature (Bishop 1994; Ha & Schmidhuber 2018, § 2.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Mixture:
    """For each of d numbers k normals of their own: `logits`, `mean` and `log_std` are `... d k`."""

    logits: Tensor
    mean: Tensor
    log_std: Tensor

    @classmethod
    def read(cls, raw: Tensor, components: int) -> Mixture:
        """From network outputs `... (3 d k)`."""
        logits, mean, log_std = raw.unflatten(-1, (3, -1, components)).unbind(-3)
        return cls(logits, mean, log_std)

    def log_prob(self, x: Tensor) -> Tensor:
        """Of numbers `... d`, in nats, each dimension by itself: `... d`."""
        apart = (x.unsqueeze(-1) - self.mean) * (-self.log_std).exp()
        each = -0.5 * apart.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(self.logits.log_softmax(dim=-1) + each, dim=-1)

    def mode(self) -> Tensor:
        """The mean of the normal with the most weight: `... d`."""
        return _pick(self.mean, self.logits.argmax(dim=-1, keepdim=True))

    def spread(self) -> Tensor:
        """The log variance of that normal: `... d`."""
        return 2 * _pick(self.log_std, self.logits.argmax(dim=-1, keepdim=True))

    def sample(self, rng: Generator | None = None, tau: float = 1.0) -> tuple[Tensor, Tensor]:
        """A draw `... d`, and the log variance of the normal it came from.

        The temperature `tau` divides the log weights and multiplies every variance: below 1 surer, above 1 wilder.
        """
        waiting = torch.empty_like(self.logits).exponential_(
            generator=rng
        )  # a race: the first to arrive is a fair draw
        which = ((self.logits / tau).softmax(dim=-1) / waiting).argmax(dim=-1, keepdim=True)
        mean, log_std = _pick(self.mean, which), _pick(self.log_std, which) + 0.5 * math.log(tau)
        noise = torch.empty_like(mean).normal_(generator=rng)
        return mean + log_std.exp() * noise, 2 * log_std


def _pick(values: Tensor, which: Tensor) -> Tensor:
    return values.gather(-1, which).squeeze(-1)
