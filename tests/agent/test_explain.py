"""An explanation tells what was decided as plain values, and in words that say the same."""

from __future__ import annotations

import json

import pytest
import torch

from innerworld.agent import Agent, AgentConfig, Cost, Explanation, Guardrail
from innerworld.agent.actor.habit import Reflex
from innerworld.agent.configurator.tasks import Maximise
from innerworld.agent.cost.readout import Decoded
from innerworld.agent.cost.regions import Disc
from innerworld.agent.cost.terms import Effort, Forbidden, GoalEnergy, Reward
from innerworld.errors import UserError
from innerworld.models import RSSM
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.plan import CEM
from innerworld.types import Spec

SPEC = Spec({"place": (2,)}, 2)
WORLD = Oracle(OracleConfig(), SPEC, lambda obs, action: {"place": obs["place"] + 0.2 * action})
PLANNER = CEM(horizon=6, samples=64, rounds=4, elites=8)
HERE, GOAL = {"place": torch.zeros(2, 2)}, {"place": torch.tensor([[0.6, 0.0], [0.0, -0.6]])}


def told(mind: Agent, steps: int = 1, row: int = 0) -> Explanation:
    seen = HERE
    mind.begin(seen, GOAL)
    for _ in range(steps):
        found = mind.act(seen)
        seen = WORLD.predict(seen, found)
    return mind.explain(row)


def test_values_are_those_of_the_decision() -> None:
    cost = Cost((GoalEnergy(1.0), Effort(weight=0.001)))
    mind = Agent(WORLD, PLANNER, cost=cost)
    found = told(mind, row=1)
    assert mind.decision is not None and mind.plan is not None
    assert list(found.action) == mind.decision.actions[1, 0].tolist() and found.choice is None
    assert (found.row, found.time, found.mode, found.horizon) == (1, 0, 2, 6)
    assert found.expected == pytest.approx(sum(found.parts.values())) and found.expected < found.still
    assert found.still == pytest.approx(found.goal_now)  # standing still stays as far as it is
    assert len(found.goal_energy) == 6 and min(found.goal_energy) < found.goal_now  # pyright: ignore
    assert found.evaluations == mind.plan.evaluations and len(found.history) == 4
    assert json.loads(json.dumps(found.as_dict()))["parts"] == dict(found.parts)


def test_words_say_it() -> None:
    first = str(told(Agent(WORLD, PLANNER, cost=Cost((GoalEnergy(1.0), Effort(weight=0.001))))))
    lines = first.splitlines()
    assert lines[0] == "Step 0 in world 0: it searched (Mode-2)."
    assert [line.partition(":")[0] for line in lines[1:]] == ["Believed", "Wanted", "Imagined", "Expected", "Chosen"]
    assert "no prediction to compare it with" in first and "at first" not in first
    assert "plans of 6 steps" in first and "less than doing nothing would cost" in first
    assert "term by term goal [energy^power]" in first and "effort [action²]" in first
    assert lines[-1].startswith("Chosen: (+") and lines[-1].endswith("the first step of the cheapest plan.")
    later = str(told(Agent(WORLD, PLANNER), steps=3))
    assert "its surprise, the energy between what it had predicted and what it saw, is 0;" not in later
    assert "what it saw, is 0." in later and "of the energy at first" in later


def test_a_reaction_and_its_policy() -> None:
    reflex = Reflex(lambda state: torch.ones(2, 2), SPEC)
    words = str(told(Agent(WORLD, PLANNER, actor=reflex)))
    assert "it reacted, without a search (Mode-1)" in words and "for its policy was sure" in words
    assert "what 1 step of its reaction lead" in words


def test_no_plan_that_may_be_done() -> None:
    everywhere = Forbidden(Disc(Decoded("place", ("x", "y")), (0.0, 0.0), 1e6))
    found = told(Agent(WORLD, PLANNER, cost=Cost((GoalEnergy(),), (Guardrail(everywhere, 0),))))
    assert found.degraded and found.breach > 0
    assert "for want of a plan that may be done" in str(found) and "even this crosses a guardrail by" in str(found)


def test_a_goal_that_it_never_came_nearer_to() -> None:
    away = Agent(WORLD, PLANNER, actor=Reflex(lambda state: -torch.ones(2, 2), SPEC))
    mind_row = told(away, steps=3)  # the goal of world 0 is to the right
    assert mind_row.closest == 1 and "it has never been nearer" in str(mind_row)


def test_choices_and_reward_without_a_goal() -> None:
    torch.manual_seed(0)
    small = RSSM.Config(deter=8, hidden=8, stoch=2, classes=4, units=8, layers=1)
    spec = Spec({"place": (2,)}, 3, discrete=True)
    mind = Agent(RSSM(small, spec), CEM(horizon=3, samples=8, rounds=2, elites=2), cost=Cost((Reward(),)))
    mind.begin({"place": torch.zeros(1, 2)}, Maximise())
    action = mind.act({"place": torch.zeros(1, 2)})
    found = mind.explain()
    assert found.choice == int(action.argmax()) and found.goal_now is None and found.goal_energy == []
    assert "no goal to come to" in str(found) and f"choice {found.choice}" in str(found)


def test_what_was_noticed_is_told() -> None:
    mind = Agent(WORLD, PLANNER, AgentConfig(execute=1))
    mind.begin(HERE, GOAL)
    mind.act(HERE)
    mind.trouble.append("step 0: ValueError: a sensor caught fire")
    assert str(mind.explain()).endswith("Noticed: step 0: ValueError: a sensor caught fire.")


def test_before_the_first_action_there_is_nothing() -> None:
    mind = Agent(WORLD, PLANNER)
    mind.begin(HERE, GOAL)
    with pytest.raises(UserError, match="call act first"):
        mind.explain()
