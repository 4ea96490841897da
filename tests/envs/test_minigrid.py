"""MiniGrid: what the agent sees as symbols and as a picture, its ends, and the mission that no sensor says."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from innerworld.envs import make, make_one
from innerworld.envs.wording import hashed
from innerworld.errors import UserError

pytest.importorskip("minigrid")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
EMPTY = "minigrid:MiniGrid-Empty-5x5-v0"


def test_gymnasiums_checker_is_content() -> None:
    check_env(make_one("minigrid:MiniGrid-DoorKey-5x5-v0", size=16), skip_render_check=True)


def test_a_cell_is_one_thing_of_one_colour_in_one_state() -> None:
    ones = make_one(EMPTY).reset(seed=0)[0]
    numbers = make_one(f"{EMPTY},symbols=numbers").reset(seed=0)[0]
    cells, raw = ones["symbols"].reshape(49, 20), numbers["symbols"].reshape(49, 3)
    for one_hot, column in ((cells[:, :11], 0), (cells[:, 11:17], 1), (cells[:, 17:], 2)):
        assert np.all(one_hot.sum(1) == 1) and np.array_equal(one_hot.argmax(1), raw[:, column])
    assert len(np.unique(raw[:, 0])) >= 3  # walls, floor and what is not seen
    assert ones["direction"].tolist() == [1, 0, 0, 0]


def test_turning_changes_direction_and_view() -> None:
    env = make_one(EMPTY, sensors=["symbols", "direction"])
    before, _ = env.reset(seed=0)
    after = env.step(1)[0]
    assert after["direction"].tolist() == [0, 1, 0, 0] and not np.array_equal(before["symbols"], after["symbols"])


def test_pictures_show_the_view_or_the_whole_grid() -> None:
    view, whole = (
        make_one(id, size=48, sensors=["pixels"]).reset(seed=0)[0]["pixels"] for id in (EMPTY, f"{EMPTY},whole=true")
    )
    assert view.shape == whole.shape == (48, 48, 3) and not np.array_equal(view, whole)
    red, green, _ = whole[33, 33]
    assert green == 255 and red < 100  # the goal, which lies in the corner


def test_reaching_the_goal_terminates_with_a_reward_and_time_truncates() -> None:
    env = make_one(EMPTY, sensors=["state"], max_steps=20)
    env.reset(seed=0)
    steps = [env.step(action)[1:4] for action in (2, 2, 1, 2, 2)]
    assert steps[:4] == [(0.0, False, False)] * 4
    assert steps[4] == (pytest.approx(1 - 0.9 * 5 / 20), True, False)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(20)][-1] == (False, True)


def test_a_seed_decides_the_grid() -> None:
    env = make_one("MiniGrid-DoorKey-8x8-v0", sensors=["pixels"])
    first, again, other = (env.reset(seed=seed)[0]["pixels"] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_mission_that_differs_is_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        env = make_one("minigrid:BabyAI-GoToRedBall-v0", sensors=["state"])
    assert "which no sensor says" in caplog.text
    assert env.reset(seed=0)[1] == {"mission": "go to the red ball"}
    caplog.clear()
    told = make_one("minigrid:BabyAI-GoToRedBall-v0,mission=32", sensors=["mission"])
    assert np.array_equal(told.reset(seed=0)[0]["mission"], hashed("go to the red ball", 32))
    assert np.array_equal(told.step(0)[0]["mission"], hashed("go to the red ball", 32))
    make_one(EMPTY)
    assert not caplog.text


def test_of_memory_s_two_ends_one_is_right_and_chance_says_which() -> None:
    env = make_one("minigrid:MiniGrid-MemoryS7-v0", sensors=["symbols"])
    ends = np.array([[_walk(env, turn, seed) for turn in (0, 1)] for seed in range(40)])
    assert ((ends > 0).sum(1) == 1).all() and 8 < (ends[:, 0] > 0).sum() < 32


def _walk(env: Any, turn: int, seed: int) -> float:
    """The reward for walking to the end of the corridor and then to one side."""
    env.reset(seed=seed)
    grid = env.unwrapped._grid
    for action in [*[2] * (grid.width - 2 - int(grid.agent_pos[0])), turn, 2]:
        _, reward, terminated, _, _ = env.step(action)
    assert terminated
    return reward


def test_many_step_together() -> None:
    worlds = make("MiniGrid-DoorKey-5x5-v0", 3, sensors=["symbols", "direction"], seed=0)
    obs, _ = worlds.reset(seed=0)
    assert obs["symbols"].shape == (3, 980)
    assert worlds.step(worlds.action_space.sample())[0]["direction"].shape == (3, 4)


def test_an_unknown_grid_is_told() -> None:
    with pytest.raises(UserError, match="Did you mean 'MiniGrid-DoorKey-5x5-v0'"):
        make("minigrid:MiniGrid-DoorKy-5x5-v0")
