"""Push-T after stable-worldmodel: goals of a held-out demonstration, the table set to its state, floor and ceiling."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gym_pusht")

from innerworld.data import POLICIES, About, Store, collect, import_log, split
from innerworld.data.importers.replay import PushTConfig
from innerworld.envs import make, spec_of
from innerworld.envs.pusht import success
from innerworld.evaluate.control import play_policy, play_shown, summary
from innerworld.recipes.goals import draw_goals, goal_worlds
from innerworld.recipes.two_rooms import Control

PROTOCOL = Control(episodes=8, budget=50, goals="one_episode", goal_offset=25)


def test_the_table_is_set_to_the_demonstration(tmp_path: Path) -> None:
    tables = make("pusht", 6, size=16, max_steps=40)
    spec = spec_of(tables.single_observation_space, tables.single_action_space)
    store = Store.create(tmp_path / "data", spec, About(env="pusht"))
    collect(tables, POLICIES["smooth"](spec), 6, store)
    worlds = goal_worlds(store, 8)
    tasks = draw_goals(store, np.arange(6), worlds, 0, PROTOCOL)
    obs, _ = worlds.reset(seed=0, options={"state": tasks.start})
    np.testing.assert_allclose(obs["state"], tasks.start, atol=1e-3)
    assert not success(tasks.start, tasks.goal).any()
    assert tasks.shown is not None and tasks.shown.shape == (8, 25, 2)
    # A start in the middle of a push begins at rest here, so a replay need not end exactly where it did.
    replay = play_shown(worlds, tasks, PROTOCOL.budget)
    chance = play_policy(worlds, tasks, POLICIES["uniform"](spec), PROTOCOL.budget)
    assert replay.success.mean() >= 0.5 > chance.success.mean()


if "INNERWORLD_PUSHT" in os.environ:

    @pytest.mark.slow
    def test_people_can_be_replayed_and_chance_fails(tmp_path: Path) -> None:
        store, _ = import_log("pusht", os.environ["INNERWORLD_PUSHT"], tmp_path / "out", PushTConfig(size=16))
        control = PROTOCOL.model_copy(update={"episodes": 50})
        worlds = goal_worlds(store, 50)
        tasks = draw_goals(store, split(store, 0.25, 0)[1], worlds, 0, control)
        replay = summary(play_shown(worlds, tasks, 50), tasks.far)
        chance = summary(play_policy(worlds, tasks, POLICIES["uniform"](store.spec), 50), tasks.far)
        assert replay["success_rate"] >= 0.9 and chance["success_rate"] <= 0.15
