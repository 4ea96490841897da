"""Intervals: they hold the mean, are seeded, narrow with more clips, and cover the truth as often as they say."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from innerworld.evaluate.bootstrap import ratio_with_interval, with_interval


def drawn(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, generator=Generator().manual_seed(seed)) + 3


def test_the_mean_lies_within_its_interval_which_narrows() -> None:
    few, many = with_interval("x", drawn(20)), with_interval("x", drawn(2000))
    assert few["x_low"] < few["x"] < few["x_high"] and few == with_interval("x", drawn(20))
    assert few["x"] == pytest.approx(drawn(20).mean().item())
    assert many["x_high"] - many["x_low"] < 0.2 * (few["x_high"] - few["x_low"])
    assert with_interval("x", torch.full((9,), 2.0)) == {"x": 2.0, "x_low": 2.0, "x_high": 2.0}


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    found = [with_interval("x", drawn(50, seed)) for seed in range(200)]
    assert 0.88 < sum(one["x_low"] <= 3 <= one["x_high"] for one in found) / 200 < 0.99


def test_pairs_stay_together_in_a_ratio() -> None:
    """What is always half is half in every draw, however much both vary."""
    found = ratio_with_interval("r", drawn(30).abs(), 2 * drawn(30).abs())
    assert found["r"] == found["r_low"] == found["r_high"] == pytest.approx(0.5)
    means = ratio_with_interval("r", torch.tensor([1.0, 0.0]), torch.tensor([1.0, 3.0]))
    assert means["r"] == 0.25  # of means, not the mean of ratios
