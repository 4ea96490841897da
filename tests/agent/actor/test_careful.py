"""An agent always has an answer: predictions that are not finite, a search that is too slow, a belief that is lost."""

from __future__ import annotations

import logging
import time

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent import Agent, AgentConfig
from innerworld.agent.actor.careful import Careful
from innerworld.agent.cost.cost import Cost
from innerworld.agent.cost.guardrail import Guardrail
from innerworld.agent.cost.terms import Effort, GoalEnergy
from innerworld.agent.modules import Decision, Situation
from innerworld.errors import UserError
from innerworld.plan import CEM, ICEM, MPPI, Gradient, Planner, RandomShooting
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel

SPEC, CHOICES = Spec({"state": (2,)}, 2), Spec({"state": (2,)}, 2, discrete=True)
PLANNERS = [
    RandomShooting(horizon=4),
    CEM(horizon=4, samples=32, rounds=3, elites=8),
    CEM(horizon=4, samples=32, rounds=3, elites=8, answer="mean"),
    ICEM(horizon=4, samples=32, rounds=3, elites=8),
    MPPI(horizon=4, samples=32, rounds=3, elites=8),
    Gradient(horizon=4, samples=4, rounds=5),
]


class Plane(WorldModel):
    """A point that goes where the action says; worlds in `lost` foresee NaN, and thinking takes `slow_s`."""

    def __init__(self, spec: Spec = SPEC, slow_s: float = 0.0) -> None:
        torch.nn.Module.__init__(self)
        self.spec = spec
        self.lost: list[int] = []
        self.slow_s = slow_s
        self.looks, self.clock = 0, 0.0

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        before = obs["state"] if state is None else state["memory"]
        return {"at": obs["state"], "memory": (before + obs["state"]) / 2}

    def imagine(self, state: State, actions: Tensor) -> State:
        self.looks += 1
        self.clock += self.slow_s
        at = state["memory"][:, None, None] + actions.cumsum(dim=2)  # b n h 2
        mask = torch.zeros(len(at), dtype=torch.bool)
        mask[self.lost] = True
        return {"at": torch.where(mask[:, None, None, None], torch.nan, at)}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {name: value + action for name, value in state.items()}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["at"] - goal["at"]).square().mean(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def sight(b: int, value: float = 0.0) -> Obs:
    return {"state": torch.full((b, 2), value)}


def begun(model: Plane, planner: Planner = PLANNERS[1], b: int = 3, **settings: object) -> Agent:
    mind = Agent(model, planner, AgentConfig.model_validate(settings))
    mind.begin(sight(b), sight(b, 2.0))
    return mind


@pytest.mark.parametrize("planner", PLANNERS, ids=lambda planner: type(planner).__name__)
def test_a_world_without_a_finite_cost_stands_still_and_is_flagged(planner: Planner) -> None:
    healthy, model = begun(Plane(), planner), Plane()
    model.lost = [1]
    mind = begun(model, planner)
    for value in (0.0, 0.3):
        expected, action = healthy.act(sight(3, value)), mind.act(sight(3, value))
        assert mind.degraded.tolist() == [False, True, False] and not healthy.degraded.any()
        assert action[1].tolist() == [0, 0]
        torch.testing.assert_close(action[[0, 2]], expected[[0, 2]])  # the others do not notice


@pytest.mark.parametrize("planner", [PLANNERS[1], PLANNERS[5]], ids=["CEM", "Gradient"])
def test_choices_stand_still_with_the_first(planner: Planner) -> None:
    model = Plane(CHOICES)
    model.lost = [0, 1]
    mind = begun(model, planner, b=2)
    assert mind.act(sight(2)).tolist() == [[1, 0], [1, 0]]
    assert mind.act(sight(2)).tolist() == [[1, 0], [1, 0]] and mind.degraded.all()


def test_the_last_good_plan_is_gone_on_with_to_its_end() -> None:
    model = Plane()
    mind = begun(model, b=2)
    mind.act(sight(2))
    assert mind.plan is not None
    good = mind.plan.actions.clone()  # 2 4 2
    model.lost = [0]
    done = torch.stack([mind.act(sight(2))[0] for _ in range(5)])
    torch.testing.assert_close(done[:3], good[0, 1:])
    assert done[3:].tolist() == [[0, 0], [0, 0]]
    model.lost = []
    assert mind.act(sight(2))[0].abs().sum() > 0 and not mind.degraded.any()


def test_it_goes_on_within_a_plan_of_several_steps() -> None:
    model = Plane()
    mind = begun(model, b=1, execute=2)
    mind.act(sight(1)), mind.act(sight(1))
    assert mind.plan is not None
    good = mind.plan.actions.clone()
    model.lost = [0]
    done = torch.stack([mind.act(sight(1))[0] for _ in range(3)])
    torch.testing.assert_close(done[:2], good[0, 2:])
    assert done[2].tolist() == [0, 0] and mind.degraded.all()


def test_a_search_that_is_too_slow_is_left_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Plane(slow_s=0.05)
    monkeypatch.setattr(time, "perf_counter", lambda: model.clock)
    mind = begun(model, CEM(horizon=4, samples=32, rounds=50, elites=8), b=2, deadline_s=0.18)
    first = mind.act(sight(2))
    assert first.abs().sum() == 0 and mind.degraded.all()
    assert model.looks == 3  # a fourth would have ended too late
    for _ in range(3):
        began = model.clock
        mind.act(sight(2))
        assert model.clock - began < 0.18
        assert mind.degraded.all()
    model.slow_s = 0.0
    mind._longest_s = 0.0
    assert mind.act(sight(2)).abs().sum() > 0 and not mind.degraded.any()


def test_a_deadline_that_is_met_changes_nothing() -> None:
    patient, quick = begun(Plane()), begun(Plane(), deadline_s=60.0)
    for value in (0.0, 0.5):
        assert torch.equal(patient.act(sight(3, value)), quick.act(sight(3, value)))


def test_a_belief_that_is_lost_begins_anew() -> None:
    model = Plane()
    mind = begun(model, b=2)
    mind.act(sight(2))
    mind.state["memory"][0] = torch.nan  # as after a step that the model could not follow
    mind.act(sight(2, 1.0))
    assert not mind.degraded.any()
    assert mind.state["memory"].tolist() == [[1.0, 1.0], [0.5, 0.5]]  # the other still remembers


def test_a_sensor_that_drops_out_is_no_end() -> None:
    mind = begun(Plane(), b=2, strict=True)
    done = mind.act(sight(2))
    broken = sight(2)
    broken["state"][0] = torch.nan
    for seen, blind in ((broken, [True, False]), ({}, [True, True]), (sight(2), [False, False])):
        expected = mind.state["memory"] + done
        done = mind.act(seen)
        assert done.isfinite().all() and not mind.degraded.any() and mind.perception.blind.tolist() == blind
        if blind[0]:
            torch.testing.assert_close(mind.state["memory"][0], expected[0])  # predicted


class Broken:
    """Raises where an agent would search."""

    horizon = 4

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None: ...

    def decide(self, situation: Situation) -> Decision:
        raise RuntimeError("no idea")

    def done(self, steps: int, decided: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None: ...


def test_nothing_is_raised_out_of_act_unless_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    minds = [
        Agent(Plane(), PLANNERS[1], AgentConfig(safe=(0.5, -0.5), strict=strict), actor=Broken())
        for strict in (False, True)
    ]
    for mind in minds:
        mind.begin(sight(2), sight(2, 2.0))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert minds[0].act(sight(2)).tolist() == [[0.5, -0.5]] * 2
    assert minds[0].degraded.all() and len(caplog.records) == 1
    assert minds[0].trouble == ["step 0: RuntimeError: no idea", "step 1: RuntimeError: no idea"]
    with pytest.raises(RuntimeError, match="no idea"):
        minds[1].act(sight(2))


@pytest.mark.parametrize("safe", [(0.0,), (2.0, 0.0)])
def test_a_safe_action_is_an_action(safe: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="is no action: give 2 numbers"):
        Agent(Plane(), PLANNERS[1], AgentConfig(safe=safe))


def test_one_warning_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    model = Plane()
    model.lost = [1]
    mind = begun(model)
    with caplog.at_level(logging.WARNING):
        mind.act(sight(3)), mind.act(sight(3))
    assert len(caplog.records) == 1 and "no plan for 1 of 3 worlds" in caplog.text


def test_keeping_some_worlds_keeps_their_flags() -> None:
    model = Plane()
    model.lost = [1]
    mind = begun(model)
    mind.act(sight(3))
    mind.keep(torch.tensor([1, 2]))
    assert mind.degraded.tolist() == [True, False]
    model.lost = []
    assert mind.act(sight(2)).shape == (2, 2)


def test_a_deadline_is_positive() -> None:
    with pytest.raises((UserError, ValueError)):
        AgentConfig(deadline_s=0)


def test_the_best_candidate_of_all_rounds_is_kept() -> None:
    costs = iter([torch.tensor([[3.0, 1.0], [torch.nan, 7.0]]), torch.tensor([[2.0, 2.0], [5.0, torch.inf]])])
    careful = Careful(lambda actions: next(costs), None)
    assert careful.best() is None
    rounds = [torch.full((2, 2, 1, 1), float(r)) + torch.arange(2)[None, :, None, None] / 10 for r in (0, 1)]
    for actions in rounds:
        careful(actions)
    best = careful.best()
    assert best is not None
    torch.testing.assert_close(best.flatten(), torch.tensor([0.1, 1.0]))


def test_there_is_no_best_candidate_in_a_world_of_which_none_has_a_finite_cost() -> None:
    careful = Careful(lambda actions: torch.tensor([[3.0, 1.0], [torch.nan, torch.inf]]), None)
    careful(torch.tensor([[0.1, 0.2], [0.3, 0.4]])[:, :, None, None])
    best = careful.best()
    assert best is not None and best[0].item() == pytest.approx(0.2) and best[1].isnan().all()
    mind = Agent(
        Plane(), PLANNERS[1], AgentConfig(safe=(0.25, 0.25)), cost=Cost((GoalEnergy(),), (Guardrail(Effort(), 0.5),))
    )
    mind.model.lost = [1]  # pyright: ignore
    mind.begin(sight(2), sight(2, 2.0))
    assert mind.act(sight(2))[1].tolist() == [0.25, 0.25] and mind.degraded.tolist() == [False, True]


class Clueless(Broken):
    """Does not know that its numbers are none in world 1."""

    def decide(self, situation: Situation) -> Decision:
        actions = torch.full((2, 4, 2), 0.25)
        actions[1, 2] = torch.nan
        return Decision(actions, torch.zeros(2, dtype=torch.bool), torch.ones(2))


def test_an_actors_decision_that_is_not_finite_is_none() -> None:
    mind = Agent(Plane(), PLANNERS[1], AgentConfig(safe=(0.5, -0.5), strict=True), actor=Clueless())
    mind.begin(sight(2), sight(2, 2.0))
    assert mind.act(sight(2)).tolist() == [[0.25, 0.25], [0.5, -0.5]] and mind.degraded.tolist() == [False, True]


def test_it_begins_before_it_acts() -> None:
    mind = Agent(Plane(), PLANNERS[1])
    for what in (lambda: mind.act(sight(2)), mind.explain):
        with pytest.raises(UserError, match=r"call begin|call act first"):
            what()
    mind.begin(sight(2), sight(2, 2.0))
    with pytest.raises(UserError, match="the goal"):
        mind.begin(sight(3), sight(2, 2.0))
    with pytest.raises(UserError, match="must begin before it can act"):  # with whom, nobody knows
        mind.act(sight(2))


def test_a_safe_choice_is_one() -> None:
    assert Agent(Plane(CHOICES), PLANNERS[1], AgentConfig(safe=(0, 1))).act is not None
    for safe in ((1.0, 1.0), (0.5, 0.5)):
        with pytest.raises(UserError, match="is no choice: give 2 numbers, one of them 1"):
            Agent(Plane(CHOICES), PLANNERS[1], AgentConfig(safe=safe))
    with pytest.raises(UserError, match="is no action"):
        Agent(Plane(), PLANNERS[1], AgentConfig(safe=(float("nan"), 0.0)))


def test_what_was_foreseen_is_not_of_a_plan_that_was_not_done() -> None:
    """After a step at which all went wrong nothing was foreseen of the next one."""
    model = Plane()
    cost = Cost((GoalEnergy(),), (Guardrail(Effort(), 9.0),))  # so that it looks at where the decision leads
    mind = Agent(model, PLANNERS[1], AgentConfig(execute=2), cost=cost)
    mind.begin(sight(1), sight(1, 2.0))
    mind.act(sight(1)), mind.act(sight(1))
    model.energy = _fails  # pyright: ignore[reportAttributeAccessIssue]
    mind.act(sight(1))
    del model.energy
    mind.act(sight(1))
    assert [bool(moment.foreseen.isnan()) for moment in mind.memory.recall(9)] == [True, False, True]


def _fails(state: State, goal: State) -> Tensor:
    raise RuntimeError("no idea")
