"""stable-worldmodel's protocol on toy worlds: its numbers are what their definition says, however it is run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from innerworld.data import Store, import_log
from innerworld.data.importers.hdf5 import Hdf5Config
from innerworld.evaluate.control import Played, Tasks, draw_tasks, joined, play_policy, play_shown, summary
from innerworld.recipes.published import PUBLISHED
from innerworld.types import Clip, Spec

LINE = Spec({"state": (1,)}, 1)


class Steps:
    """Worlds that are a line: the sign of the action is a step; 0.5 or nearer is there."""

    def __init__(self, n: int) -> None:
        self.num_envs = n

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        self.at = np.array((options or {})["state"], np.float32)
        return {"state": self.at.copy()}, {}

    def step(self, actions: np.ndarray) -> tuple[dict[str, Any], Any, Any, Any, dict]:
        self.at = self.at + np.sign(actions)
        n = self.num_envs
        return {"state": self.at.copy()}, np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), {}

    def success(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.abs(state - goal)[..., 0] <= 0.5


class Coins(Steps):
    """The first throw decides: half of all episodes are over after one step, the others never succeed."""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        self.thrown = False
        return super().reset(seed=seed, options=options)

    def step(self, actions: np.ndarray) -> tuple[dict[str, Any], Any, Any, Any, dict]:
        self.at = self.at + np.where(actions > 0, 3.0, -1000.0) * (not self.thrown)
        self.thrown = True
        return super().step(np.zeros_like(actions))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Thirty demonstrations that go right by one, each from a place of its own."""
    found = Store.create(tmp_path_factory.mktemp("swm") / "data", LINE)
    for e in range(30):
        state = 1000.0 * e + torch.arange(13.0)[None, :, None]
        found.add(Clip({"state": state}, torch.ones(1, 12, 1), torch.zeros(1, 12), torch.zeros(1, 12) > 0))
    return found


def uniform(obs: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, obs["state"].shape).astype(np.float32)


def in_parts(kind: type[Steps], tasks: Tasks, worlds: int, budget: int) -> Played:
    """The same tasks, so many at a time."""
    n = len(tasks.start)
    return joined(
        [
            play_policy(kind(min(worlds, n - i)), tasks.cut(i, min(i + worlds, n)), uniform, budget, seed=i)
            for i in range(0, n, worlds)
        ]
    )


def test_start_and_goal_match_states_of_one_episode(store: Store) -> None:
    tasks = draw_tasks(store, np.arange(20, 30), 40, Steps(40), offset=5)
    assert (tasks.goal - tasks.start == 5).all()  # of one episode, the offset apart
    assert (tasks.start // 1000 >= 20).all() and ((tasks.start % 1000) + 5 <= 12).all()  # held out, within it
    np.testing.assert_array_equal(tasks.goal_obs["state"].numpy(), tasks.goal)
    played = play_shown(Steps(40), tasks, budget=10)
    assert played.success.all() and (played.steps == 5).all()


@pytest.mark.parametrize(("offset", "budget"), [(1, 1), (3, 6), (3, 12), (2, 50)])
def test_the_rate_is_that_of_a_random_walk(store: Store, offset: int, budget: int) -> None:
    """Success is to be there at any time within the budget: for a fair walk, P(max ≥ k) by reflection."""
    ends = [math.comb(budget, up) / 2**budget for up in range(budget + 1)]  # at 2 up − budget
    exact = sum(p * ((2 * up - budget >= offset) + (2 * up - budget > offset)) for up, p in enumerate(ends))
    n = 2000
    tasks = draw_tasks(store, np.arange(30), n, Steps(n), offset=offset)
    found = summary(play_policy(Steps(n), tasks, uniform, budget), tasks.far)
    assert abs(found["success_rate"] - exact) < 4 * math.sqrt(exact * (1 - exact) / n)
    assert found["episodes"] == n and found["success_low"] < found["success_rate"] < found["success_high"]


@pytest.mark.parametrize("worlds", [1, 8, 50, 400])
def test_a_coin_is_fair_with_any_number_of_worlds(store: Store, worlds: int) -> None:
    """Counting whichever episodes end first would count the short ones, the successes, too often: 82 to 93 %."""
    tasks = draw_tasks(store, np.arange(30), 400, Coins(400), offset=3)
    played = in_parts(Coins, tasks, worlds, budget=20)
    found = summary(played, tasks.far)
    assert len(played.success) == 400 and set(played.steps.tolist()) == {1, 20}
    assert abs(found["success_rate"] - 0.5) < 4 * math.sqrt(0.25 / 400)
    assert found["success_rate"] == (played.steps == 1).mean()


def test_what_happens_after_success_does_not_count(store: Store) -> None:
    """Success is not taken back by walking on, and arriving after the budget is none."""
    tasks = draw_tasks(store, np.arange(30), 10, Steps(10), offset=4)
    right = lambda obs, rng: np.ones((10, 1), np.float32)
    assert play_policy(Steps(10), tasks, right, 50).success.all()
    assert not play_policy(Steps(10), tasks, right, 3).success.any()


def test_its_own_files_can_be_judged_on(tmp_path: Path) -> None:
    """Its HDF5: columns of all episodes one after another, `ep_len`, `ep_offset`; an unused last action is NaN."""
    h5py = pytest.importorskip("h5py")
    size = np.array([9, 7, 11])
    state = np.concatenate([100.0 * e + np.arange(n) for e, n in enumerate(size)])[:, None].astype(np.float32)
    action = np.ones((size.sum(), 1), np.float32)
    action[np.cumsum(size) - 1] = np.nan
    with h5py.File(tmp_path / "line.h5", "w") as root:
        root["state"], root["action"] = state, action
        root["ep_len"], root["ep_offset"] = size.astype(np.int32), (np.cumsum(size) - size).astype(np.int64)
        root["ep_idx"] = np.repeat(np.arange(3), size)
        root["step_idx"] = np.concatenate([np.arange(n) for n in size])
    store, _ = import_log("hdf5", tmp_path / "line.h5", tmp_path / "out", Hdf5Config())
    assert store.lengths.tolist() == [8, 6, 10]
    tasks = draw_tasks(store, np.arange(3), 50, Steps(50), offset=5)
    assert (tasks.goal - tasks.start == 5).all() and set((tasks.start // 100).ravel()) == {0, 1, 2}
    assert tasks.shown is not None and tasks.shown.shape == (50, 5, 1)
    assert play_shown(Steps(50), tasks, 50).success.all()


def test_the_settings_are_the_published_ones() -> None:
    """LeWorldModel in stable-worldmodel: 300 × 30, 30 elites, 5 blocks of 5, all executed; +25, 50 steps."""
    control = PUBLISHED["lewm"]
    assert (control.goals, control.goal_offset, control.budget) == ("one_episode", 25, 50)
    assert control.agent.execute == control.planner["horizon"] == 5
    assert [control.planner[key] for key in ("samples", "rounds", "elites")] == [300, 30, 30]
