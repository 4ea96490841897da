"""Linear probing: how much of a known quantity can be read off the features with one matrix?"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from innerworld.errors import UserError


class Probe(TypedDict):
    """`y ≈ x @ weights + intercept`, and how well that did on the test rows (k: the target's dimensions)."""

    r2: float  # mean over the dimensions of the target that vary; nan when none does
    r2_each: Tensor  # k    nan where the target does not vary
    error: Tensor  # k    root mean squared error, in the target's unit
    weights: Tensor  # d k
    intercept: Tensor  # k


def linear_probe(x_train: Tensor, y_train: Tensor, x_test: Tensor, y_test: Tensor, ridge: float = 1e-3) -> Probe:
    """Fit `y` (`n k`) from `x` (`n d`) by ridge regression on standardised features, in closed form and float64.

    The penalty is `ridge` times the number of rows; the intercept is not penalised. R² compares with the mean of
    the test rows: 1 is perfect, 0 no better than that mean, negative worse. Raises `UserError` for shapes that do
    not fit, too few rows or values that are not finite.
    """
    _check(x_train, y_train, x_test, y_test)
    x, y = x_train.detach().cpu().double(), y_train.detach().cpu().double()
    mean, scale = x.mean(0), _scale(x)
    weights = _ridge((x - mean) / scale, y - y.mean(0), ridge * len(x)) / scale[:, None]  # d k
    intercept = y.mean(0) - mean @ weights
    return _judge(weights, intercept, x_test.detach().cpu().double(), y_test.detach().cpu().double())


def _check(x_train: Tensor, y_train: Tensor, x_test: Tensor, y_test: Tensor) -> None:
    for half, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
            raise UserError(f"probe: {half} has x {tuple(x.shape)} and y {tuple(y.shape)}, expected (n, d) and (n, k)")
        if len(x) < 2:
            raise UserError(f"probe: {half} has {len(x)} rows: give at least 2")
        if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
            raise UserError(f"probe: {half} holds values that are not finite")
    if x_train.shape[1] != x_test.shape[1] or y_train.shape[1] != y_test.shape[1]:
        raise UserError("probe: train and test differ in the size of their features or targets")


def _scale(x: Tensor) -> Tensor:
    """Standard deviation of each feature, and 1 where that is only rounding: a constant must not be blown up."""
    std = x.std(0, correction=0)
    return torch.where(std > 1e-9 * (1e-3 + x.abs().amax(0)), std, 1.0)


def _ridge(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """(xᵀx + λ)⁻¹ xᵀy = xᵀ (xxᵀ + λ)⁻¹ y: the smaller of the two systems. `n d`, `n k` → `d k`."""
    n, d = x.shape
    lift = max(penalty, 1e-10 * n)  # ridge = 0 with dependent features has no unique answer: take the smallest
    if d <= n:
        return torch.linalg.solve(x.T @ x + lift * torch.eye(d, dtype=x.dtype), x.T @ y)
    return x.T @ torch.linalg.solve(x @ x.T + lift * torch.eye(n, dtype=x.dtype), y)


def _judge(weights: Tensor, intercept: Tensor, x: Tensor, y: Tensor) -> Probe:
    squared = (x @ weights + intercept - y).square().mean(0)  # k
    variance = y.var(0, correction=0)
    varies = variance > (1e-6 * y.abs().amax(0)) ** 2
    r2_each = torch.where(varies, 1 - squared / variance, torch.nan)
    r2 = r2_each[varies].mean().item()  # nan when empty
    return Probe(r2=r2, r2_each=r2_each, error=squared.sqrt(), weights=weights, intercept=intercept)
