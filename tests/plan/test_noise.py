from __future__ import annotations

import pytest
import torch

from innerworld.plan import coloured, generators
from innerworld.plan.noise import gumbel


@pytest.mark.parametrize("h", [1, 2, 5, 8])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5, 4.0])
def test_unit_variance_at_every_step(h: int, beta: float) -> None:
    noise = coloured(generators(0, 1), 20_000, torch.zeros(1, h, 1), beta)
    assert noise.shape == (1, 20_000, h, 1)
    assert noise.std(dim=1).flatten().tolist() == pytest.approx([1.0] * h, abs=0.03)
    assert noise.mean(dim=1).abs().max() < 0.03


def test_the_power_falls_with_the_exponent() -> None:
    power = coloured(generators(0, 1), 4000, torch.zeros(1, 64, 1), 2.0)[0, ..., 0]
    power = torch.fft.rfft(power, dim=1).abs().square().mean(dim=0)  # f
    assert (power[2] / power[16]).item() == pytest.approx((16 / 2) ** 2, rel=0.15)


def test_neighbours_are_alike_when_coloured_and_not_when_white() -> None:
    like = torch.zeros(1, 16, 1)
    white = coloured(generators(0, 1), 5000, like)[0, ..., 0]
    red = coloured(generators(0, 1), 5000, like, 3.0)[0, ..., 0]
    assert abs((white[:, 4] * white[:, 5]).mean()) < 0.05
    assert (red[:, 4] * red[:, 5]).mean() > 0.8


def test_a_row_draws_from_its_own_generator() -> None:
    both = coloured(generators(7, 2), 4, torch.zeros(2, 6, 3), 2.0)
    first = coloured(generators(7, 1), 4, torch.zeros(1, 6, 3), 2.0)
    assert both[:1].allclose(first)


def test_gumbel_sampling_follows_the_probabilities_though_correlated() -> None:
    probs = torch.tensor([0.1, 0.6, 0.3])
    noise = coloured(generators(0, 1), 20_000, torch.zeros(1, 16, 3), 3.0)
    choice = (probs.log() + gumbel(noise)).argmax(dim=-1)[0]  # n h
    seen = torch.nn.functional.one_hot(choice, 3).float().mean(dim=0)  # h a
    assert seen.allclose(probs.expand(16, 3), atol=0.02)
    assert (choice[:, 0] == choice[:, 1]).float().mean() > 0.75  # independent draws would agree 0.46 of the time
