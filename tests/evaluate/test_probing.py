"""Linear probing: a known map is found, and nothing is read where there is nothing."""

from __future__ import annotations

import math

import pytest
import torch

from innerworld.errors import UserError
from innerworld.evaluate.probing import linear_probe


def data(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_linear_map_is_found_through_scale_and_offset() -> None:
    x = data(200, 3) * torch.tensor([1e-4, 1.0, 1e4]) + torch.tensor([5.0, -2.0, 1e3])
    weights, intercept = (
        torch.tensor([[1e4, 0.0], [2.0, 1.0], [0.0, -1e-4]]).double(),
        torch.tensor([3.0, 7.0]).double(),
    )
    y = x @ weights + intercept
    probe = linear_probe(x[:100], y[:100], x[100:], y[100:], ridge=0.0)
    assert probe["r2"] == pytest.approx(1.0, abs=1e-9)
    assert torch.allclose(probe["weights"], weights, rtol=1e-6, atol=1e-6)
    assert torch.allclose(probe["intercept"], intercept, atol=1e-3)
    assert probe["error"].max() < 1e-6


def test_it_is_ridge_regression_by_its_formula() -> None:
    x, y = data(50, 4), data(50, 2, 1)
    probe = linear_probe(x, y, x, y, ridge=0.3)
    z = (x - x.mean(0)) / x.std(0, correction=0)
    expected = torch.linalg.inv(z.T @ z / 50 + 0.3 * torch.eye(4).double()) @ z.T @ (y - y.mean(0)) / 50
    assert torch.allclose(probe["weights"] * x.std(0, correction=0)[:, None], expected)
    residual = y - x @ probe["weights"] - probe["intercept"]
    assert torch.allclose(probe["error"], residual.square().mean(0).sqrt())
    assert torch.allclose(probe["r2_each"], 1 - residual.square().mean(0) / y.var(0, correction=0))
    assert probe["r2"] == pytest.approx(probe["r2_each"].mean().item())


def test_both_closed_forms_agree() -> None:
    """With more features than rows the other system is solved: a block of constant features must not matter."""
    x, y = data(20, 8), data(20, 2, 1)
    wide = torch.cat([x, torch.full((20, 30), 7.0).double()], dim=1)
    a, b = linear_probe(x, y, x, y), linear_probe(wide, y, wide, y)
    assert torch.allclose(a["weights"], b["weights"][:8])
    assert a["r2"] == pytest.approx(b["r2"])


def test_noise_tells_nothing() -> None:
    x, y = data(2000, 5), data(2000, 2, 1)
    assert abs(linear_probe(x[:1000], y[:1000], x[1000:], y[1000:])["r2"]) < 0.02


def test_a_constant_target_does_not_count() -> None:
    x = data(40, 3)
    y = torch.stack([x[:, 0], torch.full((40,), 0.1).double()], dim=1)
    probe = linear_probe(x[:20], y[:20], x[20:], y[20:], ridge=1e-9)
    assert probe["r2"] == pytest.approx(1.0)
    assert math.isnan(probe["r2_each"][1])
    assert probe["error"][1] < 1e-9
    assert math.isnan(linear_probe(x, y[:, 1:], x, y[:, 1:])["r2"])


def test_float32_features_on_large_offsets_and_gradients() -> None:
    x = (data(100, 3).float() * 1e-2 + 100).requires_grad_()
    y = x.detach()[:, :1] * 50
    assert linear_probe(x[:50], y[:50], x[50:], y[50:])["r2"] > 0.99


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(4, 2, 2), torch.zeros(4, 1), r"train has x \(4, 2, 2\)"),
        (torch.zeros(4, 2), torch.zeros(3, 1), r"train has x \(4, 2\) and y \(3, 1\)"),
        (torch.zeros(1, 2), torch.zeros(1, 1), "1 rows"),
        (torch.full((4, 2), torch.nan), torch.zeros(4, 1), "not finite"),
        (torch.zeros(4, 3), torch.zeros(4, 1), "differ in the size"),
    ],
)
def test_mistakes(x: torch.Tensor, y: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        linear_probe(x, y, torch.zeros(4, 2), torch.zeros(4, 1))
