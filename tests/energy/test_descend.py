"""Descent: exact on a bowl, never higher than its start, alone as in company, bounded, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from innerworld.energy import box, descend
from innerworld.errors import UserError


def bowl(x: Tensor) -> Tensor:
    return ((x - 0.3) ** 2).sum(dim=-1)


def waves(x: Tensor) -> Tensor:
    return (3 * x).sin().sum(dim=-1) + 0.1 * (x**2).sum(dim=-1)


def test_one_step_of_plain_descent_is_known() -> None:
    start = torch.tensor([[1.0, -1.0]])
    found = descend(bowl, start, steps=1, lr=0.25, optimiser="sgd")
    torch.testing.assert_close(found.x, start - 0.25 * 2 * (start - 0.3))
    torch.testing.assert_close(found.history, torch.stack([bowl(start), bowl(found.x)], dim=1))
    assert start.tolist() == [[1.0, -1.0]] and not found.x.requires_grad


def test_momentum_is_that_of_the_heavy_ball() -> None:
    """x₂ = x₁ − lr (0.5 g₀ + g₁), all of it downhill here."""
    start = torch.tensor([[1.3]])
    found = descend(bowl, start, steps=2, lr=0.1, optimiser="sgd", momentum=0.5)
    assert found.x.item() == pytest.approx(1.3 - 0.1 * 2.0 - 0.1 * (0.5 * 2.0 + 2 * 0.8))


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_it_finds_the_bottom_and_stops(optimiser) -> None:
    found = descend(bowl, torch.tensor([[2.0, -1.0], [0.3, 0.3]]), steps=2000, lr=0.1, optimiser=optimiser)
    torch.testing.assert_close(found.x, torch.full((2, 2), 0.3), atol=2e-3, rtol=0)
    assert bool(found.converged.all()) and found.steps < 400
    assert not descend(bowl, torch.tensor([[2.0]]), steps=3).converged.any()
    assert descend(bowl, torch.zeros(1, 2), steps=50, tolerance=None).steps == 50


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), lr=st.floats(1e-3, 30), optimiser=st.sampled_from(["adam", "sgd"]))
def test_no_point_ends_higher_than_it_began(seed: int, lr: float, optimiser) -> None:
    start = torch.randn(7, 3, generator=Generator().manual_seed(seed))
    found = descend(waves, start, steps=15, lr=lr, optimiser=optimiser)
    assert bool((found.energy <= waves(start)).all()) and bool((found.history.diff(dim=1) <= 0).all())
    torch.testing.assert_close(found.energy, waves(found.x))


def test_a_point_ends_at_the_same_place_alone_and_in_company() -> None:
    start = torch.randn(5, 3, generator=Generator().manual_seed(0))
    together = descend(waves, start, steps=300)
    for i in range(5):
        alone = descend(waves, start[i : i + 1], steps=300)
        assert torch.equal(alone.x[0], together.x[i]) and torch.equal(alone.energy[0], together.energy[i])


def test_bounds_hold_from_the_start_on() -> None:
    seen: list[Tensor] = []

    def energy(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return ((x - 2) ** 2).sum(dim=-1)

    found = descend(energy, torch.tensor([[-3.0, 0.0]]), steps=100, lr=0.2, project=box(-1, 1))
    assert found.x.tolist() == [[1.0, 1.0]] and all(bool((x.abs() <= 1).all()) for x in seen)


def test_noise_shakes_a_point_off_a_saddle() -> None:
    def saddle(x: Tensor) -> Tensor:
        return (x**2 - 1).square().sum(dim=-1)

    rng = Generator().manual_seed(0)
    still = descend(saddle, torch.zeros(1, 1))
    shaken = descend(saddle, torch.zeros(1, 1), perturb=lambda x: x + 0.01 * torch.randn(1, 1, generator=rng))
    assert still.x.item() == 0 and abs(shaken.x.item()) == pytest.approx(1, abs=0.02)


def test_a_lost_start_stays_and_says_so() -> None:
    found = descend(lambda x: x[:, 0].log() ** 2, torch.tensor([[-1.0], [2.0]]), steps=300)
    assert found.energy[0] == torch.inf and found.x[0].item() == -1
    assert found.x[1].item() == pytest.approx(1, abs=5e-3)


def test_a_start_is_of_floats() -> None:
    with pytest.raises(UserError, match=r"points n ... of floats, got torch.int64 of shape \(2,\)"):
        descend(bowl, torch.tensor([1, 2]))


def test_it_works_where_the_caller_tracks_no_gradients() -> None:
    with torch.no_grad():
        assert descend(bowl, torch.ones(1, 2), steps=5).energy < bowl(torch.ones(1, 2))


@pytest.mark.parametrize(
    ("energy", "dials", "told"),
    [
        (lambda x: bowl(x) * torch.nan, {}, "NaN or infinite at every start"),
        (lambda x: bowl(x).sum(), {}, "one number for each point"),
        (lambda x: bowl(x.detach()), {}, "no gradient"),
        (bowl, {"steps": -1}, "steps >= 0"),
        (bowl, {"lr": 0.0}, "lr > 0"),
        (bowl, {"momentum": 1.0}, r"momentum in \[0, 1\)"),
        (bowl, {"patience": 0}, "patience >= 1"),
    ],
)
def test_what_is_refused(energy, dials: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        descend(energy, torch.ones(2, 2), **dials)
