"""Goals one after another: by their steps, by nearness, each world by itself; and how near it came."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent import Agent, AgentConfig
from innerworld.agent.configurator.route import Route
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import CEM
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel


class Track(WorldModel):
    """A point on a line that moves by its action; it believes what it sees."""

    class Config(Config):
        """Nothing to set."""

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"x": obs["state"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"x": state["x"] + action}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["x"] - goal["x"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def track() -> Track:
    return Track(Track.Config(), Spec({"state": (1,)}, 1))


def at(*places: float) -> Obs:
    return {"state": torch.tensor(places)[:, None]}


def walk(mind: Agent, start: Obs, steps: int) -> list[list[float]]:
    """Where each world is after each step."""
    obs, seen = start, []
    for _ in range(steps):
        obs = {"state": obs["state"] + mind.act(obs)}
        seen.append([round(x, 1) for x in obs["state"][:, 0].tolist()])
    return seen


def agent(**config) -> Agent:
    return Agent(track(), CEM(horizon=1, samples=128, rounds=8, elites=12), AgentConfig(**config))


def test_each_goal_has_its_steps() -> None:
    """V-JEPA 2-AC's pick and place: so many steps for each picture, whether it was reached or not."""
    mind = agent(via_steps=(4, 3))
    mind.begin(at(0.0), at(0.0), via=[at(2.0), at(-9.0)])
    ways = [x for (x,) in walk(mind, at(0.0), 9)]
    assert ways[3] == pytest.approx(2, abs=0.1)  # there, and it stays
    assert ways[4:7] == pytest.approx([1, 0, -1], abs=0.1)  # on the way to the second, which is too far
    assert ways[7:] == pytest.approx([0, 0], abs=0.1)


def test_each_world_goes_on_when_it_is_near() -> None:
    mind = agent(via_energy=0.04)
    mind.begin(at(0.0, 0.0), at(0.0, 0.0), via=[at(1.0, 3.0)])
    near, far = zip(*walk(mind, at(0.0, 0.0), 6), strict=True)
    assert near[:2] == pytest.approx((1, 0), abs=0.2)
    assert far[2] == pytest.approx(3, abs=0.2) and far[5] == pytest.approx(0, abs=0.2)


def test_worlds_that_leave_do_not_disturb_the_others() -> None:
    ways = []
    for keeps in (False, True):
        mind = agent(via_energy=0.04)
        mind.begin(at(0.0, 0.0, 0.0), at(0.0, 0.0, 0.0), seed=1, via=[at(1.0, 3.0, 2.0)])
        first = walk(mind, at(0.0, 0.0, 0.0), 1)[0]
        if keeps:
            mind.keep(torch.tensor([0, 2]))
        rows = [0, 2] if keeps else [0, 1, 2]
        rest = walk(mind, at(*(first[i] for i in rows)), 4)
        ways.append([[step[rows.index(i)] for i in (0, 2)] for step in rest])
    assert ways[0] == ways[1]


def test_how_near_it_came() -> None:
    mind = agent()
    mind.begin(at(0.0, 0.0), at(1.0, 8.0))
    for here in (at(0.0, 0.0), at(0.5, -1.0), at(0.2, -3.0)):  # the second is pushed away, whatever it does
        mind.act(here)
    assert mind.closest.tolist() == pytest.approx([0.25, 1.0])


def test_a_new_goal_is_measured_anew() -> None:
    route = Route([{"x": torch.tensor([[1.0]])}, {"x": torch.tensor([[5.0]])}], steps=[1])
    assert bool(route.closest.isnan().all())
    for x, expected in ((0.0, 1.0), (0.5, 0.25)):
        route.look(track(), {"x": torch.tensor([[x]])})
        assert route.closest.item() == pytest.approx(expected)
    route.spend(1)
    route.move_on(track(), {"x": torch.tensor([[0.5]])})
    assert route.closest.item() == 1 and route.goal["x"].item() == 5
    route.spend(1)
    route.move_on(track(), {"x": torch.tensor([[0.5]])})  # there is nothing after the last
    assert route.goal["x"].item() == 5


def test_when_to_go_on_must_be_said() -> None:
    with pytest.raises(UserError, match=r"goals on the way need .*via_steps, or"):
        agent().begin(at(0.0), at(1.0), via=[at(2.0)])
    with pytest.raises(UserError, match="steps for 1 goals on the way, there are 2"):
        agent(via_steps=(4,)).begin(at(0.0), at(1.0), via=[at(2.0), at(3.0)])


class Stretched(Track):
    """Its eyes have learnt since: everything looks larger."""

    scale = 1.0

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"x": self.scale * obs["state"]}


def test_new_weights_change_the_unit_not_how_near_it_came() -> None:
    model = Stretched(Track.Config(), Spec({"state": (1,)}, 1))
    goals, start, now = [at(4.0, 8.0), at(10.0, 0.0)], at(0.0, 0.0), at(2.0, 8.0)
    route = Route([model.encode(goal) for goal in goals], near=1.0)
    for place in (start, now):
        route.look(model, model.encode(place))
    route.move_on(model, model.encode(now))  # the second world is at its goal on the way
    before = route.closest
    model.scale = 3.0
    route.refresh([model.encode(goal) for goal in goals], model, model.encode(now))
    assert torch.equal(route.closest, before) and route.at.tolist() == [0, 1]
    assert route.goal["x"].tolist() == [[12.0], [0.0]] and route.energy.tolist() == [36.0, 576.0]
    route.look(model, model.encode(at(3.0, 4.0)))
    assert route.closest.tolist() == [1 / 16, 1 / 4]
