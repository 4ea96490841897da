"""Shaping: losses at points where they are known, energies in closed form, and that each way leaves the data lowest."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from innerworld.energy import (
    divergence,
    hinge,
    info_nce,
    joint,
    langevin,
    nearest_code,
    reconstruction,
    separation,
    sparse,
    square_square,
)
from innerworld.energy.shaping import sparse_code
from innerworld.errors import UserError


def test_losses_of_pairs() -> None:
    data, negatives = torch.tensor([0.0, 1.0]), torch.tensor([2.0, 0.5])
    assert hinge(data, negatives, margin=1.0).item() == pytest.approx((0 + 1.5) / 2)
    assert square_square(data, negatives, margin=1.0).item() == pytest.approx(1 / 2 + 0.25 / 2)
    assert divergence(data, negatives).item() == pytest.approx(0.5 - 1.25)
    assert divergence(data, negatives, weight=2.0).item() == pytest.approx(-0.75 + 2 * (0.5 + 4.25 / 2))


def test_info_nce_counts_the_negatives_where_nothing_is_told_apart() -> None:
    assert info_nce(torch.zeros(3), torch.zeros(3, 7)).item() == pytest.approx(math.log(8))
    apart = info_nce(torch.zeros(1), torch.ones(1, 1), temperature=0.5)
    assert apart.item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_contrast_pushes_data_down_and_negatives_up() -> None:
    for loss in (hinge, square_square, divergence, lambda d, n: info_nce(d, n[:, None])):
        data, negatives = torch.full((4,), 0.5, requires_grad=True), torch.full((4,), 0.5, requires_grad=True)
        loss(data, negatives).backward()
        assert data.grad is not None and negatives.grad is not None
        assert bool((data.grad > 0).all()) and bool((negatives.grad < 0).all())


def test_a_joint_energy_is_zero_where_both_halves_agree() -> None:
    """On the unit circle x² and 1 − y² are the same."""
    energy = joint(lambda x: x**2, lambda y: 1 - y**2, split=1)
    angle = torch.linspace(0, 6, 50)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    assert energy(circle).max() < 1e-10
    torch.testing.assert_close(energy(2 * circle), torch.full((50,), 9.0))


def test_sparse_codes_of_an_orthonormal_dictionary_are_shrunk() -> None:
    """z = shrink(y, λ); the energy is Huber's."""
    y = torch.tensor([[2.0, 0.1, -1.0]])
    assert sparse_code(y, torch.eye(3), 0.5).tolist() == [[1.5, 0.0, -0.5]]
    huber = (0.5 * 2 - 0.125) + 0.5 * 0.01 + (0.5 * 1 - 0.125)
    assert sparse(torch.eye(3), 0.5)(y).item() == pytest.approx(huber)


def test_a_sparse_energy_has_the_slopes_of_its_least_latent() -> None:
    """Danskin: the gradient at the best z, against differences of the energy itself."""
    rng = Generator().manual_seed(0)
    atoms = torch.randn(5, 2, generator=rng, dtype=torch.float64).requires_grad_()
    y = torch.randn(3, 2, generator=rng, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda y, atoms: sparse(atoms, 0.2, steps=800)(y), (y, atoms), eps=1e-5, atol=1e-4)


def test_few_directions_bound_the_space_of_low_energy() -> None:
    first = torch.tensor([[1.0], [0.0]])
    energy = reconstruction(lambda y: y @ first @ first.T)
    assert energy(torch.tensor([[5.0, 0.0], [5.0, 2.0]])).tolist() == [0.0, 4.0]
    codes = nearest_code(torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
    assert codes(torch.tensor([[3.0, 1.0], [1.0, 0.0]])).tolist() == [1.0, 1.0]


def test_separation_is_the_area_under_the_curve() -> None:
    rng = Generator().manual_seed(0)
    on, off = torch.randint(5, (40,), generator=rng).float(), 1 + torch.randint(5, (60,), generator=rng).float()
    pairs = (off[:, None] > on).float() + 0.5 * (off[:, None] == on).float()
    assert separation(on, off) == pytest.approx(pairs.mean().item())
    assert separation(torch.zeros(3), torch.zeros(4)) == 0.5  # flat: collapsed


def test_what_is_refused() -> None:
    def refused(told: str, ask) -> None:
        with pytest.raises(UserError, match=told):
            ask()

    two, three = torch.zeros(2), torch.zeros(3)
    refused("are no pairs", lambda: hinge(two, three))
    refused(r"negatives \(n, m\), got \(3,\)", lambda: info_nce(two, three))
    refused("finite energies", lambda: separation(two, torch.full((2,), torch.nan)))
    refused("finite energies", lambda: separation(two, torch.zeros(0)))
    refused("weight > 0", lambda: sparse(torch.eye(2), 0.0))
    refused("codes are k d", lambda: nearest_code(two))


def test_negatives_may_come_from_the_model_itself() -> None:
    """One number, energy w x² / 2: contrast with own draws finds 1 / variance of the data, as the likelihood."""
    rng = Generator().manual_seed(0)
    data = 2.0 * torch.randn(4000, 1, generator=rng)
    log_w = torch.tensor(0.0, requires_grad=True)
    step = torch.optim.Adam([log_w], lr=0.1)

    def energy(x: Tensor) -> Tensor:
        return log_w.exp() * x[:, 0] ** 2 / 2

    for _ in range(60):
        drawn = langevin(energy, data[:1000], rng, steps=20, step_size=0.5, adjust=True).x
        step.zero_grad()
        divergence(energy(data), energy(drawn)).backward()
        step.step()
    assert log_w.exp().item() == pytest.approx(1 / data.var().item(), rel=0.15)
