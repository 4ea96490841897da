"""Noise for candidates, correlated in time: white, or coloured with a power-law spectrum (Timmer & König 1995)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def coloured(rng: Sequence[Generator], n: int, like: Tensor, beta: float = 0.0) -> Tensor:
    """Standard normal noise `b n h a` for a start `b h a`, row i drawn from `rng[i]`, its power falling as 1 / f^beta.

    0 is white, 1 pink, 2 Brownian; every step keeps unit variance. The lowest frequency also stands in for the mean
    over the horizon, as in iCEM (arXiv 2008.06389); like there, the noise is periodic over the horizon.
    """
    _, h, a = like.shape
    rows = [torch.randn(n, h, a, generator=row, device=row.device, dtype=like.dtype) for row in rng]
    white = torch.stack(rows).to(like.device)  # b n h a
    if beta == 0 or h == 1:
        return white
    gain = _gain(h, beta).to(white)[:, None]  # f 1
    spectrum = torch.fft.rfft(white, dim=2) * gain  # b n f a
    return torch.fft.irfft(spectrum, n=h, dim=2)


def gumbel(noise: Tensor) -> Tensor:
    """Standard normal → standard Gumbel, by rank; noise that is correlated in time stays so."""
    uniform = torch.special.ndtr(noise).clamp(1e-6, 1 - 1e-6)
    return -(-uniform.log()).log()


def _gain(h: int, beta: float) -> Tensor:
    """Filter for the frequencies of a real transform, such that filtered white noise keeps unit variance."""
    both_sides = torch.fft.fftfreq(h, dtype=torch.float64).abs().clamp(min=1 / h) ** (-beta / 2)
    gain = both_sides / both_sides.square().mean().sqrt()
    return gain[: h // 2 + 1]
