"""Levels: the sub-goal is what lies one macro-action ahead, the goal itself once that is nearer; worlds stay apart."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent import Agent, AgentConfig, Director
from innerworld.agent.configurator.levels import Levels, TwoLevels
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import CEM
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

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


def places(*at: tuple[float, float]) -> State:
    return {"z": torch.tensor(at)}


def begun(state: State, least: float = 0.0, first: int = 0) -> Levels:
    levels = Levels(UPPER)
    levels.begin(Stairs(least), state, seed=3, first=first)
    return levels


@torch.no_grad()
def test_it_pursues_what_lies_one_macro_action_ahead() -> None:
    here = places((0.0, 0.0))
    aim = begun(here).aim(here, places((3.0, 0.0)))["z"][0]
    assert 0.8 < aim[0] <= 1 and abs(aim[1]) < 0.25


@torch.no_grad()
def test_it_pursues_the_goal_where_that_is_nearer() -> None:
    """Macro-actions are 0.5 long at least here, so that none leads to the second goal."""
    here = places((0.0, 0.0), (0.0, 0.0))
    goal = places((3.0, 0.0), (0.01, 0.02)) | {"more": torch.ones(2, 1)}
    aim = begun(here, least=0.5).aim(here, goal)
    assert torch.equal(aim["z"][1], goal["z"][1]) and aim["z"][0, 0] > 0.4
    assert aim["more"] is goal["more"]  # what else the model below believes of the goal


@torch.no_grad()
def test_a_row_does_not_depend_on_the_others_and_rows_can_leave() -> None:
    starts, goals = places((0.0, 0.0), (1.0, 1.0), (0.0, 2.0)), places((3.0, 0.0), (1.0, -2.0), (-3.0, 0.0))
    last = {"z": starts["z"][2:]}, {"z": goals["z"][2:]}
    many, one = begun(starts), begun(last[0], first=2)
    torch.testing.assert_close(many.aim(starts, goals)["z"][2:], one.aim(*last)["z"])
    many.keep(torch.tensor([2]))
    torch.testing.assert_close(many.aim(*last)["z"], one.aim(*last)["z"])


def test_it_arrives_over_many_plans() -> None:
    lower = CEM(horizon=4, samples=64, rounds=4, elites=8)
    config = AgentConfig(execute=4, power=0.5, shape="last", strict=True)
    mind = Agent(Stairs(), lower, config, configurator=Director(subgoals=Levels(UPPER)))
    z, goal = torch.zeros(1, 2), torch.tensor([[3.0, -2.0]])
    mind.begin({"z": z}, {"z": goal})
    for _ in range(20):
        z = z + 0.25 * mind.act({"z": z})
    assert (z - goal).abs().max() < 0.1


def test_a_model_of_one_level_is_refused() -> None:
    assert isinstance(Stairs(), TwoLevels)
    with pytest.raises(UserError, match="line has no level above to plan with: teach an hjepa"):
        Levels(UPPER).begin(Line(1.0), places((0.0, 0.0)), 0, 0)


@torch.no_grad()
def test_a_row_that_is_lost_does_not_stop_the_others() -> None:
    goal, lost = places((3.0, 0.0), (0.0, 3.0)), places((0.0, 0.0), (torch.nan, 0.0))
    alone = begun(places((0.0, 0.0))).aim(places((0.0, 0.0)), places((3.0, 0.0)))["z"]
    levels = begun(lost)
    torch.testing.assert_close(levels.aim(lost, goal)["z"][:1], alone)
    assert levels.aim(places((0.0, 0.0), (0.0, 0.0)), goal)["z"].isfinite().all()  # and it finds back
