"""Ridge regression in closed form: the matrix that reads a known quantity off features."""

from __future__ import annotations

import torch
from torch import Tensor


def fit_linear(x: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights `d k` and intercept `k` of `y ≈ x @ weights + intercept`, from `n d` and `n k`, in their precision.

    The features are standardised first, `penalty` is multiplied by the number of rows, and the intercept is free.
    """
    mean, scale = x.mean(0), deviation(x)
    weights = _solve((x - mean) / scale, y - y.mean(0), penalty * len(x)) / scale[:, None]  # d k
    return weights, y.mean(0) - mean @ weights


def deviation(x: Tensor) -> Tensor:
    """Standard deviation of each feature, and 1 where that is only rounding: a constant must not be blown up."""
    std = x.std(0, correction=0)
    return torch.where(std > 1e-9 * (1e-3 + x.abs().amax(0)), std, 1.0)


def _solve(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """(xᵀx + λ)⁻¹ xᵀy = xᵀ (xxᵀ + λ)⁻¹ y: the smaller of the two systems. `n d`, `n k` → `d k`."""
    n, d = x.shape
    lift = max(penalty, 1e-10 * n)  # no penalty and dependent features have no unique answer: take the smallest
    if d <= n:
        return torch.linalg.solve(x.T @ x + lift * torch.eye(d, dtype=x.dtype), x.T @ y)
    return x.T @ torch.linalg.solve(x @ x.T + lift * torch.eye(n, dtype=x.dtype), y)
