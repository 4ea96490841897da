"""The agent on two levels: what it pursues is on the way, the goal itself once that is near, each row by itself."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from innerworld.agent import AgentConfig, TwoLevelAgent, TwoLevels
from innerworld.config import Config
from innerworld.models import JEPA
from innerworld.plan import CEM
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

LOWER = CEM(horizon=4, samples=64, rounds=4, elites=8)
UPPER = CEM(horizon=4, samples=256, rounds=6, elites=16)


class Line(WorldModel):
    """A latent is a place on the plane; an action moves it along each axis by at most `reach`, if at all by `least`."""

    Config = Config
    card = Card("line", "latents", False, "none", "none")

    def __init__(self, reach: float, least: float = 0.0) -> None:
        super().__init__(Config(), Spec({"z": (2,)}, 2))
        self.reach, self.least = reach, least

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": obs["z"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"z": state["z"] + self.reach * action.sign() * action.abs().clamp(min=self.least)}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().mean(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


class Stairs(Line):
    """One step above is four below."""

    def __init__(self, least: float = 0.0) -> None:
        super().__init__(0.25)
        self.above = Line(1.0, least)


def agent(least: float = 0.0) -> TwoLevelAgent:
    return TwoLevelAgent(Stairs(least), LOWER, UPPER, AgentConfig(execute=4, power=0.5, shape="last"))


def places(*at: tuple[float, float]) -> Obs:
    return {"z": torch.tensor(at)}


def test_it_pursues_what_lies_one_macro_action_ahead() -> None:
    mind = agent()
    mind.begin(places((0.0, 0.0)), places((3.0, 0.0)))
    mind.act(places((0.0, 0.0)))
    aim = mind.goal["z"][0]
    assert 0.8 < aim[0] <= 1 and abs(aim[1]) < 0.25


def test_it_pursues_the_goal_where_that_is_nearer() -> None:
    mind = agent()
    """Macro-actions are 0.5 long at least here, so that none leads to the second goal."""
    mind = agent(least=0.5)
    mind.begin(places((0.0, 0.0), (0.0, 0.0)), places((3.0, 0.0), (0.01, 0.02)))
    mind.act(places((0.0, 0.0), (0.0, 0.0)))
    assert torch.equal(mind.goal["z"][1], torch.tensor([0.01, 0.02])) and mind.goal["z"][0, 0] > 0.4


def test_it_arrives_over_many_plans() -> None:
    mind, z, goal = agent(), torch.zeros(1, 2), torch.tensor([[3.0, -2.0]])
    mind.begin({"z": z}, {"z": goal})
    for _ in range(20):
        z = z + 0.25 * mind.act({"z": z})
    assert (z - goal).abs().max() < 0.1


def test_a_row_does_not_depend_on_the_others_and_rows_can_leave() -> None:
    starts, goals = ((0.0, 0.0), (1.0, 1.0), (0.0, 2.0)), ((3.0, 0.0), (1.0, -2.0), (-3.0, 0.0))
    many, one = agent(), agent()
    many.begin(places(*starts), places(*goals), seed=3)
    one.begin(places(starts[2]), places(goals[2]), seed=3, first=2)
    first = many.act(places(*starts))
    torch.testing.assert_close(first[2:], one.act(places(starts[2])))
    many.keep(torch.tensor([2]))
    torch.testing.assert_close(many.goal["z"], one.goal["z"])
    for _ in range(4):
        torch.testing.assert_close(many.act(places(starts[2])), one.act(places(starts[2])))


def test_a_model_of_one_level_has_nothing_above() -> None:
    assert isinstance(Stairs(), TwoLevels) and not isinstance(JEPA(JEPA.Config(), Spec({"speed": (3,)}, 2)), TwoLevels)
