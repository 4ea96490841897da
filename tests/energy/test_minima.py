"""Several answers at once: all valleys, sorted, with their basins; starts that push each other apart; free energy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from innerworld.energy import free_energy, minima
from innerworld.errors import UserError


def valleys(x: Tensor) -> Tensor:
    """Two in each of two numbers, at about ±1; the tilt orders the four."""
    return (x**2 - 1).square().sum(dim=-1) + 0.1 * x[:, 0] + 0.03 * x[:, 1]


def test_all_valleys_are_found_lowest_first() -> None:
    starts = 1.5 * torch.randn(60, 2, generator=Generator().manual_seed(0))
    found = minima(valleys, starts, apart=0.2)
    assert found.x.sign().tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    assert bool((found.energy.diff() > 0).all()) and int(found.basin.sum()) == 60 and bool(found.converged.all())
    torch.testing.assert_close(found.energy, torch.tensor([-0.13, -0.07, 0.07, 0.13]), atol=0.01, rtol=0)
    quadrants = (starts > 0).float() @ torch.tensor([2.0, 1.0])  # near the axes the tilt decides
    assert found.basin.tolist() == pytest.approx([(quadrants == k).sum().item() for k in range(4)], abs=4)


def test_what_meets_is_one_answer() -> None:
    starts = torch.tensor([[0.8, 0.9], [1.2, 1.1], [0.9, -1.0]])
    assert minima(valleys, starts, apart=0.1).basin.tolist() == [1, 2]
    assert minima(valleys, starts, apart=9.0).basin.tolist() == [3]


def test_repulsion_finds_basins_in_which_nobody_began() -> None:
    starts = torch.tensor([0.8, 0.8]) + 0.05 * torch.randn(16, 2, generator=Generator().manual_seed(0))
    alone = minima(valleys, starts, apart=0.5)
    apart = minima(valleys, starts, apart=0.5, repel=1.0)
    assert len(alone.x) == 1 and len(apart.x) == 4
    torch.testing.assert_close(apart.x.abs(), torch.ones(4, 2), atol=0.03, rtol=0)  # the hills move no valley


def test_lost_starts_are_no_answers() -> None:
    found = minima(lambda x: x[:, 0].log() ** 2, torch.tensor([[-1.0], [2.0]]), apart=0.1)
    assert found.basin.tolist() == [1] and found.energy.item() < 1e-3


def test_what_is_still_on_its_way_says_so() -> None:
    assert not minima(valleys, torch.tensor([[3.0, 3.0]]), apart=0.1, steps=3).converged.any()


def test_points_of_any_shape() -> None:
    found = minima(lambda x: x.square().sum(dim=(1, 2)), torch.ones(3, 2, 4), apart=0.1)
    assert found.x.shape == (1, 2, 4)


def test_what_is_refused() -> None:
    for starts, apart, repel in (
        (torch.zeros(0, 2), 1.0, 0.0),
        (torch.ones(2, 2), 0.0, 0.0),
        (torch.ones(2, 2), 1.0, -1.0),
    ):
        with pytest.raises(UserError, match="minima take a start or more"):
            minima(valleys, starts, apart, repel=repel)


def test_a_latent_that_is_summed_out() -> None:
    """Two latents of energy 0 and 1: −T log ((1 + exp(−1 / T)) / 2); nearly the least one when cold."""
    energies = torch.tensor([[0.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    for t in (0.5, 2.0):
        told = free_energy(energies, t)
        assert told.tolist() == pytest.approx([-t * math.log((1 + math.exp(-1 / t)) / 2), 2.0])
    assert free_energy(energies, 0.0).tolist() == [0.0, 2.0]
    assert free_energy(energies, 1e-3)[0] < 1e-3
    assert free_energy(energies, 1e6)[0].item() == pytest.approx(0.5, abs=1e-3)  # hot: the mean
    with pytest.raises(UserError, match="temperature is 0 or more"):
        free_energy(energies, -1.0)
