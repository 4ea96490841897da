from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from innerworld.config import build
from innerworld.errors import UserError
from innerworld.plan import Gradient, cold, generators
from innerworld.testing.planner import check_planner


@pytest.mark.parametrize("config", [{"optimiser": "sgd", "lr": 1.0}, {"noise_std": 0.01}])
def test_the_contract_holds_for_every_dial(config: dict) -> None:
    check_planner(lambda: build(Gradient, {"horizon": 3, "rounds": 40, "samples": 8, **config}), discrete=False)


def test_it_plans_through_a_network_and_leaves_no_gradient_there() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 4))
    aim = net(torch.tensor([[0.5, -0.5, 0.2, 0.1, -0.3, 0.8]])).detach()

    def cost(actions: Tensor) -> Tensor:
        return (net(actions.flatten(2)) - aim).square().sum(dim=-1)

    with torch.no_grad():
        plan = Gradient(horizon=3)(cost, cold(2, 3, 2), generators(0, 2))
    assert plan.cost.max() < 1e-3
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_cost_without_gradient_is_refused() -> None:
    with pytest.raises(UserError, match="no gradient"):
        Gradient(horizon=3)(lambda actions: actions.detach().sum(dim=(2, 3)), cold(1, 3, 2), generators(0, 1))


def test_restarts_escape_a_flat_start() -> None:
    def cost(actions: Tensor) -> Tensor:  # the slope at zero is zero: two valleys at ±0.6
        return (actions.square() - 0.36).square().sum(dim=(2, 3))

    one = build(Gradient, {"horizon": 2, "samples": 1})(cost, cold(1, 2, 1), generators(0, 1))
    many = build(Gradient, {"horizon": 2, "samples": 8})(cost, cold(1, 2, 1), generators(0, 1))
    assert one.cost.item() == pytest.approx(2 * 0.36**2)
    assert many.cost.item() < 1e-3
