"""Evolution finds what pays, in a dream of many at once, and goes on where it stopped."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.rssm import RSSM
from innerworld.models.world_models import WorldModels
from innerworld.policy.controller import Controllers, count
from innerworld.policy.evolution import CMAConfig, dream_returns, evolve
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, WorldModel, at

FEW = CMAConfig(population=8, sigma=0.5, seed=1)


def test_evolution_climbs() -> None:
    pytest.importorskip("cma")
    goal = torch.linspace(-1, 1, 5)
    found = list(evolve(lambda w, _: -(w - goal).square().sum(dim=1), 5, 40, FEW))
    assert [each.number for each in found] == list(range(40))
    assert max(found[0].fitness) < -0.1 and min(found[-1].fitness) > -0.01
    torch.testing.assert_close(found[-1].centre, goal, rtol=0, atol=0.05)


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_search_that_goes_on_is_the_one_that_never_stopped(diagonal: bool) -> None:
    pytest.importorskip("cma")
    config = FEW.model_copy(update={"diagonal": diagonal})

    def fitness(weights: Tensor, number: int) -> Tensor:
        return -weights.square().sum(dim=1) + number

    whole = list(evolve(fitness, 3, 8, config))
    np.random.seed(3)  # somebody else draws meanwhile
    rest = list(evolve(fitness, 3, 8, config, whole[:5]))
    assert [each.number for each in rest] == [5, 6, 7]
    assert all(a.fitness == b.fitness and torch.equal(a.centre, b.centre) for a, b in zip(whole[5:], rest, strict=True))


def test_a_search_that_is_another_does_not_go_on() -> None:
    pytest.importorskip("cma")
    before = list(evolve(lambda w, _: w[:, 0], 3, 2, FEW))
    strange = [before[0], replace(before[1], mark=before[1].mark + 1)]
    with pytest.raises(UserError, match="other controllers in generation 1"):
        list(evolve(lambda w, _: w[:, 0], 3, 4, FEW, strange))


def test_a_fitness_that_is_not_finite_is_refused() -> None:
    pytest.importorskip("cma")
    with pytest.raises(UserError, match="generation 0: the fitness of 8 controllers"):
        list(evolve(lambda w, _: w[:, 0] / 0, 3, 2, FEW))


def test_without_the_package_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(UserError, match=r"innerworld\[evolve\]"):
        list(evolve(lambda w, _: w[:, 0], 3, 2, FEW))


def test_a_controller_evolved_in_a_dream_goes_where_the_reward_is() -> None:
    pytest.importorskip("cma")
    world = Line()
    starts = {"x": torch.tensor([[-0.5], [0.0], [0.5]])}

    def fitness(weights: Tensor, number: int) -> Tensor:
        return dream_returns(world, starts, Controllers(weights, world.spec, world.features), 20).mean(dim=1)

    *_, last = evolve(fitness, count(1, world.spec), 25, FEW)
    controller = Controllers(last.centre[None], world.spec, world.features)
    states, _ = world.dream(starts, controller, 20)
    torch.testing.assert_close(states["x"][:, -1], torch.ones(3, 1), rtol=0, atol=0.1)
    idle = fitness(torch.zeros(1, 2), 0)
    assert fitness(last.centre[None], 0) > idle + 3


@pytest.mark.parametrize("reward", [1.0, 0.0])
def test_dreams_of_a_population_are_those_of_each_one_alone(reward: float) -> None:
    torch.manual_seed(0)
    spec = Spec({"speed": (3,)}, 2)
    world = WorldModels(WorldModels.Config(z=4, hidden=8, units=8, bins=41, reward=reward), spec).eval()
    clip = random_clip(spec, 3, 2)
    with torch.no_grad():
        starts = at(world.watch(clip), 2)
    weights = torch.randn(5, count(12, spec))
    controllers = Controllers(weights, spec, world.features)
    if not reward:
        with pytest.raises(UserError, match="no reward"):
            dream_returns(world, starts, controllers, 4)
        return
    assert world.reward is not None
    torch.nn.init.normal_(world.reward.stack[-1].weight)  # type: ignore[arg-type]
    found = dream_returns(world, starts, controllers, 4)
    assert found.shape == (5, 3) and bool(found.std() > 0)
    for i in range(5):
        for r in range(3):
            start = each(lambda value, r=r: value[r : r + 1], starts)
            alone = _one_by_one(world, start, controllers.only(slice(i, i + 1)), 4)
            torch.testing.assert_close(found[i, r], alone, rtol=1e-4, atol=1e-4)


def test_a_reward_counts_as_much_as_it_is_likely_to_be_lived() -> None:
    world = Line(ends=0.5)
    starts = {"x": torch.ones(1, 1)}
    still = Controllers(torch.zeros(1, 2), world.spec, world.features)
    found = dream_returns(world, {"x": torch.zeros(1, 1)}, still, 3)
    torch.testing.assert_close(found, torch.tensor([[-1 - 0.5 - 0.25]]))
    assert dream_returns(world, starts, still, 3).item() == 0


def test_dreams_are_drawn_by_their_generator() -> None:
    torch.manual_seed(0)
    spec = Spec({"speed": (3,)}, 2)
    world = WorldModels(WorldModels.Config(z=4, hidden=8, units=8, bins=41), spec).eval()
    assert world.reward is not None
    torch.nn.init.normal_(world.reward.stack[-1].weight)  # type: ignore[arg-type]
    starts = world.encode(random_clip(spec, 3, 1).at(0))
    controllers = Controllers(torch.randn(2, count(12, spec)), spec, world.features)
    one, two, other = (
        dream_returns(world, starts, controllers, 4, Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_other_families_can_be_dreamed_in() -> None:
    torch.manual_seed(0)
    spec = Spec({"speed": (3,)}, 2)
    world = RSSM(RSSM.Config(deter=16, hidden=8, stoch=4, units=8, layers=1, bins=41), spec).eval()
    starts = world.encode(random_clip(spec, 3, 1).at(0))
    size = world.features(starts).shape[1]
    controllers = Controllers(torch.randn(4, count(size, spec)), spec, world.features)
    found = dream_returns(world, starts, controllers, 3, Generator().manual_seed(0))
    assert found.shape == (4, 3) and bool(found.isfinite().all())


@torch.no_grad()
def _one_by_one(world: WorldModel, state: State, controller: Controllers, horizon: int) -> Tensor:
    total, alive = torch.zeros(()), torch.ones(())
    for _ in range(horizon):
        state = world.predict(state, controller(state))
        told = world.decode(state)
        total = total + alive * told["reward"][0]
        alive = alive * told["continue"][0]
    return total


class Line(WorldModel):
    """A place on a line; what is done moves it, and the reward is how near it is to 1."""

    class Config(Config):
        pass

    card = Card("line", "latents", True, "none", "none")

    def __init__(self, ends: float = 0.0) -> None:
        super().__init__(Line.Config(), Spec({"x": (1,)}, 1))
        self.ends = ends

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"x": obs["x"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"x": state["x"] + 0.2 * action}

    def decode(self, state: State) -> dict[str, Tensor]:
        x = state["x"][:, 0]
        return {"x": state["x"], "reward": -(x - 1).abs(), "continue": torch.full_like(x, 1 - self.ends)}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["x"] - goal["x"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Any]]:
        raise NotImplementedError
