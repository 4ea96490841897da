"""A linear readout of yes or no: logistic regression on standardised features, its strength chosen by folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from innerworld.errors import UserError

ROUNDS = 100
ENOUGH = 1e-8
"""How small the gradient becomes, per row, before we stop."""


class Readout(NamedTuple):
    """`sigmoid(x @ weights + intercept)` is the chance of a yes."""

    weights: Tensor  # d
    intercept: Tensor
    strength: float  # what was chosen
    folds: float  # share right in the folds that were left out, with that strength

    def __call__(self, x: Tensor) -> Tensor:
        """`n d` → how likely each is, `n` float64."""
        return torch.sigmoid(x.detach().cpu().double() @ self.weights + self.intercept)


def fit_readout(
    x: Tensor,
    y: Tensor,
    strengths: Sequence[float] = (1e-6, 1e-5, 0.01, 0.1, 1, 5, 10, 20),
    folds: int = 5,
    seed: int = 0,
) -> Readout:
    """Fit `y` (`n`, 0 or 1) from `x` (`n d`); of the `strengths` the one counts that is most often right in `folds`.

    A strength is that of the data against the penalty ½ |w|², scikit-learn's `C`; the smallest wins a tie. Each fold
    has as large a share of yes as all. Raises `UserError` for shapes that do not fit, numbers that are not finite, and
    fewer rows of an answer than folds.
    """
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    _check(x, y, folds)
    parts = stratified(y, folds, seed)
    right = torch.zeros(len(strengths), dtype=torch.float64)
    for part in parts if len(strengths) > 1 else ():
        rest = torch.ones(len(y), dtype=torch.bool)
        rest[part] = False
        basis = _Standardised(x[rest])
        for i, strength in enumerate(strengths):
            weights, intercept = basis.fit(y[rest], strength)
            right[i] += ((x[part] @ weights + intercept > 0).double() == y[part]).sum()
    best = int(right.argmax())
    weights, intercept = _Standardised(x).fit(y, strengths[best])
    return Readout(weights, intercept, float(strengths[best]), float(right[best] / len(y)))


def stratified(y: Tensor, folds: int, seed: int) -> list[Tensor]:
    """Rows in `folds` parts, each with as large a share of either answer as all: drawn by `seed`."""
    rng = np.random.default_rng([seed, 40])
    parts: list[list[int]] = [[] for _ in range(folds)]
    for answer in (0, 1):
        rows = rng.permutation(np.flatnonzero(y.numpy() == answer))
        for i, part in enumerate(np.array_split(rows, folds)):
            parts[i if answer else folds - 1 - i] += part.tolist()  # the larger parts of one meet the smaller ones
    return [torch.tensor(sorted(part)) for part in parts]


def area_under_curve(chance: Tensor, y: Tensor) -> float:
    """How often a yes is thought likelier than a no, over all pairs of them; a tie is half. nan without one of them."""
    yes, no = chance[y > 0], chance[y <= 0]
    if not len(yes) or not len(no):
        return float("nan")
    order = no.sort().values
    below = torch.searchsorted(order, yes, right=False).double()
    upto = torch.searchsorted(order, yes, right=True).double()
    return float(((below + upto) / 2).mean() / len(no))


class _Standardised:
    """Features of mean 0 and deviation 1, on the axes that the rows span: no other direction ever gets weight."""

    def __init__(self, x: Tensor) -> None:
        self.mean, std = x.mean(0), x.std(0, correction=0)
        self.scale = torch.where(std > 1e-9 * (1e-3 + x.abs().amax(0)), std, torch.inf)  # a constant tells nothing
        z = (x - self.mean) / self.scale
        if z.shape[1] <= z.shape[0]:
            self.axes, self.rows = None, z
        else:
            self.axes = torch.linalg.qr(z.T).Q  # d n
            self.rows = z @ self.axes

    def fit(self, y: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        """Weights and intercept for the features as they came."""
        weights, intercept = _newton(self.rows, y, strength)
        if self.axes is not None:
            weights = self.axes @ weights
        weights = weights / self.scale
        return weights, intercept - self.mean @ weights


def _newton(x: Tensor, y: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Minimise strength · Σ log(1 + exp(∓ output)) + ½ |w|² by Newton's steps, halved where one goes too far."""
    n, d = x.shape
    ones = torch.cat([x, torch.ones(n, 1, dtype=x.dtype)], dim=1)
    penalty = torch.ones(d + 1, dtype=x.dtype)
    penalty[-1] = 0  # the intercept is free
    at = torch.zeros(d + 1, dtype=x.dtype)
    loss = _loss(ones, y, at, penalty, strength)
    for _ in range(ROUNDS):
        chance = torch.sigmoid(ones @ at)
        gradient = strength * ones.T @ (chance - y) + penalty * at
        if gradient.abs().amax() <= ENOUGH * max(strength * n, 1e-12):
            break
        curve = strength * (ones.T * (chance * (1 - chance))) @ ones
        curve.diagonal().add_(penalty + 1e-12 * (1 + strength))
        step = torch.linalg.solve(curve, gradient)
        size = 1.0
        while (lower := _loss(ones, y, at - size * step, penalty, strength)) > loss and size > 1e-8:
            size /= 2
        if lower > loss:
            break  # no step is small enough for float64 to see it help
        at, loss = at - size * step, lower
    return at[:-1], at[-1]


def _loss(ones: Tensor, y: Tensor, at: Tensor, penalty: Tensor, strength: float) -> float:
    output = ones @ at
    return float(strength * (torch.nn.functional.softplus(output) - y * output).sum() + 0.5 * (penalty * at * at).sum())


def _check(x: Tensor, y: Tensor, folds: int) -> None:
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise UserError(f"readout: x {tuple(x.shape)} and y {tuple(y.shape)} do not fit, expected (n, d) and (n,)")
    if not torch.isfinite(x).all():
        raise UserError("readout: features are not finite: was the model trained?")
    fewest = min(int((y == 0).sum()), int((y == 1).sum()))
    if folds < 2 or fewest < folds:
        raise UserError(f"readout: {fewest} rows of the rarer answer, fewer than {folds} folds: give more films")
