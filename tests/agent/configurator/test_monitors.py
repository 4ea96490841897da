"""Monitors: worlds that are stuck are noticed and answered in rising order, those that will be there soon plan less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent.agent import Agent, AgentConfig
from innerworld.agent.configurator.director import Director, DirectorConfig
from innerworld.agent.configurator.monitors import (
    Answer,
    Milestone,
    MilestoneConfig,
    Monitor,
    Stuck,
    StuckConfig,
    View,
    ahead,
)
from innerworld.agent.configurator.route import Route
from innerworld.agent.configurator.tasks import Reach
from innerworld.agent.cost.cost import Shape
from innerworld.agent.memory.short_term import ShortTermMemory
from innerworld.agent.modules import Decision, Imagined, Setting
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import CEM, Constraint, Cost, Plan, Planner, free
from innerworld.plan.trials import Trials
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, Roll, WorldModel

World = Callable[[Tensor, Tensor], Tensor]


class Track(WorldModel):
    """A point on a line that moves by its action; with a ridge of energy before the goal."""

    class Config(Config):
        ridge: float = 0.0

    card = Card("track", "nothing", False, "none", "none")

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"x": obs["state"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"x": state["x"] + action}

    def energy(self, state: State, goal: State) -> Tensor:
        x = state["x"][:, 0]
        return (x - goal["x"][:, 0]).square() + self.config.ridge * (-((x - 2) / 0.3).square()).exp()

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def track(ridge: float = 0.0) -> Track:
    return Track(Track.Config(ridge=ridge), Spec({"state": (1,)}, 1))


def at(*places: float) -> Obs:
    return {"state": torch.tensor(places)[:, None]}


WIDE = CEM(horizon=4, samples=64, rounds=4, elites=8)


class Steady(Planner):
    """Tries plans that hold one action, up to a tenth for each round."""

    horizon: int = 4
    rounds: int = 2

    def __call__(
        self, cost: Cost, start: Tensor, rng: Sequence[Generator], discrete: bool = False, constrain: Constraint = free
    ) -> Plan:
        tried = torch.linspace(-0.1 * self.rounds, 0.1 * self.rounds, 21)[None, :, None, None]
        trials = Trials(cost)
        trials(tried.expand(len(start), -1, self.horizon, 1))
        return trials.plan()


@dataclass
class Played:
    x: list[Tensor]  # each b   where the worlds were at each plan
    settings: list[Setting]

    def why(self, row: int = 0) -> list[str]:
        return [setting.why[row] if setting.why else "" for setting in self.settings]


def moves(x: Tensor, action: Tensor) -> Tensor:
    return x + action


def play(
    monitor: Monitor | None,
    goal: Obs,
    plans: int,
    model: Track,
    planner: Planner = WIDE,
    world: World = moves,
    shape: Shape = "mean",
) -> Played:
    """Begin at 0 and pursue the goal for so many plans."""
    director = Director(monitors=[] if monitor is None else [monitor])
    mind = Agent(model, planner, AgentConfig(shape=shape, power=0.5, strict=True), configurator=director)
    x = torch.zeros_like(goal["state"])
    mind.begin({"state": x}, goal)
    played = Played([], [])
    for _ in range(plans):
        played.x.append(x[:, 0])
        x = world(x, mind.act({"state": x}))
        played.settings.append(mind.setting)
    return played


def test_a_wider_search_leaves_a_local_minimum_of_the_energy() -> None:
    goal, ridge = at(4.0, 1.0), track(ridge=30.0)
    without = play(None, goal, 30, ridge, Steady(), shape="last")
    stuck = play(Stuck(StuckConfig(over=3, effort=4.0, answers=("anew",))), goal, 30, ridge, Steady(), shape="last")
    assert without.x[-1][0] < 1.5 and stuck.x[-1][0] == pytest.approx(4, abs=0.2)
    said = [why for why in stuck.why() if why]
    assert said == ["stuck: no nearer for 3 plans (nothing nearer was imagined): search from scratch, 4 times as long"]
    assert not any(stuck.why(1)) and stuck.x[-1][1] == pytest.approx(1, abs=0.2)  # it has arrived: left alone


def test_a_wall_that_the_model_overlooks_is_noticed_and_answers_rise() -> None:
    asked: list[tuple[int, str]] = []
    monitor = Stuck(
        StuckConfig(over=3, hold=2, answers=("anew", "longer", "detour", "help")),
        help=lambda row, why: asked.append((row, why)),
    )
    played = play(monitor, at(3.0, 0.2), 30, track(), world=lambda x, a: (x + a).clamp(max=1.0))
    said = [why for why in played.why() if why]
    assert "nearer was imagined, but it does not move" in said[0]
    assert [why.rpartition(", ")[2] for why in said[:4]] == [
        "2 times as long",
        "look 2 times as far ahead",
        "go back to where it was before",
        "ask for help",
    ]
    assert asked[0] == (0, said[3]) and {row for row, _ in asked} == {0}
    onsets = [i for i, why in enumerate(played.why()) if why]
    assert min(b - a for a, b in pairwise(onsets)) >= 3 + 2  # held, then judged anew
    setting = played.settings[onsets[1]]
    assert setting.effort == 2 and setting.horizon == 2 * WIDE.horizon
    assert setting.anew is not None and setting.anew.tolist() == [True, False]
    assert played.settings[onsets[0] + 1].anew is not None and not played.settings[onsets[0] + 1].anew.any()
    assert not any(played.why(1))  # the world that has arrived


def test_by_default_it_looks_farther_where_searching_anew_is_of_no_use() -> None:
    goal, ridge, slow = at(4.0), track(ridge=30.0), Steady(rounds=1)  # a search anew gets as far as the ridge
    ends = {}
    others: tuple[Answer, ...] = ("anew", "detour", "help")
    for answers in (StuckConfig().answers, others):
        played = play(Stuck(StuckConfig(over=3, answers=answers)), goal, 40, ridge, slow, shape="last")
        ends[answers] = float(played.x[-1])
        said = [why for why in played.why() if why]
        assert said[0].endswith("look 2 times as far ahead") == ("longer" in answers)
    far, short = ends.values()
    assert far > 3 and short < 2


def test_it_looks_no_farther_than_the_model_can() -> None:
    class Near(Track):
        def roll(self, starts: State, horizon: int) -> Roll:
            if horizon > WIDE.horizon:
                raise UserError("no position is left")
            return super().roll(starts, horizon)

    near = Near(Track.Config(), Spec({"state": (1,)}, 1))
    played = play(Stuck(StuckConfig(over=3, hold=2)), at(3.0), 16, near, world=lambda x, a: (x + a).clamp(max=1.0))
    said = [why for why in played.why() if why]
    assert said[0].endswith("look 2 times as far ahead, which the model cannot")
    assert all(setting.horizon is None for setting in played.settings)


def test_a_detour_goes_back_to_what_is_remembered_and_then_on() -> None:
    monitor = Stuck(StuckConfig(over=2, hold=4, answers=("detour",)))
    played = play(monitor, at(3.0), 12, track(), world=lambda x, a: (x + a).clamp(max=1.0))
    goals = [round(setting.goal["x"].item(), 1) for setting in played.settings if setting.goal is not None]
    onset = goals.index(0.0)  # where it began, the farthest place it knows
    assert goals[:onset] == [3.0] * onset and played.x[onset].item() == 1
    assert 3.0 in goals[onset + 1 : onset + 4]  # sooner than the answer's end: it had arrived there


def test_who_comes_nearer_is_left_alone_and_begins_at_the_first_answer_again() -> None:
    monitor = Stuck(StuckConfig(over=2, hold=1))
    slow = play(monitor, at(9.0), 12, track(), world=lambda x, a: x + 0.3 * a)
    assert not any(slow.why()) and all(setting.effort == 1 for setting in slow.settings)
    closed = [4]  # a door that stands open for a while after some plans

    def door(x: Tensor, a: Tensor) -> Tensor:
        closed[0] += 1
        return torch.minimum(x + 0.3 * a, torch.full_like(x, 1.0 if closed[0] < 14 else 2.0))

    said = [why for why in play(monitor, at(9.0), 30, track(), world=door).why() if why]
    assert [why.endswith("): look 2 times as far ahead") for why in said[:3]].count(True) >= 2, said


def test_rows_are_judged_apart_and_may_leave() -> None:
    monitor, model = Stuck(StuckConfig(over=2, answers=("help",))), track()
    state: State = {"x": torch.tensor([[0.0], [0.0], [0.0]])}
    route = Route([{"x": torch.full((3, 1), 3.0)}])
    monitor.begin(3, torch.device("cpu"))
    told = []
    for plan in range(4):
        state = {"x": state["x"] + torch.tensor([[0.3], [0.0], [0.3]])[-len(route.at) :]}
        route.look(model, state)
        way = torch.full((len(route.at), 4), 9.0)
        setting = monitor.watch(View(model, state, route, way, 1, 4, ()), Setting(route.goal))
        told.append(setting.asks)
        if plan == 1:
            for part in (route, monitor):
                part.keep(torch.tensor([1, 2]))
            state = {"x": state["x"][1:]}
    assert told[1] is None and told[2] is not None and told[2].tolist() == [True, False]


def test_it_goes_on_early_from_a_goal_that_the_plan_reaches() -> None:
    def begun(monitors: list[Monitor]) -> list[float]:
        director, model = Director(DirectorConfig(via_energy=0.01), monitors), track()
        director.begin(Reach(at(9.0), [at(3.0)]), model, {"x": torch.zeros(1, 1)})
        goals, decided, futures, x = [], None, (), torch.zeros(1, 1)
        for _ in range(5):
            state = {"x": x}
            director.look(state)
            setting = director.set(state, ShortTermMemory(), decided, futures)
            assert setting.goal is not None
            goals.append(setting.goal["x"].item())
            actions = torch.ones(1, 4, 1)
            decided = Decision(actions, torch.zeros(1, dtype=torch.bool), torch.full((1,), 2.0))
            futures = (Imagined(model, state, model.imagine(state, actions[:, None]), actions[:, None], setting.goal),)
            x = x + 1
            director.spend(1)
        return goals

    assert begun([]) == [3.0, 3.0, 3.0, 9.0, 9.0]
    assert begun([Milestone()]) == [3.0, 9.0, 9.0, 9.0, 9.0]
    assert begun([Milestone(MilestoneConfig(early=False))]) == begun([])


def test_plans_are_short_when_all_are_nearly_there_and_long_again_when_one_is_not() -> None:
    planner = WIDE.model_copy(update={"horizon": 8})
    played = play(Milestone(), at(5.0, 4.0), 6, track(), planner)
    horizons = [setting.horizon for setting in played.settings]
    assert horizons[0] is None and horizons[1] in (6, 7)  # four steps are left, and two are spare
    assert all(h is not None and h <= 7 for h in horizons[1:])
    assert played.why()[1] == "milestone: the goal is 4 steps away: plan 6"
    pushed = [0]

    def wind(x: Tensor, a: Tensor) -> Tensor:
        pushed[0] += 1
        return x + a - (60.0 if pushed[0] == 3 else 0.0)

    blown = [setting.horizon for setting in play(Milestone(), at(5.0), 8, track(), planner, wind).settings]
    assert blown[1] is not None and blown[3] is not None  # a single plan that misses it does not lengthen them
    assert blown[5] is None


def test_what_is_ahead_is_the_mean_over_the_models_own_futures() -> None:
    model, other, goal = track(), track(), {"x": torch.tensor([[3.0]])}
    states = [{"x": torch.tensor([[[[1.0], [3.0]]]])}, {"x": torch.tensor([[[[3.0], [3.0]]]])}]  # b n h 1
    start, actions = {"x": torch.zeros(1, 1)}, torch.zeros(1, 1, 2, 1)
    futures = [
        Imagined(who, start, some, actions)
        for who, some in zip((model, model, other), [*states, states[0]], strict=True)
    ]
    way = ahead(model, futures, goal)
    assert way is not None and way.tolist() == [[2.0, 0.0]]
    assert ahead(model, futures[2:], goal) is None and ahead(model, (), goal) is None


@pytest.mark.parametrize("monitor", [Stuck(), Milestone()])
def test_at_first_nothing_is_changed(monitor: Monitor) -> None:
    setting = play(monitor, at(3.0), 1, track()).settings[0]
    assert setting == Setting(setting.goal)
