"""Diffusion as EDM sets it up (Karras et al. 2022, arXiv 2206.00364): scales, noise levels, and Euler's way back.

A clean picture x has numbers of deviation `sigma_data`; at noise level sigma it is seen as x + sigma · noise. DIAMOND
(arXiv 2405.12399) adds `offset` noise, one number for a whole channel, so that brightness may drift, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scales:
    """What a network reads and says at a noise level, each `r`: D(x) = skip · x + out · F(into · x, noise)."""

    into: Tensor
    out: Tensor
    skip: Tensor
    noise: Tensor  # the level as the network is told it

    def clean(self, noisy: Tensor, said: Tensor) -> Tensor:
        """The picture that a network means, from what it saw and said, `r ...` each."""
        return _beside(self.skip, noisy) * noisy + _beside(self.out, noisy) * said

    def to_say(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """What a network should have said, `r ...`."""
        return (clean - _beside(self.skip, noisy) * noisy) / _beside(self.out, noisy)

    def seen(self, noisy: Tensor) -> Tensor:
        """What a network is shown of it: of about unit variance, `r ...`."""
        return _beside(self.into, noisy) * noisy


def scales(sigma: Tensor, sigma_data: float = 0.5, offset: float = 0.3) -> Scales:
    """Of noise levels `r` (table 1 of EDM); offset noise, which is there at every level, counts as noise."""
    sigma = (sigma.square() + offset**2).sqrt()
    total = sigma.square() + sigma_data**2
    skip = sigma_data**2 / total
    return Scales(into=1 / total.sqrt(), out=sigma * skip.sqrt(), skip=skip, noise=sigma.log() / 4)


def drawn_levels(
    n: int, mean: float = -0.4, std: float = 1.2, low: float = 2e-3, high: float = 20.0, like: Tensor | None = None
) -> Tensor:
    """n noise levels to learn at: log-normal, cut to [low, high]."""
    z = torch.randn(n) if like is None else torch.randn(n, dtype=like.dtype, device=like.device)
    return (z * std + mean).exp().clip(low, high)


def noised(clean: Tensor, sigma: Tensor, offset: float = 0.3) -> Tensor:
    """Pictures `r c y x` at noise levels `r`, with offset noise."""
    drift = offset * torch.randn(*clean.shape[:2], 1, 1, dtype=clean.dtype, device=clean.device)
    return clean + drift + torch.randn_like(clean) * _beside(sigma, clean)


def levels(steps: int, low: float = 2e-3, high: float = 5.0, rho: float = 7.0, like: Tensor | None = None) -> Tensor:
    """Noise levels of a sample, `steps + 1` from `high` to `low` and then 0 (EDM, eq. 5)."""
    dtype, device = (torch.float32, None) if like is None else (like.dtype, like.device)
    part = torch.linspace(0, 1, steps, dtype=dtype, device=device)
    root = high ** (1 / rho) + part * (low ** (1 / rho) - high ** (1 / rho))
    return torch.cat([root**rho, root.new_zeros(1)])


def euler(denoise: Callable[[Tensor, int], Tensor], x: Tensor, levels: Tensor) -> Tensor:
    """Follow the noise down to none from `x`, in one Euler step for each level (EDM, algorithm 2 without churn).

    `denoise` is told the picture and which level it is at, and gives the clean one that it means.
    """
    for i, (now, later) in enumerate(pairwise(levels.unbind())):
        x = x + (x - denoise(x, i)) / now * (later - now)
    return x


def _beside(scale: Tensor, x: Tensor) -> Tensor:
    """`r` as `r 1 ...`."""
    return scale.view(-1, *[1] * (x.ndim - 1))
