"""Goals that are shared among workers are played as one process plays them all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerworld import models
from innerworld.agent import AgentConfig
from innerworld.cluster import Done, Place
from innerworld.data import About, Smooth, Store, collect, spec_of_skip
from innerworld.envs import make, spec_of
from innerworld.evaluate.control import play
from innerworld.recipes.goals import agent, draw_goals, oracle, worlds_of
from innerworld.recipes.players import GOALS, Match, play_shared
from innerworld.recipes.two_rooms import Control

EASY = {"horizon": 4, "samples": 16, "rounds": 2, "elites": 4}
CONTROL = Control(episodes=GOALS + 4, budget=5, search="cem", planner=EASY, rounds_again=1)


class Backwards(Place):
    """This process, the last job first."""

    workers = 1

    def each(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Generator[Done[Any], None, None]:
        for index, job in reversed(list(enumerate(jobs))):
            yield Done(index, function(job))

    def close(self) -> None:
        """Nothing is held."""


def test_shared_goals_come_out_as_in_one_process(tmp_path: Path) -> None:
    torch.manual_seed(0)
    worlds = make("two_rooms", GOALS + 4, size=32, max_steps=8)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec, About(env="two_rooms"))
    collect(worlds, Smooth(spec), GOALS + 4, store)
    goals = worlds_of("two_rooms", GOALS + 4, 32)
    tasks = draw_goals(store, np.arange(len(store)), goals, 0)
    model = models.build("jepa", {"channels": 2, "latent": 4, "hidden": 8}, spec.only("pixels"))
    truth = oracle(goals, spec)
    assert truth is not None
    controls = {"jepa": CONTROL, "oracle": CONTROL.model_copy(update={"episodes": 3})}
    match = Match.of(
        {"jepa": model, "oracle": truth}, {"jepa": "jepa", "oracle": "oracle"}, controls, store, tasks, seed=7
    )
    assert [str(share) for share in match.shares()] == [
        "jepa, goals 0 to 9",
        "jepa, goals 10 to 13",
        "oracle, goals 0 to 2",
    ]
    done: list[int] = []
    shared = play_shared(match, Backwards(), done.append)
    assert done == [1, 2, 3]
    alone = play(goals, tasks, agent(model, CONTROL), CONTROL.budget, 7)
    assert np.array_equal(shared["jepa"].success, alone.success) and np.array_equal(shared["jepa"].steps, alone.steps)
    np.testing.assert_allclose(shared["jepa"].path, alone.path, atol=1e-4)
    assert len(shared["oracle"].success) == 3


def test_blocks_and_goals_on_the_way_travel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    worlds = make("two_rooms", 4, size=32, max_steps=12)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec, About(env="two_rooms"))
    collect(worlds, Smooth(spec), 6, store)
    mind = AgentConfig(via_steps=(2,))
    control = CONTROL.model_copy(
        update={"episodes": 4, "goals": "one_episode", "goal_offset": 8, "via": 1, "agent": mind}
    )
    goals = worlds_of("two_rooms", 4, 32)
    tasks = draw_goals(store, np.arange(6), goals, 0, control)
    model = models.build("jepa", {"channels": 2, "latent": 4, "hidden": 8}, spec_of_skip(spec.only("pixels"), 2))
    match = Match.of({"jepa": model}, {"jepa": "jepa"}, {"jepa": control}, store, tasks, seed=7, skips={"jepa": 2})
    shared = play_shared(match, Backwards())["jepa"]
    alone = play(goals, tasks, agent(model, control, 2), control.budget, 7)
    np.testing.assert_allclose(shared.path, alone.path, atol=1e-4)
    assert shared.closest is not None and alone.closest is not None
    np.testing.assert_allclose(shared.closest, alone.closest, atol=1e-4)
