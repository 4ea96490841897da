from __future__ import annotations

import pytest
import torch

from innerworld.config import build
from innerworld.errors import UserError
from innerworld.plan import MPPI, cold, generators
from innerworld.testing.planner import check_planner


@pytest.mark.parametrize(
    "config", [{"unit": "cost", "temperature": 0.01}, {"answer": "mean"}, {"noise_beta": 1.0, "momentum": 0.1}]
)
def test_the_contract_holds_for_every_dial(config: dict) -> None:
    check_planner(lambda: build(MPPI, {"horizon": 3, **config}))


def test_weight_falls_to_one_over_e_at_the_temperature() -> None:
    weight = MPPI(temperature=2.0, unit="cost")._weight(torch.tensor([[[1.0, 3.0, torch.inf]]]))
    assert weight.flatten().tolist() == pytest.approx([1.0, 0.36788, 0.0], abs=1e-4)


def test_spread_does_not_depend_on_the_unit_of_the_cost() -> None:
    planner = MPPI(temperature=0.5, unit="spread")
    cost = torch.tensor([[[1.0, 2.0, 4.0, torch.inf]]])
    assert planner._weight(cost).allclose(planner._weight(1000 * cost - 7))
    std = torch.tensor([1.0, 2.0, 4.0]).std(correction=0)
    assert planner._weight(cost)[0, 0, 1].item() == pytest.approx((-1 / (0.5 * std)).exp().item())


def test_equal_costs_weigh_the_same() -> None:
    assert MPPI()._weight(torch.full((1, 1, 4), 3.0)).equal(torch.ones(1, 1, 4))


def test_fixed_std_keeps_searching_widely() -> None:
    spreads = []

    def cost(actions: torch.Tensor) -> torch.Tensor:
        spreads.append(actions.std().item())
        return actions.square().sum(dim=(2, 3))

    planner = MPPI(horizon=2, samples=256, elites=256, rounds=6, fixed_std=True, init_std=0.4)
    planner(cost, cold(1, 2, 2), generators(0, 1))
    assert spreads[-1] == pytest.approx(0.4, abs=0.05)


def test_elites_must_fit() -> None:
    with pytest.raises(UserError, match="cannot exceed"):
        MPPI(samples=10)
