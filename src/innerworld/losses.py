"""Losses that keep representations from collapsing, as pure functions of tensors.

Where several processes share a batch, they mean the whole of it (`team.mean_of_all`), as one process would.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.team import mean_of_all, rows_of_all, same_for_all

SIGReg = Literal["lejepa", "paper", "eb_jepa"]
"""Whose normalisation. "lejepa": the package's, 33 points on [-3, 3]; "paper": its listing's, 17 on [-5, 5]; both times
the number of rows. "eb_jepa": 10 points on [-3, 3] and no such factor, so that its weight of 10 is another's 10 / N."""
POINTS: dict[str, tuple[int, float]] = {"lejepa": (33, 3.0), "paper": (17, 5.0), "eb_jepa": (10, 3.0)}


def sigreg(z: Tensor, directions: Tensor, form: SIGReg = "lejepa") -> Tensor:
    """How far from an isotropic Gaussian is each set of embeddings? `... b d` and unit columns `d m` → scalar.

    The Epps–Pulley statistic along each direction, averaged over directions and leading axes: N times the integral of
    |φ̂(t) − exp(−t²/2)|² exp(−t²/2) by the trapezoid rule (LeJEPA, arXiv 2511.08544, Alg. 1). The integrand is even, so
    only points from 0 up are computed.
    """
    t, weight = _half(*POINTS[form], z)
    gaussian = torch.exp(-t.square() / 2)
    angle = (z @ directions).unsqueeze(-1) * t  # ... b m knots
    real = mean_of_all(angle.cos().mean(dim=-3)) - gaussian
    imaginary = mean_of_all(angle.sin().mean(dim=-3))
    statistic = (real.square() + imaginary.square()) @ (weight * gaussian)  # ... m
    return statistic.mean() * (1 if form == "eb_jepa" else rows_of_all(z.shape[-2]))


def directions(size: int, slices: int, like: Tensor | None = None, rng: Generator | None = None) -> Tensor:
    """Random unit columns `size slices` for `sigreg`, drawn anew at each training step."""
    device, dtype = (like.device, like.dtype) if like is not None else (None, None)
    drawn = torch.randn(size, slices, device=device, dtype=dtype, generator=rng)
    return F.normalize(same_for_all(drawn), dim=0)


def std_hinge(z: Tensor, margin: float = 1.0, eps: float = 1e-4) -> Tensor:
    """How far each spread falls short of `margin`: `... b d` → scalar (VICReg, arXiv 2105.04906, eq. 1)."""
    b = rows_of_all(z.shape[-2])
    centred = z - mean_of_all(z.mean(dim=-2, keepdim=True))
    variance = mean_of_all(centred.square().mean(dim=-2)) * b / (b - 1)
    return F.relu(margin - (variance + eps).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """Mean squared off-diagonal covariance: `... b d` → scalar.

    VICReg (arXiv 2105.04906, eq. 3) divides the sum by d; PLDM (arXiv 2502.14819) by d (d − 1), as here.
    """
    b, d = rows_of_all(z.shape[-2]), z.shape[-1]
    z = z - mean_of_all(z.mean(dim=-2, keepdim=True))
    cov = mean_of_all(z.transpose(-1, -2) @ z / z.shape[-2]) * b / (b - 1)
    off = cov.square().sum(dim=(-1, -2)) - cov.diagonal(dim1=-1, dim2=-2).square().sum(dim=-1)
    return (off / (d * (d - 1))).mean()


def vicreg(
    a: Tensor, b: Tensor, similarity: float = 25.0, std: float = 25.0, cov: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """VICReg (arXiv 2105.04906, eq. 6) of two views `... b d`: scalar, and its parts; covariance as in `covariance`."""
    parts = {
        "similarity": mean_of_all((a - b).square().mean()),
        "std": std_hinge(a) + std_hinge(b),
        "cov": covariance(a) + covariance(b),
    }
    return similarity * parts["similarity"] + std * parts["std"] + cov * parts["cov"], parts


def std_over_time(z: Tensor, margin: float = 1.0, eps: float = 1e-4) -> Tensor:
    """PLDM's hinge on the spread of each channel along a clip `b t d` → scalar (arXiv 2502.14819)."""
    return mean_of_all(torch.relu(margin - (z.var(dim=-2) + eps).sqrt()).mean())


def smoothness(z: Tensor) -> Tensor:
    """PLDM's mean squared change from step to step: `b t d` → scalar."""
    return mean_of_all((z[..., 1:, :] - z[..., :-1, :]).square().mean())


def _half(points: int, reach: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """The points of a symmetric grid that are not negative, and their trapezoid weights, mirror images included."""
    t = torch.linspace(-reach, reach, points, device=like.device, dtype=like.dtype)
    weight = torch.full_like(t, 2 * reach / (points - 1))
    weight[0] = weight[-1] = reach / (points - 1)
    middle = points // 2
    weight = 2 * weight[middle:]
    if points % 2:
        weight[0] /= 2  # zero is its own mirror image
    return t[middle:], weight
