"""Who reacts and who searches, row by row, and what becomes of that in an agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent import Agent, AgentConfig, Searcher
from innerworld.agent.actor.habit import Reflex, TwoModes, TwoModesConfig, among, longer
from innerworld.agent.modules import Decision, Setting, Situation
from innerworld.errors import UserError
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.plan import ICEM, free
from innerworld.policy.actor import ActorConfig
from innerworld.policy.habit import Habit, HabitConfig
from innerworld.types import Obs, Spec, State, each

SPEC = Spec({"place": (2,)}, 2)
CHOICES = Spec({"place": (2,)}, 4, discrete=True)
SIDES = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
STEP = 0.2
SMALL = HabitConfig(actor=ActorConfig(units=64, layers=2, outscale=1.0), heads=2)
NOW = [0.0]  # of a clock that only searches move, seconds
PLANNER = ICEM(horizon=4, samples=16, rounds=2, elites=4)


def world(spec: Spec = SPEC) -> Oracle:
    """A point that goes where it is told, and stays within walls."""

    def go(obs: Obs, action: Tensor) -> Obs:
        way = action @ SIDES if spec.discrete else action
        return {"place": (obs["place"] + STEP * way).clamp(-1, 1)}

    return Oracle(OracleConfig(), spec, go)


def places(b: int, seed: int) -> State:
    return {"place": torch.rand(b, 2, generator=Generator().manual_seed(seed)) * 2 - 1}


def best(spec: Spec, here: Tensor, there: Tensor) -> Tensor:
    way = there - here
    if not spec.discrete:
        return (way / STEP).clamp(-1, 1)
    return torch.nn.functional.one_hot((way @ SIDES.T).argmax(dim=-1), 4).float()


class Knows:
    """A searcher that knows the way and notes for which rows it was asked; it may be slow, or too late."""

    horizon = 4

    def __init__(self, spec: Spec = SPEC, takes_s: float = 0.0, late: bool = False) -> None:
        self.spec, self.takes_s, self.late = spec, takes_s, late
        self.asked: list[list[int]] = []
        self.starts: list[Tensor | None] = []
        self.anew: list[Tensor | None] = []
        self.b = 0

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None:
        self.b = b

    def decide(self, situation: Situation, rows: Tensor | None = None, start: Tensor | None = None) -> Decision:
        self.asked.append(list(range(self.b)) if rows is None else rows.tolist())
        self.starts.append(start)
        self.anew.append(situation.setting.anew)
        NOW[0] += self.takes_s
        assert situation.setting.goal is not None
        here, there, actions = situation.state, situation.setting.goal["place"], []
        for _ in range(self.horizon):
            actions.append(best(self.spec, here["place"], there))
            here = situation.model.predict(here, actions[-1])
        b = len(there)
        return Decision(torch.stack(actions, dim=1), torch.full((b,), self.late), torch.full((b,), 2.0))

    def done(self, steps: int, decided: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None: ...


class Unsure(Reflex):
    """A reflex whose doubts are given, and whose action is always the same."""

    def __init__(self, doubts: list[float], spec: Spec = SPEC) -> None:
        first = torch.eye(spec.action)[-1]
        super().__init__(lambda state, rng=None: first.expand(len(state["place"]), -1), spec)
        self.doubts = torch.tensor(doubts)

    def advise(self, situation: Situation) -> tuple[Decision, Tensor]:
        return super().advise(situation)[0], self.doubts


def situation(b: int, spec: Spec = SPEC, deadline: float | None = None) -> Situation:
    unknown = torch.full((b,), torch.nan)
    return Situation(world(spec), places(b, 1), Setting(places(b, 2)), _far(b), unknown, deadline, free)


def _far(b: int) -> Callable[[Tensor], Tensor]:
    def cost(actions: Tensor) -> Tensor:
        assert len(actions) == b
        return actions.square().mean(dim=(2, 3)) + torch.arange(float(b))[:, None]

    return cost


def two(doubts: list[float], searcher: Knows, spec: Spec = SPEC, warm: bool = False, **_: object) -> TwoModes:
    modes = TwoModes(Unsure(doubts, spec), searcher, TwoModesConfig(uncertainty=0.5, warm=warm, surprise=1.0))
    modes.begin(len(doubts), 0, 0, torch.device("cpu"))
    return modes


# ---------------------------------------------------------------------- who searches


@pytest.mark.parametrize("spec", [SPEC, CHOICES])
def test_the_unsure_search_and_the_others_react(spec: Spec) -> None:
    searcher, seen = Knows(spec), situation(4, spec)
    modes = two([0.1, 0.9, 0.2, 0.5], searcher, spec)
    decision = modes.decide(seen)
    assert searcher.asked == [[1, 3]] and modes.searched.tolist() == [False, True, False, True]
    assert decision.mode.tolist() == [1, 2, 1, 2] and not bool(decision.degraded.any())
    assert seen.setting.goal is not None
    right = best(spec, seen.state["place"], seen.setting.goal["place"])
    assert torch.equal(decision.actions[[1, 3], 0], right[[1, 3]])
    assert torch.equal(decision.actions[[0, 2], 0], torch.eye(spec.action)[-1].expand(2, -1))
    if spec.discrete:
        assert bool((decision.actions.sum(dim=-1) == 1).all())


def test_nobody_searches_where_all_are_sure() -> None:
    searcher = Knows()
    decision = two([0.0, 0.1], searcher).decide(situation(2))
    assert searcher.asked == [] and decision.actions.shape == (2, 1, 2) and decision.plan is None


def test_the_surprised_and_the_stuck_search() -> None:
    searcher, seen = Knows(), situation(3)
    seen = replace(seen, surprise=torch.tensor([torch.nan, 5.0, 0.2]))
    two([0.0, 0.0, 0.0], searcher).decide(seen)
    stuck = replace(seen.setting, anew=torch.tensor([False, False, True]))
    two([0.0, 0.0, 0.0], searcher).decide(replace(seen, setting=stuck))
    assert searcher.asked == [[1], [1, 2]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    NOW[0] = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: NOW[0])


@pytest.mark.usefixtures("clock")
def test_a_deadline_too_short_for_a_search_is_met_by_reacting() -> None:
    searcher = Knows(takes_s=0.05)
    modes = two([0.9, 0.9], searcher)
    assert modes.decide(situation(2)).mode.tolist() == [2, 2]
    hasty = modes.decide(situation(2, deadline=NOW[0] + 0.02))
    assert hasty.mode.tolist() == [1, 1] and not bool(hasty.degraded.any()) and len(searcher.asked) == 1
    assert modes.decide(situation(2, deadline=NOW[0] + 10)).mode.tolist() == [2, 2]


@pytest.mark.usefixtures("clock")
def test_one_slow_search_is_not_the_last_one() -> None:
    searcher = Knows(takes_s=0.05)
    modes = two([0.9], searcher)
    modes.decide(situation(1))
    searcher.takes_s = 0.0
    for _ in range(12):
        modes.decide(situation(1, deadline=NOW[0] + 0.03))
    assert len(searcher.asked) > 1


def test_a_search_that_came_too_late_is_replaced_by_a_reaction() -> None:
    modes = two([0.9, 0.0], Knows(late=True))
    decision = modes.decide(situation(2))
    assert decision.mode.tolist() == [1, 1] and not bool(decision.degraded.any())
    assert not bool(modes.searched.any())


def test_a_row_that_reacted_does_not_search_from_its_old_plan() -> None:
    searcher = Knows()
    modes = two([0.9, 0.0], searcher)
    modes.done(1, modes.decide(situation(2)).actions)
    modes.reflex.doubts = torch.tensor([0.9, 0.9])  # pyright: ignore[reportAttributeAccessIssue]
    modes.decide(situation(2))
    assert [None if anew is None else anew.tolist() for anew in searcher.anew] == [[False], [False, True]]


@pytest.mark.parametrize("spec", [SPEC, CHOICES])
def test_a_warm_search_begins_with_what_the_habit_dreams(spec: Spec) -> None:
    searcher = Knows(spec)
    two([0.9, 0.0, 0.9], searcher, spec, warm=True).decide(situation(3, spec))
    (start,) = searcher.starts
    assert start is not None and start.shape == (2, 4, spec.action)
    likely = torch.eye(spec.action)[-1]
    expected = 0.8 * likely + 0.05 if spec.discrete else likely
    torch.testing.assert_close(start, expected.expand(2, 4, -1))


def test_worlds_that_are_left_behind_change_nothing_for_the_others() -> None:
    searcher = Knows()
    modes = two([0.9, 0.0, 0.9], searcher)
    modes.done(1, modes.decide(situation(3)).actions)
    modes.keep(torch.tensor([1, 2]))
    modes.reflex.doubts = torch.tensor([0.9, 0.9])  # pyright: ignore[reportAttributeAccessIssue]
    modes.decide(situation(2))
    assert searcher.anew[-1] is not None and searcher.anew[-1].tolist() == [True, False]


def test_a_cost_that_cannot_be_divided_is_asked_of_all_rows() -> None:
    some = among(situation(4), torch.tensor([3, 1]))
    actions = torch.zeros(2, 5, 4, 2)
    assert torch.equal(some.cost(actions), torch.tensor([3.0, 1.0])[:, None].expand(2, 5))
    assert torch.equal(some.state["place"], places(4, 1)["place"][[3, 1]])


def test_a_short_decision_stands_still_afterwards() -> None:
    assert longer(torch.ones(1, 1, 2), 3, SPEC).tolist() == [[[1, 1], [0, 0], [0, 0]]]
    assert longer(torch.eye(4)[[3]][None], 2, CHOICES).argmax(dim=-1).tolist() == [[3, 0]]
    assert longer(torch.ones(1, 3, 2), 2, SPEC).shape == (1, 2, 2)


# ---------------------------------------------------------------------- in an agent


def test_a_policy_without_a_goal_reacts_and_is_never_in_doubt() -> None:
    reflex = Reflex(lambda state, rng=None: -state["place"], SPEC, horizon=2)
    seen = replace(situation(3), setting=Setting(None))
    decision, doubt = reflex.advise(seen)
    torch.testing.assert_close(decision.actions[:, 0], -seen.state["place"])
    then = seen.state["place"] * (1 - STEP)
    torch.testing.assert_close(decision.actions[:, 1], -then)
    assert not bool(doubt.any())


def test_a_habit_that_pursues_goals_needs_one() -> None:
    with pytest.raises(UserError, match="pursues goals"):
        Reflex(Habit(SMALL, 2, SPEC), SPEC).decide(replace(situation(2), setting=Setting(None)))


def test_noise_is_each_rows_own() -> None:
    def acts(b: int, first: int, keep: list[int] | None = None) -> Tensor:
        reflex = Reflex(lambda state, rng=None: 0 * state["place"], SPEC, horizon=2, noise=0.3)
        reflex.begin(b, 3, first, torch.device("cpu"))
        if keep is not None:
            reflex.keep(torch.tensor(keep))
        return reflex.decide(situation(b if keep is None else len(keep))).actions

    everyone = acts(5, 0)
    assert torch.equal(acts(2, 3), everyone[3:]) and torch.equal(acts(5, 0, [1, 4]), everyone[[1, 4]])
    assert everyone[:, 0].std() > 0.1 and not bool(everyone[:, 1].any())
    with pytest.raises(UserError, match="noise is for continuous"):
        Reflex(lambda state, rng=None: state["place"], CHOICES, noise=0.1)


def test_predictions_that_are_not_finite_are_degraded_and_stand_still() -> None:
    reflex = Reflex(lambda state, rng=None: state["place"] / 0, SPEC)
    decision = reflex.decide(situation(2))
    assert bool(decision.degraded.all()) and not bool(decision.actions.any())


@pytest.mark.parametrize("execute", [1, 2])
def test_it_is_an_actor_of_an_agent(execute: int) -> None:
    """Its worlds do not see each other, and may be left behind."""
    torch.manual_seed(0)
    habit = Habit(SMALL, 2, SPEC)
    here, goal = places(4, 1), places(4, 2)
    doubts = habit.advise(here["place"], goal["place"])[1]
    config = TwoModesConfig(uncertainty=float(doubts.median()))

    def mind() -> Agent:
        actor = TwoModes(Reflex(habit, SPEC, execute), Searcher(PLANNER, SPEC), config)
        return Agent(world(), PLANNER, AgentConfig(execute=execute, strict=True), actor=actor)

    together, alone = mind(), mind()
    together.begin(here, goal, seed=5)
    alone.begin(each(lambda value: value[:1], here), each(lambda value: value[:1], goal), seed=5)
    for t in range(4):
        action = together.act(here)
        torch.testing.assert_close(action[:1], alone.act(each(lambda value: value[:1], here)), rtol=0, atol=1e-4)
        here = together.model.predict(here, action)
        if t == 1:
            together.keep(torch.tensor([0, 2]))
            here = each(lambda value: value[[0, 2]], here)
    assert together.decision is not None and together.explain()
    with pytest.raises(UserError, match="beyond the plan"):
        Agent(world(), PLANNER, AgentConfig(execute=execute + 1), actor=Reflex(habit, SPEC, execute))


def test_what_a_late_search_has_tried_is_there_for_a_reaction_that_breaks_a_guardrail() -> None:
    class Tried(Knows):
        def decide(self, situation: Situation, rows: Tensor | None = None, start: Tensor | None = None) -> Decision:
            found = super().decide(situation, rows, start)
            return replace(found, spare=found.actions)

    asked, teacher = situation(3), Tried(late=True)
    found = two([0.0, 9.0, 9.0], teacher).decide(asked)
    assert found.spare is not None and found.mode.tolist() == [1, 1, 1]
    assert torch.equal(found.spare[0], found.actions[0])  # who did not search
    assert asked.setting.goal is not None
    right = best(SPEC, asked.state["place"], asked.setting.goal["place"])
    torch.testing.assert_close(found.spare[1:, 0], right[1:])
