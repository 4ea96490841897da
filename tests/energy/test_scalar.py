"""Energies are asked with checks: shapes, numbers that are not finite, slopes that are not there."""

from __future__ import annotations

import pytest
import torch

from innerworld.energy import box, of_plans, slope, values
from innerworld.energy.scalar import over
from innerworld.errors import UserError


def test_what_is_not_finite_is_infinite_and_rests() -> None:
    x = torch.tensor([[1.0, 2.0], [-1.0, 2.0]], requires_grad=True)
    energies = values(lambda x: x[:, 0].sqrt() + x[:, 1] ** 2, x)
    assert energies.tolist() == [5.0, torch.inf]
    assert slope(energies, x).tolist() == [[0.5, 4.0], [0.0, 0.0]]


def test_points_may_be_in_rows() -> None:
    x = torch.ones(2, 3, 4, 5, requires_grad=True)
    energies = values(lambda x: (x**2).sum(dim=(2, 3)), x)
    assert energies.shape == (2, 3) and torch.equal(slope(energies, x), torch.full_like(x, 2.0))
    assert over(energies, x).shape == (2, 3, 1, 1)


@pytest.mark.parametrize("dim", [None, 0], ids=["a scalar", "one for each number"])
def test_one_number_for_each_point(dim: int | None) -> None:
    with pytest.raises(UserError, match=r"for points of shape \(3, 2\): give one number for each point"):
        values(lambda x: x.sum() if dim is None else x.sum(dim=dim), torch.zeros(3, 2))
    with pytest.raises(UserError, match="one number for each point"):
        values(lambda x: x, torch.zeros(3, 2))


def test_no_gradient_is_told() -> None:
    x = torch.zeros(3, 2, requires_grad=True)
    weight = torch.ones(2, requires_grad=True)
    for energies in (x.detach().sum(dim=1), torch.zeros(3, 2) @ weight):  # neither knows x
        with pytest.raises(UserError, match="no gradient"):
            slope(energies, x)


def test_a_cost_is_an_energy_of_plans() -> None:
    plans = torch.arange(12.0).reshape(3, 2, 2)
    assert of_plans(lambda actions: actions.sum(dim=(2, 3)))(plans).tolist() == [6.0, 22.0, 38.0]


def test_a_box() -> None:
    assert box(-1, 0.5)(torch.tensor([-2.0, 0.0, 2.0])).tolist() == [-1.0, 0.0, 0.5]
    with pytest.raises(UserError, match="from low to high"):
        box(1, -1)
