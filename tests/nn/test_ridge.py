"""Ridge regression: the two forms of its solution are one, and a constant feature is no trouble."""

from __future__ import annotations

import torch
from torch import Generator

from innerworld.nn.ridge import deviation, fit_linear


def data(n: int, d: int, k: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = Generator().manual_seed(0)
    x = torch.randn(n, d, generator=rng).double()
    map = torch.randn(d, k, generator=rng).double()
    return x, x @ map + 3, map


def test_a_linear_law_is_found() -> None:
    x, y, map = data(50, 4)
    weights, intercept = fit_linear(x, y, 0.0)
    torch.testing.assert_close(weights, map)
    torch.testing.assert_close(intercept, torch.full((2,), 3.0).double())


def test_fewer_rows_than_features_are_solved_the_other_way_round() -> None:
    """Against the larger of the two systems, written out."""
    x, y, _ = data(6, 20)
    weights, intercept = fit_linear(x, y, 0.1)
    z = (x - x.mean(0)) / x.std(0, correction=0)
    expected = torch.linalg.solve(z.T @ z + 0.6 * torch.eye(20).double(), z.T @ (y - y.mean(0)))
    torch.testing.assert_close(weights, expected / x.std(0, correction=0)[:, None])
    torch.testing.assert_close(x.mean(0) @ weights + intercept, y.mean(0))


def test_the_penalty_shrinks_the_weights_and_not_the_mean() -> None:
    x, y, _ = data(50, 4)
    weights, intercept = fit_linear(x, y, 1e6)
    assert weights.abs().max() < 1e-4
    torch.testing.assert_close(intercept, y.mean(0), atol=1e-4, rtol=0)


def test_a_constant_feature_is_not_blown_up() -> None:
    x, y, map = data(50, 4)
    x = torch.cat([x, torch.full((50, 1), 1e6).double()], dim=1)
    assert deviation(x)[4] == 1
    weights, _ = fit_linear(x, y, 0.0)
    torch.testing.assert_close(weights[:4], map, atol=1e-5, rtol=1e-5)
