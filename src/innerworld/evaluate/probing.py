"""Probing: how much of a known quantity can be read off features with one matrix, or off tokens by attention?

With few labels and with many: what can be read off with ten is there for the taking, what needs thousands is buried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.probe import AttentiveProbe
from innerworld.nn.ridge import deviation, fit_linear
from innerworld.nn.schedules import warmup_cosine

LABELS = (10, 30, 100, 300, 1000, 3000)
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # tried where labels choose among them
FOLDS = 5


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
    weights, intercept = fit_linear(x, y, ridge)
    return _judge(weights, intercept, x_test.detach().cpu().double(), y_test.detach().cpu().double())


def label_curve(
    x_train: Tensor,
    y_train: Tensor,
    x_test: Tensor,
    y_test: Tensor,
    labels: Sequence[int] = LABELS,
    draws: int = 5,
    seed: int = 0,
) -> dict[str, float]:
    """R² on the test rows of a linear probe that was fitted on so many labelled rows: `r2_N` for each N there are.

    The mean over draws of which rows are labelled, `r2_N_low` and `r2_N_high` the least and the most. The penalty is
    chosen by those labels alone (`best_ridge`). `r2_all` is fitted on all rows. Raises `UserError` as `linear_probe`.
    """
    _check(x_train, y_train, x_test, y_test)
    rng = Generator().manual_seed(seed)
    found: dict[str, float] = {}
    for n in (n for n in labels if FOLDS <= n <= len(x_train)):
        reached = []
        for _ in range(draws):
            rows = torch.randperm(len(x_train), generator=rng)[:n]
            x, y = x_train[rows], y_train[rows]
            reached.append(linear_probe(x, y, x_test, y_test, best_ridge(x, y))["r2"])
        found |= {f"r2_{n}": sum(reached) / draws, f"r2_{n}_low": min(reached), f"r2_{n}_high": max(reached)}
    found["r2_all"] = linear_probe(x_train, y_train, x_test, y_test, best_ridge(x_train, y_train))["r2"]
    return found


def best_ridge(x: Tensor, y: Tensor, ridges: Sequence[float] = RIDGES) -> float:
    """The penalty with the least squared error, in deviations of each target, over five folds of these rows."""
    fold = torch.arange(len(x)) % FOLDS
    scale = deviation(y.double())

    def error(ridge: float) -> float:
        total = 0.0
        for k in range(FOLDS):
            kept, aside = fold != k, fold == k
            probe = linear_probe(x[kept], y[kept], x[kept], y[kept], ridge)
            missed = x[aside].double() @ probe["weights"] + probe["intercept"] - y[aside].double()
            total += (missed / scale).square().sum().item()
        return total

    return min(ridges, key=error)


class AttentiveConfig(Config):
    """How an attentive probe is taught to tell numbers."""

    heads: int = Field(default=4, ge=1, description="of its attention")
    blocks: int = Field(default=1, ge=1, description="1 as V-JEPA (arXiv 2404.08471), 4 as V-JEPA 2 (2506.09985)")
    steps: int = Field(default=600, ge=1, description="optimiser steps")
    batch: int = Field(default=64, ge=1, description="labelled rows in a step")
    lr: float = Field(default=3e-3, gt=0, description="highest learning rate, after a tenth of the steps")
    weight_decay: float = Field(default=0.01, ge=0, description="of AdamW")
    seed: int = Field(default=0, ge=0, description="of the weights and the order of rows")


def attentive_probe(
    x_train: Tensor, y_train: Tensor, x_test: Tensor, y_test: Tensor, config: AttentiveConfig = AttentiveConfig()
) -> dict[str, float]:
    """Teach an attentive probe to tell `y` (`n k`) from tokens `x` (`n s d`): `r2` on the test rows, mean over the
    numbers that vary, and `r2_i` of each.

    Tokens and targets are brought to mean 0 and deviation 1 by the training rows. Raises `UserError` for shapes that do
    not fit, and a number of heads that does not divide d.
    """
    _check(x_train.flatten(1), y_train, x_test.flatten(1), y_test)
    if x_train.ndim != 3 or x_train.shape[2] % config.heads:
        raise UserError(
            f"attentive probe: tokens {tuple(x_train.shape)} are not (n, s, d) with d in {config.heads} heads"
        )
    x_mean, x_scale = x_train.mean((0, 1)), deviation(x_train.flatten(0, 1))
    y_mean, y_scale = y_train.mean(0), deviation(y_train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        probe = AttentiveProbe(x_train.shape[2], y_train.shape[1], config.heads, config.blocks)
    optimiser = AdamW(probe.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    rng = Generator().manual_seed(config.seed)
    with torch.enable_grad():
        for step in range(config.steps):
            rows = torch.randint(len(x_train), (min(config.batch, len(x_train)),), generator=rng)
            optimiser.param_groups[0]["lr"] = warmup_cosine(step, config.steps, config.lr, max(1, config.steps // 10))
            optimiser.zero_grad()
            told = probe(((x_train[rows] - x_mean) / x_scale).float())
            F.mse_loss(told, ((y_train[rows] - y_mean) / y_scale).float()).backward()
            optimiser.step()
    with torch.no_grad():
        parts = [probe.eval()(((some - x_mean) / x_scale).float()) for some in x_test.split(256)]
    missed = torch.cat(parts).double() * y_scale + y_mean - y_test
    r2, each = _r2(missed.square().mean(0), y_test.double())
    return {"r2": r2, **{f"r2_{i}": one for i, one in enumerate(each.tolist())}}


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


def _judge(weights: Tensor, intercept: Tensor, x: Tensor, y: Tensor) -> Probe:
    squared = (x @ weights + intercept - y).square().mean(0)  # k
    r2, r2_each = _r2(squared, y)
    return Probe(r2=r2, r2_each=r2_each, error=squared.sqrt(), weights=weights, intercept=intercept)


def _r2(squared: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Of mean squared errors `k` of targets `n k`: the mean over those that vary, nan when none does, and each."""
    variance = y.var(0, correction=0)
    varies = variance > (1e-6 * y.abs().amax(0)) ** 2
    each = torch.where(varies, 1 - squared / variance, torch.nan)
    return each[varies].mean().item(), each
