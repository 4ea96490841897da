"""The director: what the next plan pursues, each world by itself; stages in which the weights change, sub-goals."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent.agent import Agent, AgentConfig
from innerworld.agent.configurator.director import Director, DirectorConfig
from innerworld.agent.configurator.phrases import Phrases
from innerworld.agent.configurator.tasks import Maximise, Reach, Say, Steps, Weighted
from innerworld.agent.cost.cost import Cost
from innerworld.agent.cost.terms import GoalEnergy, Reward
from innerworld.agent.memory.short_term import ShortTermMemory
from innerworld.agent.modules import Setting
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import CEM
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel


class Track(WorldModel):
    """A point on a line that moves by its action; with `pays` it tells its place as the reward."""

    class Config(Config):
        pays: bool = False

    card = Card("track", "nothing", False, "none", "none")

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"x": obs["state"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"x": state["x"] + action}

    def decode(self, state: State) -> dict[str, Tensor]:
        return {"reward": state["x"][:, 0]} if self.config.pays else {}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["x"] - goal["x"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def track(pays: bool = False) -> Track:
    return Track(Track.Config(pays=pays), Spec({"state": (1,)}, 1))


def at(*places: float) -> Obs:
    return {"state": torch.tensor(places)[:, None]}


def believed(*places: float) -> State:
    return {"x": torch.tensor(places)[:, None]}


def set_at(director: Director, *places: float) -> Setting:
    """What it sets when the worlds are there, and a step is spent after it."""
    director.look(believed(*places))
    setting = director.set(believed(*places), ShortTermMemory(), None, ())
    director.spend(1)
    return setting


def pursued(director: Director, *places: float) -> list[float]:
    goal = set_at(director, *places).goal
    assert goal is not None
    return goal["x"][:, 0].tolist()


def test_one_goal_and_nothing_else_is_set() -> None:
    director = Director()
    director.begin(Reach(at(3.0, -4.0)), track(), believed(0.0, 0.0))
    assert director.closest.isnan().all()
    setting = set_at(director, 0.0, 0.0)
    assert setting == Setting(setting.goal) and setting.goal is not None
    assert setting.goal["x"].tolist() == [[3.0], [-4.0]]
    set_at(director, 1.5, 4.0)
    assert director.closest.tolist() == [0.25, 1.0]


def test_goals_on_the_way_each_world_by_itself() -> None:
    director = Director(DirectorConfig(via_steps=(4,), via_energy=0.5))
    director.begin(Reach(at(9.0, 9.0), [at(1.0, 2.0)]), track(), believed(0.0, 0.0))
    assert pursued(director, 0.0, 0.0) == [1.0, 2.0]
    assert pursued(director, 1.0, 0.0) == [9.0, 2.0]  # it came near
    director.keep(torch.tensor([1]))
    assert pursued(director, 0.0) == pursued(director, 0.0) == [2.0]
    assert pursued(director, 0.0) == [9.0]  # four steps are spent


def test_the_weights_change_for_all_worlds_together() -> None:
    task = Steps([Reach(at(1.0, 2.0)), Weighted({"effort": 0.5}, Reach(at(5.0, 5.0))), Maximise()], [None, 2], near=0.1)
    director = Director()
    director.begin(task, track(pays=True), believed(0.0, 0.0))
    assert pursued(director, 1.0, 0.0) == [1.0, 2.0]  # the first is there, and waits
    second = set_at(director, 1.0, 2.0)
    assert second.weights == {"effort": 0.5} and second.goal is not None and second.goal["x"].tolist() == [[5.0], [5.0]]
    assert director.closest.tolist() == [1.0, 1.0]  # measured anew
    set_at(director, 1.0, 2.0)
    last = set_at(director, 1.0, 2.0)
    assert last.goal is None and last.weights == {"reward": 1.0}
    assert director.closest.shape == (2,) and director.closest.isnan().all()


def test_rewards_for_so_many_steps_then_a_goal() -> None:
    director = Director()
    director.begin(Steps([Maximise(), Reach(at(1.0))], limits=[2]), track(pays=True), believed(0.0))
    assert [set_at(director, 0.0).goal is None for _ in range(3)] == [True, True, False]


def test_an_agent_earns_then_goes_where_it_is_told() -> None:
    phrases = Phrases(lambda said: torch.ones(len(said), 1), {"home": {"state": torch.tensor([0.0])}})
    director = Director(phrases=phrases)
    cost = Cost((Reward(), GoalEnergy(power=0.5)))
    planner = CEM(horizon=2, samples=64, rounds=4, elites=8)
    mind = Agent(track(pays=True), planner, AgentConfig(strict=True), cost=cost, configurator=director)
    x = at(1.0, -1.0)["state"]
    mind.begin({"state": x}, Steps([Maximise(), Weighted({"reward": 0.0}, Say("home"))], limits=[4]))
    places = []
    for _ in range(16):
        x = x + mind.act({"state": x})
        places.append(x[:, 0])
    assert (places[3] > torch.tensor([4.5, 2.5])).all()
    assert (places[-1].abs() < 0.3).all()


class Half:
    """Pursue what lies half way."""

    def begin(self, model: WorldModel, state: State, seed: int, first: int) -> None:
        self.begun = len(state["x"]), seed, first

    def aim(self, state: State, goal: State) -> State:
        return {"x": (state["x"] + goal["x"]) / 2}

    def keep(self, rows: Tensor) -> None:
        self.kept = rows


def test_a_subgoal_is_pursued_while_progress_is_that_to_the_goal() -> None:
    half = Half()
    director = Director(subgoals=half)
    director.begin(Reach(at(4.0, 8.0)), track(), believed(0.0, 0.0), seed=3, first=2)
    assert half.begun == (2, 3, 2)
    assert pursued(director, 0.0, 0.0) == [2.0, 4.0]
    assert pursued(director, 2.0, 0.0) == [3.0, 4.0]
    assert director.closest.tolist() == [0.25, 1.0]
    director.keep(torch.tensor([1]))
    assert half.kept.tolist() == [1]


def test_what_it_cannot_serve() -> None:
    with pytest.raises(UserError, match="the model tells no reward"):
        Director().begin(Maximise(), track(), believed(0.0))
    Director(terms=("reward",)).begin(Maximise(), track(pays=True), believed(0.0))
    with pytest.raises(UserError, match="the cost has no term 'reward'"):
        Director(terms=("goal",)).begin(Maximise(), track(pays=True), believed(0.0))
    with pytest.raises(UserError, match="the goal: sensor 'state' has shape"):
        Director().begin(Reach(at(1.0, 2.0)), track(), believed(0.0))


def test_what_is_no_task() -> None:
    with pytest.raises(UserError, match="'go left' is no task: give an observation as a goal"):
        Director().begin("go left", track(), believed(0.0))  # pyright: ignore[reportArgumentType]
