"""The cost of a candidate: how far its imagined steps are from the goal, weighted."""

from __future__ import annotations

import pytest
import torch

from innerworld.agent import goal_cost, weights
from innerworld.envs.two_rooms import Dynamics
from innerworld.models import Oracle
from innerworld.models.oracle import OracleConfig
from innerworld.types import Spec

ORACLE = Oracle(OracleConfig(), Spec({"state": (2,), "layout": (4,)}, 2), Dynamics(size=64, speed=4.0))


def believe(*points: tuple[float, float]) -> dict[str, torch.Tensor]:
    layout = torch.tensor([32.0, 20.0, 14.0, 2.5]).expand(len(points), -1)
    return ORACLE.encode({"state": torch.tensor(points), "layout": layout})


START, GOAL = believe((10, 50), (50, 50)), believe((18, 50), (50, 42))
RIGHT, UP = torch.tensor([1.0, 0.0]), torch.tensor([0.0, -1.0])


@pytest.mark.parametrize(("shape", "expected"), [("last", [0, 0, 1]), ("mean", [1 / 3] * 3)])
def test_weights_sum_to_one(shape, expected: list[float]) -> None:
    assert weights(shape, 3, torch.zeros(1)).tolist() == pytest.approx(expected)
    rising = weights("ramp", 10, torch.zeros(1))
    assert rising.sum().item() == pytest.approx(1) and (rising[-1] / rising[0]).item() == pytest.approx(10)
    assert weights("ramp", 1, torch.zeros(1)).tolist() == weights("last", 1, torch.zeros(1)).tolist() == [1]


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_the_cost_is_the_weighted_energy_of_each_candidates_steps(power: float) -> None:
    """One step of 4 pixels towards the goal, 8 away, leaves 16 of energy; the second arrives."""
    actions = torch.stack([RIGHT, UP])[:, None, None] * torch.tensor([1.0, 0.0])[:, None, None]  # b n 1 a
    actions = actions.expand(2, 2, 2, 2)
    costs = goal_cost(ORACLE, START, GOAL, "mean", power)(actions)
    assert costs.shape == (2, 2)
    go, stay = (16**power + 0) / 2, 64**power
    torch.testing.assert_close(costs, torch.tensor([[go, stay]] * 2), rtol=1e-4, atol=1e-4)
    last = goal_cost(ORACLE, START, GOAL, "last")(actions)
    torch.testing.assert_close(last, torch.tensor([[0.0, 64.0]] * 2))


def test_near_power_zero_arriving_first_beats_being_near() -> None:
    """One candidate stays near and never arrives, one goes far first and then arrives: the detour of a wall."""
    state, goal = believe((10, 10)), believe((14, 10))
    near = torch.zeros(6, 2)
    detour = torch.stack([*([-RIGHT] * 1), *([RIGHT] * 2), *([0 * RIGHT] * 3)])
    actions = torch.stack([near, detour])[None]
    greedy = goal_cost(ORACLE, state, goal, "mean", 2.0)(actions)[0]
    patient = goal_cost(ORACLE, state, goal, "mean", 0.05)(actions)[0]
    assert greedy[0] < greedy[1] and patient[1] < patient[0]


def test_a_gradient_at_the_goal_is_finite() -> None:
    actions = torch.zeros(1, 1, 3, 2, requires_grad=True)
    goal_cost(ORACLE, believe((10, 10)), believe((10, 10)), "mean", 0.05)(actions).sum().backward()
    assert actions.grad is not None and bool(actions.grad.isfinite().all())


def test_many_candidates_with_large_beliefs_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    actions = torch.rand(2, 7, 3, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = goal_cost(ORACLE, START, GOAL)(actions)
    seen = []
    imagine = ORACLE.imagine
    monkeypatch.setattr(ORACLE, "imagine", lambda state, some: seen.append(some.shape[1]) or imagine(state, some))
    monkeypatch.setattr(
        "innerworld.agent.cost.LARGEST", 3 * 2 * 3 * 6 + 1
    )  # 3 candidates, 2 worlds, 3 steps, 6 numbers
    assert torch.equal(goal_cost(ORACLE, START, GOAL)(actions), whole) and seen == [3, 3, 1]


def test_what_is_not_imagined_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A goal may hold a long memory; after the first candidate it is known that energies do not read it."""
    actions = torch.rand(2, 7, 3, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = []
    imagine = ORACLE.imagine
    monkeypatch.setattr(ORACLE, "imagine", lambda state, some: seen.append(some.shape[1]) or imagine(state, some))
    monkeypatch.setattr("innerworld.agent.cost.LARGEST", 6 * 2 * 3 * 6)  # 6 candidates, 2 worlds, 3 steps, 6 numbers
    cost = goal_cost(ORACLE, START, GOAL | {"keys": torch.zeros(2, 1000)})
    found = cost(actions)
    assert seen == [1, 6] and torch.equal(found, goal_cost(ORACLE, START, GOAL)(actions))
    assert cost(actions).shape == (2, 7) and seen[-2:] == [6, 1]
