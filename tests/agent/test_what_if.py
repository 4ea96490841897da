"""Two futures that share one past: what differs is told step by step, and is nothing where nothing does."""

from __future__ import annotations

import json

import pytest
import torch

from innerworld.agent import Agent, Cost, Members, Sampled
from innerworld.agent.cost.readout import Decoded
from innerworld.agent.cost.terms import Effort, GoalEnergy
from innerworld.agent.foresight.ensemble import Ensemble
from innerworld.agent.what_if import what_if
from innerworld.errors import UserError
from innerworld.models import JEPA, RSSM
from innerworld.models.jepa import JEPAConfig
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.plan import CEM
from innerworld.types import Spec

SPEC = Spec({"place": (2,)}, 2)
WORLD = Oracle(OracleConfig(), SPEC, lambda obs, action: {"place": obs["place"] + action})
HERE, GOAL = {"place": torch.zeros(1, 2)}, {"place": torch.tensor([[3.0, 0.0]])}
RIGHT, UP = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[0.0, 1.0]] * 4)


def test_what_differs_is_what_the_world_would_do() -> None:
    judge = Cost((GoalEnergy(1.0), Effort(weight=0.1)))
    found = what_if(WORLD, HERE, RIGHT, UP, goal=GOAL, judge=judge, readings=[Decoded("place", ("x", "y"))])
    # Its energy is the squared distance: t to the right of the start against t above it.
    assert found.apart == pytest.approx([2 * t * t for t in (1, 2, 3, 4)])
    assert found.sensors == {"place": pytest.approx([1.0, 2.0, 3.0, 4.0])}
    assert found.a.readings == {"x": [1, 2, 3, 4], "y": [0, 0, 0, 0]}
    assert found.a.goal == pytest.approx([4, 1, 0, 1]) and found.b.goal[0] == pytest.approx(10)
    assert found.a.cost == pytest.approx(sum(found.a.parts.values()))
    assert found.a.cost < found.b.cost  # pyright: ignore
    assert found.a.parts["effort [action²]"] == pytest.approx(0.05)
    assert found.steps == 4 and not found.a.reward and not found.b.goes_on
    assert json.loads(json.dumps(found.as_dict()))["a"]["goal"] == list(found.a.goal)
    words = str(found)
    for part in ("after the first they are 2 (energy) apart, after the last 32.", "A is nearest after step 3, 0 away",
                 "A is cheaper", "x at the end, A / B: 4 / 0.", "place by 4 on average"):  # fmt: skip
        assert part in words


def test_the_same_actions_lead_to_the_same() -> None:
    found = what_if(WORLD, HERE, UP, UP)
    assert found.apart == [0, 0, 0, 0] and found.a == found.b and found.a.cost is None
    assert str(found).startswith("A and B: 4 steps from the same moment, which lead to the very same beliefs.")


def test_reward_and_going_on_are_told_and_luck_is_shared() -> None:
    torch.manual_seed(0)
    small = RSSM.Config(deter=8, hidden=8, stoch=2, classes=4, units=8, layers=1)
    model = RSSM(small, SPEC).eval()
    with torch.no_grad():
        state = model.encode(HERE)
    found = what_if(model, state, RIGHT, UP, foresight=Sampled(model, 3))
    assert len(found.a.reward) == len(found.b.goes_on) == 4
    assert "Reward told" in str(found) and "Chance to go on" in str(found)
    assert what_if(model, state, UP, UP, foresight=Sampled(model, 3)).apart == [0, 0, 0, 0]


def test_a_model_that_draws_nothing_tells_beliefs_only() -> None:
    torch.manual_seed(0)
    model = JEPA(JEPAConfig(latent=4, hidden=8), SPEC).eval()
    with torch.no_grad():
        state = model.encode(HERE)
    found = what_if(model, state, RIGHT, UP)
    assert found.sensors == {} and len(str(found).splitlines()) == 1


def test_members_of_an_ensemble_each_compare_their_own_beliefs() -> None:
    torch.manual_seed(0)
    several = Ensemble([JEPA(JEPAConfig(latent=4, hidden=8), SPEC).eval() for _ in range(2)])
    with torch.no_grad():
        state, goal = several.encode(HERE), several.encode(GOAL)
    found = what_if(several, state, RIGHT, UP, goal=goal, judge=Cost((GoalEnergy(1.0),)), foresight=Members(several))
    alone = [
        what_if(one, own, RIGHT, UP, goal=wanted)
        for one, own, wanted in zip(several.members, several.parts(state), several.parts(goal), strict=True)
    ]
    assert found.apart[-1] == pytest.approx(sum(each.apart[-1] for each in alone) / 2)
    assert found.a.goal[-1] == pytest.approx(sum(each.a.goal[-1] for each in alone) / 2)
    assert found.a.cost == pytest.approx(sum(found.a.goal) / 4)


def test_an_agent_asks_it_of_one_world_as_it_judges() -> None:
    cost = Cost((GoalEnergy(1.0), Effort(weight=0.1)))
    mind = Agent(WORLD, CEM(horizon=4, samples=16, rounds=2, elites=4), cost=cost)
    seen = {"place": torch.tensor([[9.0, 9.0], [0.0, 0.0]])}
    mind.begin(seen, {"place": torch.tensor([[9.0, 9.0], [3.0, 0.0]])})
    mind.act(seen)
    found = mind.what_if(RIGHT, UP, row=1)
    plain = what_if(WORLD, HERE, RIGHT, UP, goal=GOAL, judge=cost)
    assert found.a.cost == pytest.approx(plain.a.cost) and found.b.goal == pytest.approx(plain.b.goal)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (RIGHT, UP[:3], "A has 4 steps and B 3"),
        (RIGHT[:, :1], UP, r"actions A have shape \(4, 1\), expected \(steps, 2\)"),
        (RIGHT, 2 * UP, "actions B leave"),
        (RIGHT, UP * torch.nan, "actions B leave"),
        (RIGHT[:0], UP, "actions A have shape"),
    ],
)
def test_actions_that_do_not_fit(a: torch.Tensor, b: torch.Tensor, told: str) -> None:
    with pytest.raises(UserError, match=told):
        what_if(WORLD, HERE, a, b)
