"""A habit is distilled round by round, and one that was interrupted comes out as if nobody had interrupted it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld import models
from innerworld.agent import Agent, Searcher
from innerworld.agent.modules import Actor
from innerworld.data import About, Smooth, Store, collect
from innerworld.envs import make, spec_of
from innerworld.errors import UserError
from innerworld.policy.actor import ActorConfig
from innerworld.policy.habit import Habit, HabitConfig
from innerworld.policy.lessons import DrillConfig, Lessons
from innerworld.recipes.goals import planner
from innerworld.recipes.habits_of_mind import NOTE, DistilConfig, Distilled, distil
from innerworld.recipes.two_rooms import Control
from innerworld.world import WorldModel

EASY = {"horizon": 4, "samples": 16, "rounds": 2, "elites": 4}
CONTROL = Control(budget=3, planner=EASY)
TINY = DistilConfig(
    rounds=2,
    goals=3,
    course=4,
    within=2,
    hindsight=2,
    clips=2,
    clip=4,
    habit=HabitConfig(actor=ActorConfig(units=8, layers=1), heads=2),
    drill=DrillConfig(steps=3, batch=8),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    torch.manual_seed(0)
    worlds = make("two_rooms", 6, size=32, max_steps=8)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    made = Store.create(tmp_path_factory.mktemp("habits") / "data", spec, About(env="two_rooms"))
    collect(worlds, Smooth(spec), 6, made)
    return made


@pytest.fixture(scope="module")
def model(store: Store) -> WorldModel:
    torch.manual_seed(0)
    return models.build("jepa", {"channels": 2, "latent": 4, "hidden": 8}, store.spec.only("pixels"))


def taught(model: WorldModel, store: Store, config: DistilConfig, folder: Path | None = None) -> Distilled:
    def mind(actor: Actor) -> Agent:
        return Agent(model, planner(CONTROL), CONTROL.agent, actor=actor)

    def searcher() -> Searcher:
        return Searcher(planner(CONTROL), model.spec)

    return distil(model, mind, searcher, store, np.arange(len(store)), CONTROL, config, folder)


def test_each_round_adds_lessons_and_tells_what_it_cost(model: WorldModel, store: Store) -> None:
    found = taught(model, store, TINY)
    assert [told["round"] for told in found.curve] == [0, 1]
    seen_later = 2 * (4 + 3)
    a_plan = 4 + (3 + 2)  # the steps of its course, and those of them that have a later state as goal
    assert (found.curve[0]["lessons"] - seen_later) % a_plan == 0
    assert found.curve[1]["lessons"] > found.curve[0]["lessons"] > seen_later
    assert {"success_rate", "collect_cpu_s", "drill_cpu_s", "error"} <= found.curve[0].keys()
    assert found.modes.uncertainty > 0


def test_an_interrupted_distillation_goes_on(model: WorldModel, store: Store, tmp_path: Path) -> None:
    whole = taught(model, store, TINY)
    first = taught(model, store, TINY.model_copy(update={"rounds": 1}), tmp_path)
    assert len(first.curve) == 1 and len(Lessons.load(tmp_path)) == first.curve[0]["lessons"]
    again = taught(model, store, TINY, tmp_path)
    assert again.curve[0] == first.curve[0] and again.modes == whole.modes
    for name, value in whole.habit.state_dict().items():
        assert torch.equal(value, again.habit.state_dict()[name])
        assert torch.equal(value, Habit.load(tmp_path, model.spec).state_dict()[name])


def test_a_folder_of_another_distillation_is_refused(model: WorldModel, store: Store, tmp_path: Path) -> None:
    taught(model, store, TINY.model_copy(update={"rounds": 1}), tmp_path)
    with pytest.raises(UserError, match="was begun with course=4, not 2"):
        taught(model, store, TINY.model_copy(update={"course": 2}), tmp_path)
    (tmp_path / NOTE).write_text("{}")
    with pytest.raises(UserError, match="distil anew"):
        taught(model, store, TINY, tmp_path)
