"""Goals are refused where a task could not be restored; the agent that is made is the one that was described."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld import models
from innerworld.agent import Director, Levels, UpperConfig
from innerworld.config import build
from innerworld.data import About, Smooth, Store, collect, spec_of_skip
from innerworld.envs import make, spec_of
from innerworld.errors import UserError
from innerworld.evaluate.control import play, play_shown
from innerworld.models import HJEPA, JEPA
from innerworld.recipes.goals import agent, draw_goals, goal_worlds, oracle, worlds_of
from innerworld.recipes.two_rooms import Control, Upper
from innerworld.types import Spec


@pytest.mark.parametrize("options", [None, {"variation": ("door",)}])
def test_worlds_that_are_laid_out_differently_have_no_goals_yet(tmp_path: Path, options: dict | None) -> None:
    worlds = make("two_rooms", 6, max_steps=5)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec)
    collect(worlds, Smooth(spec), 12, store, options=options)
    if options is None:
        assert len(draw_goals(store, np.arange(12), worlds, 0).start) == 6
    else:
        with pytest.raises(UserError, match="laid out differently"):
            draw_goals(store, np.arange(12), worlds, 0)


def test_goals_of_one_demonstration(tmp_path: Path) -> None:
    worlds = make("two_rooms", 6, size=32, max_steps=12)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec, About(env="two_rooms"))
    collect(worlds, Smooth(spec), 12, store)
    control = build(Control, {"goals": "one_episode", "goal_offset": 8, "via": 1})
    goals = goal_worlds(store, 6)
    tasks = draw_goals(store, np.arange(12), goals, 0, control)
    assert tasks.shown is not None and tasks.shown.shape == (6, 8, 2) and len(tasks.via_obs) == 1
    assert play_shown(goals, tasks, 8).success.all()  # two rooms has no inertia: the way is exactly repeated
    assert draw_goals(store, np.arange(12), goals, 0).shown is None


def test_a_model_of_skipped_frames_acts_in_blocks(tmp_path: Path) -> None:
    worlds = make("two_rooms", 4, size=32, max_steps=10)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec, About(env="two_rooms"))
    collect(worlds, Smooth(spec), 6, store)
    settings = {"horizon": 2, "samples": 16, "rounds": 2, "elites": 4}
    control = Control(episodes=4, budget=7, search="cem", planner=settings, rounds_again=1)
    joined = spec_of_skip(spec.only("pixels"), 3)
    mind = agent(models.build("jepa", {"channels": 2, "latent": 4, "hidden": 8}, joined), control, frame_skip=3)
    goals = goal_worlds(store, 4)
    played = play(goals, draw_goals(store, np.arange(6), goals, 0, control), mind, control.budget)
    assert played.path.shape[1] <= 8 and (mind.block, mind.action) == (3, 2)
    assert mind.plan is not None and mind.plan.actions.shape[1:] == (2, 6)


def test_goals_on_the_way_need_a_way() -> None:
    with pytest.raises(UserError, match="so give goals=one_episode, too"):
        build(Control, {"via": 2})


def test_two_levels_are_asked_where_both_are_there() -> None:
    below = JEPA.Config.model_validate({"latent": 4, "hidden": 8, "slices": 4})
    spec = Spec({"speed": (3,)}, 2)
    two, one = HJEPA(HJEPA.Config(level1=below), spec), JEPA(below, spec)
    control = Control(upper=Upper(search="cem", planner={"horizon": 3}, cost=UpperConfig(effort=0.5)))
    of_two, of_one, flat = (
        each.configurator for each in (agent(two, control), agent(one, control), agent(two, Control()))
    )
    assert isinstance(of_two, Director) and isinstance(of_two.subgoals, Levels)
    assert of_two.subgoals.config.effort == 0.5
    assert isinstance(of_one, Director) and isinstance(flat, Director) and of_one.subgoals is flat.subgoals is None


def test_the_oracle_knows_blocks(tmp_path: Path) -> None:
    worlds = worlds_of("two_rooms", 3, 64)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)  # pyright: ignore
    one, two = oracle(worlds, spec), oracle(worlds, spec_of_skip(spec, 2), 2)
    assert one is not None and two is not None and two.spec.action == 4
    obs, _ = worlds.reset(seed=0)
    state = one.encode({name: torch.from_numpy(value) for name, value in obs.items()})
    actions = torch.tensor([[0.5, -1.0, 0.3, 0.7]] * 3)
    steps = one.predict(one.predict(state, actions[:, :2]), actions[:, 2:])
    assert torch.equal(two.predict(state, actions)["state"], steps["state"])
