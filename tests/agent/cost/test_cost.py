"""The cost of a candidate: how far its imagined steps are from the goal, weighted."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from innerworld.agent import goal_cost, weights
from innerworld.agent.cost.cost import Cost, judged
from innerworld.agent.cost.guardrail import Guardrail
from innerworld.agent.cost.terms import Effort, GoalEnergy, Jerk
from innerworld.agent.foresight.futures import OneFuture, Sampled
from innerworld.agent.modules import Imagined
from innerworld.envs.two_rooms import Dynamics
from innerworld.errors import UserError
from innerworld.models import Oracle
from innerworld.models.jepa import JEPA
from innerworld.models.oracle import OracleConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec, each
from innerworld.world import flatten

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
        "innerworld.agent.cost.cost.LARGEST", 3 * 2 * 3 * 6 + 1
    )  # 3 candidates, 2 worlds, 3 steps, 6 numbers
    assert torch.equal(goal_cost(ORACLE, START, GOAL)(actions), whole) and seen == [3, 3, 1]


def test_what_is_not_imagined_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A goal may hold a long memory; after the first candidate it is known that energies do not read it."""
    actions = torch.rand(2, 7, 3, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = []
    imagine = ORACLE.imagine
    monkeypatch.setattr(ORACLE, "imagine", lambda state, some: seen.append(some.shape[1]) or imagine(state, some))
    monkeypatch.setattr("innerworld.agent.cost.cost.LARGEST", 6 * 2 * 3 * 6)  # 6 candidates in 2 worlds
    cost = goal_cost(ORACLE, START, GOAL | {"keys": torch.zeros(2, 1000)})
    found = cost(actions)
    assert seen == [1, 6] and torch.equal(found, goal_cost(ORACLE, START, GOAL)(actions))
    assert cost(actions).shape == (2, 7) and seen[-2:] == [6, 1]


def as_it_was(model, state, goal, shape, power, every):
    """`goal_cost` as it was written out before there were terms: the numbers that must not change."""

    def cost(actions: torch.Tensor) -> torch.Tensor:
        b, n = actions.shape[:2]
        futures = each(lambda value: value[:, :, every - 1 :: every], model.imagine(state, actions))
        h = len(range(every - 1, actions.shape[2], every))
        goals = {name: goal[name][:, None, None].expand(b, n, h, *goal[name].shape[1:]) for name in futures}
        energy = model.energy(flatten(futures, 3), flatten(goals, 3)).reshape(b, n, h)
        smallest = torch.finfo(energy.dtype).tiny
        return energy.clamp_min(smallest).pow(power) @ weights(shape, h, energy)

    return cost


@pytest.mark.parametrize(("shape", "power", "every"), [("mean", 0.05, 1), ("last", 1.0, 1), ("ramp", 0.5, 2)])
def test_a_cost_of_one_goal_over_one_future_is_the_goal_cost_to_the_bit(shape, power: float, every: int) -> None:
    torch.manual_seed(0)
    spec = Spec({"speed": (3,)}, 2)
    model = JEPA(JEPA.Config(latent=6, hidden=16), spec).eval()
    clip = random_clip(spec, 3, 1)
    state, goal = model.encode(clip.at(0)), model.encode(clip.at(1))
    actions = torch.rand(3, 40, 7, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = as_it_was(model, state, goal, shape, power, every)(actions)
        cost = Cost((GoalEnergy(power, every, shape=shape),))
        assert torch.equal(judged(OneFuture(model), cost, state, goal)(actions), expected)
        assert torch.equal(goal_cost(model, state, goal, shape, power, every)(actions), expected)
        assert torch.equal(judged(OneFuture(model), cost, state, goal, {"goal": 2.0})(actions), 2 * expected)
        holds = Cost(cost.terms, (Guardrail(Effort(), 1.0),))
        assert torch.equal(judged(OneFuture(model), holds, state, goal)(actions), expected)


def futures_of(*costs: float, n: int = 1) -> list[Imagined]:
    """Futures whose efforts are `costs`, of one world and n candidates of two steps."""
    return [Imagined(ORACLE, {}, {}, torch.full((1, n, 2, 2), cost**0.5)) for cost in costs]


@pytest.mark.parametrize(
    ("over", "expected"), [("mean", 0.3), ("worst", 0.9), (0.5, 0.1), (0.75, 0.2), (0.8, 0.9), (0.01, 0.0)]
)
def test_what_counts_of_the_futures(over, expected: float) -> None:
    cost, futures = Cost((Effort(),), over=over), futures_of(0.9, 0.0, 0.2, 0.1)
    assert cost.cost(futures, {}).item() == pytest.approx(expected, abs=1e-6)


def test_a_future_that_is_not_finite_is_the_worst() -> None:
    found = Cost((Effort(),), over="worst").cost(futures_of(0.9, torch.nan, 0.2), {})
    assert not found.isfinite()


@pytest.mark.parametrize("over", ["mean", "worst", 0.6])
def test_parts_add_up_to_the_cost_and_have_units(over) -> None:
    cost = Cost((GoalEnergy(0.5), Effort(weight=0.3), Jerk(weight=2)), over=over)
    actions = torch.rand(2, 5, 3, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    futures = [*OneFuture(ORACLE)(START, actions, GOAL), *OneFuture(ORACLE)(START, 0.5 * actions, GOAL)]
    weighted = {"effort": 7.0, "jerk": 0.0}
    parts = cost.parts(futures, weighted)
    assert list(parts) == ["goal [energy^power]", "effort [action²]"]  # what has no weight is no part
    total = parts["goal [energy^power]"] + parts["effort [action²]"]
    torch.testing.assert_close(total, cost.cost(futures, weighted))


def test_a_term_without_weight_or_goal_is_not_asked() -> None:
    """So that a task without a goal can be given to a cost which has a term for one."""
    cost, actions = Cost((GoalEnergy(), Effort())), torch.ones(2, 3, 2, 2)
    futures = OneFuture(ORACLE)(START, actions, None)
    for given in ({}, {"goal": 0}, {"goal": 2.0}):
        assert cost.cost(futures, given).tolist() == [[1.0] * 3] * 2
    assert list(cost.parts(futures, {})) == ["effort [action²]"]
    nothing = {"goal": 0, "effort": 0}
    assert cost.cost(futures, nothing).tolist() == [[0.0] * 3] * 2 and not cost.parts(futures, nothing)
    with pytest.raises(UserError, match="no goal, and the cost no other term than 'goal'"):
        Cost((GoalEnergy(),)).cost(futures, {})


class Rightness:
    """A critic to whom 10 for each pixel to the right is still to come, less by the goal's."""

    def value(self, features: torch.Tensor, goal: torch.Tensor | None = None) -> torch.Tensor:
        assert features.shape[2:] == (6,)
        return 10 * (features[..., 0] - (0 if goal is None else goal[:, :1]))


def test_now_is_one_step_without_critic_and_without_a_goal_if_there_is_none() -> None:
    cost = Cost((GoalEnergy(1.0), Effort(weight=0.5)), critic=Rightness())
    action = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert cost.now(ORACLE, START, GOAL, action).tolist() == [64.5, 64.0]
    assert cost.now(ORACLE, START, None, action).tolist() == [0.5, 0.0]
    assert Cost((GoalEnergy(),)).now(ORACLE, START, None, action).tolist() == [0, 0]


def test_the_critic_is_asked_where_the_plan_ends() -> None:
    """x of the last step, two steps of 4 pixels to the right, for each step of the plan."""
    cost = Cost((Effort(weight=0.0),), critic=Rightness())
    actions = RIGHT.expand(2, 3, 2, 2)
    found = cost.cost(OneFuture(ORACLE)(START, actions, None), {})
    torch.testing.assert_close(found, (10 * (START["state"][:, :1] + 8) / 2).expand(-1, 3))
    futures = OneFuture(ORACLE)(START, actions, GOAL)
    torch.testing.assert_close(cost.cost(futures, {}), torch.tensor([[0.0], [40.0]]).expand(-1, 3))
    torch.testing.assert_close(cost.cost(futures, {"critic": 0.5})[1], torch.full((3,), 20.0))
    assert list(cost.parts(futures, {})) == ["critic [cost to come]"] and cost.names == ["effort", "critic"]
    assert cost.cost(futures, {"critic": 0}).tolist() == [[0.0] * 3] * 2


def test_nothing_of_it_can_be_changed() -> None:
    terms = [Effort()]
    cost = Cost(terms)  # pyright: ignore
    terms.append(Effort(name="more"))
    assert cost.terms == (Effort(),)
    for thing, name in ((cost, "terms"), (cost, "guardrails"), (cost.terms[0], "weight"), (cost.terms[0], "name")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, ())


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UserError, match=r"no term 'efort'\. Did you mean 'effort'"):
        Cost((Effort(),)).cost(futures_of(0.1), {"efort": 1.0})
    with pytest.raises(UserError, match="must be finite"):
        Cost((Effort(),)).cost(futures_of(0.1), {"effort": torch.nan})
    with pytest.raises(UserError, match="two terms are called 'effort'"):
        Cost((Effort(), Effort()))
    for over in ("best", 0.0, 1.0):
        with pytest.raises(UserError, match="quantile"):
            Cost((Effort(),), over=over)
    with pytest.raises(UserError, match="no term"):
        Cost((Effort,))  # pyright: ignore


def test_several_futures_are_looked_at_in_smaller_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much less of each as there are more of them; the oracle draws the same whatever happens."""
    actions = torch.rand(2, 7, 3, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cost, seen = Cost((GoalEnergy(1.0),)), []
    whole = judged(OneFuture(ORACLE), cost, START, GOAL)(actions)
    roll = ORACLE.roll
    monkeypatch.setattr(ORACLE, "roll", lambda starts, h: seen.append(starts["state"].shape[1]) or roll(starts, h))
    monkeypatch.setattr("innerworld.agent.cost.cost.LARGEST", 2 * (3 * 2 * 3 * 6))  # 3 candidates of 2 futures
    found = judged(Sampled(ORACLE, 2), cost, START, GOAL)(actions)
    torch.testing.assert_close(found, whole)
    assert seen == [3, 3, 3, 3, 1, 1]
