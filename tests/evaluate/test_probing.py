"""Linear probing: a known map is found, and nothing is read where there is nothing."""

from __future__ import annotations

import math

import pytest
import torch

from innerworld.errors import UserError
from innerworld.evaluate.probing import AttentiveConfig, attentive_probe, best_ridge, label_curve, linear_probe


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


def test_more_labels_read_more_until_nothing_is_left_to_read() -> None:
    x = data(1200, 20)
    y = x[:, :2] + 0.3 * data(1200, 2, 1)
    found = label_curve(x[:1000], y[:1000], x[1000:], y[1000:], labels=(3, 10, 30, 100, 1000, 5000))
    assert [name for name in found if name.count("_") == 1] == ["r2_10", "r2_30", "r2_100", "r2_1000", "r2_all"]
    assert found["r2_10"] < found["r2_30"] < found["r2_100"] < found["r2_1000"] == pytest.approx(0.91, abs=0.03)
    assert found["r2_10_low"] < found["r2_10"] < found["r2_10_high"]
    assert found["r2_all"] == pytest.approx(found["r2_1000"], abs=1e-3)
    assert found == label_curve(x[:1000], y[:1000], x[1000:], y[1000:], labels=(3, 10, 30, 100, 1000, 5000))


def test_labels_choose_a_penalty_that_suits_them() -> None:
    x, y = data(30, 40), data(30, 1, 1)
    assert best_ridge(x, y) == 10, "of noise nothing should be believed"
    assert best_ridge(data(300, 4), data(300, 4)[:, :1]) == 1e-4


def test_attention_reads_what_a_mean_of_tokens_hides() -> None:
    """The number is in the one token of four that is marked."""
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(900, 4, 8, generator=rng)
    tokens[..., 0] = 0
    marked = torch.randint(4, (900,), generator=rng)
    tokens[torch.arange(900), marked, 0] = 4
    y = tokens[torch.arange(900), marked, 1:3].double()
    learn, test = slice(0, 700), slice(700, 900)
    pooled = tokens.mean(dim=1)
    linear = linear_probe(pooled[learn], y[learn], pooled[test], y[test])["r2"]
    config = AttentiveConfig(heads=2, steps=300)
    found = attentive_probe(tokens[learn], y[learn], tokens[test], y[test], config)
    assert linear < 0.4 and found["r2"] > 0.8 and found["r2_0"] > 0.8
    with pytest.raises(UserError, match="in 3 heads"):
        attentive_probe(tokens, y, tokens, y, AttentiveConfig(heads=3))
