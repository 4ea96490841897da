"""Losses that keep representations from collapsing, as pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def sigreg(z: Tensor, directions: Tensor, knots: int = 17, reach: float = 3.0) -> Tensor:
    """How far from an isotropic Gaussian is each set of embeddings? `... b d` and unit columns `d m` → scalar.

    The Epps–Pulley statistic along each direction, averaged over directions and leading axes: N times the integral of
    |φ̂(t) − exp(−t²/2)|² exp(−t²/2) over [−reach, reach] by the trapezoid rule (LeJEPA, arXiv 2511.08544, Alg. 1). The
    integrand is even, so `knots` points on [0, reach] are taken twice, as LeJEPA's own package and LeWorldModel do.
    """
    t = torch.linspace(0, reach, knots, device=z.device, dtype=z.dtype)
    gaussian = torch.exp(-t.square() / 2)
    weight = torch.full_like(t, 2 * reach / (knots - 1))
    weight[0] = weight[-1] = reach / (knots - 1)
    angle = (z @ directions).unsqueeze(-1) * t  # ... b m knots
    real = angle.cos().mean(dim=-3) - gaussian
    imaginary = angle.sin().mean(dim=-3)
    statistic = (real.square() + imaginary.square()) @ (weight * gaussian)  # ... m
    return statistic.mean() * z.shape[-2]


def directions(size: int, slices: int, like: Tensor | None = None, rng: Generator | None = None) -> Tensor:
    """Random unit columns `size slices` for `sigreg`, drawn anew at each training step."""
    device, dtype = (like.device, like.dtype) if like is not None else (None, None)
    return F.normalize(torch.randn(size, slices, device=device, dtype=dtype, generator=rng), dim=0)


def std_hinge(z: Tensor, margin: float = 1.0, eps: float = 1e-4) -> Tensor:
    """How far each spread falls short of `margin`: `... b d` → scalar (VICReg, arXiv 2105.04906, eq. 1)."""
    return F.relu(margin - (z.var(dim=-2) + eps).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """Mean squared off-diagonal covariance: `... b d` → scalar.

    VICReg (arXiv 2105.04906, eq. 3) divides the sum by d; PLDM (arXiv 2502.14819) by d (d − 1), as here.
    """
    d = z.shape[-1]
    z = z - z.mean(dim=-2, keepdim=True)
    cov = z.transpose(-1, -2) @ z / (z.shape[-2] - 1)
    off = cov.square().sum(dim=(-1, -2)) - cov.diagonal(dim1=-1, dim2=-2).square().sum(dim=-1)
    return (off / (d * (d - 1))).mean()
