"""Action repeat: the same as doing it by hand, for one world and for rows, and never past an episode's end."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from innerworld.envs import adapt, make, make_one
from innerworld.envs.repeat import Repeat
from innerworld.errors import UserError


class Count(gymnasium.Env):
    """Counts its steps; the reward of step t is t. Ends at step 5 as it is told, and counts its pictures."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Box(0, 99, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, terminates: bool = True) -> None:
        self.render_mode, self.terminates, self.drawn, self.t = "rgb_array", terminates, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        over = self.t >= 5
        return np.array([self.t], np.float32), self.t, over and self.terminates, over and not self.terminates, {}

    def render(self) -> Any:
        self.drawn += 1
        return np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize("terminates", [True, False])
def test_rewards_are_summed_and_an_episode_s_end_ends_the_step(terminates: bool) -> None:
    env = Repeat(Count(terminates), 3)
    env.reset()
    assert env.step(0) == (np.array([3]), 1 + 2 + 3, False, False, {})
    assert env.step(0) == (np.array([5]), 4 + 5, terminates, not terminates, {})


def test_one_picture_is_drawn_a_step() -> None:
    count = Count()
    env = adapt(Repeat(count, 4), size=8)
    env.reset()
    env.step(0)
    assert count.drawn == 2


def test_a_reward_in_between_that_is_no_number_is_told() -> None:
    class Bad(Count):
        def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
            obs, reward, terminated, truncated, info = super().step(action)
            return obs, float("nan") if reward == 2 else reward, terminated, truncated, info

    env = adapt(Repeat(Bad(), 4), sensors=["state"])
    env.reset()
    with pytest.raises(UserError, match="the reward nan: rewards must be finite"):
        env.step(0)


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_a_gymnasium_world_repeats_as_by_hand(id: str) -> None:
    twice, once = (make_one(id, sensors=["state"], action_repeat=k) for k in (2, 1))
    assert twice.metadata["frames_per_step"] == 2 and once.metadata["frames_per_step"] == 1
    twice.reset(seed=3)
    once.reset(seed=3)
    action = once.action_space.sample()
    for _ in range(4):
        obs, reward, *_ = twice.step(action)
        first = once.step(action)
        then = once.step(action)
        assert np.array_equal(obs["state"], then[0]["state"])
        assert reward == pytest.approx(float(first[1]) + float(then[1]))


@pytest.mark.parametrize("id", ["two_rooms", "maze_u"])
def test_named_worlds_in_rows_repeat_as_single_ones_do(id: str) -> None:
    rows, one = make(id, 3, size=32, max_steps=7, action_repeat=3), make_one(id, 32, max_steps=7, action_repeat=3)
    assert rows.metadata["frames_per_step"] == one.metadata["frames_per_step"] == 3
    many, _ = rows.reset(seed=5)
    single, _ = one.reset(seed=6)
    assert rows.single_observation_space == one.observation_space
    rng = np.random.default_rng(0)
    for step in range(3):
        assert all(np.array_equal(many[name][1], single[name]) for name in single)
        action = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        many, reward, terminated, truncated, _ = rows.step(action)
        single, *rest = one.step(action[1])
        assert [reward[1], terminated[1], truncated[1]] == rest[:3]
        assert truncated.tolist() == [step == 2] * 3  # the seventh step of the world is in the third


def test_a_row_that_ends_keeps_its_last_observation() -> None:
    rows = make("two_rooms", 2, size=32, max_steps=3, action_repeat=2)
    by_hand = make("two_rooms", 2, size=32, max_steps=3)
    mask = np.array([True, False])
    action = np.full((2, 2), 0.3, np.float32)
    for worlds, steps in ((rows, 1), (by_hand, 2)):
        worlds.reset(seed=0)
        for _ in range(steps):
            worlds.step(action)
        worlds.reset(seed=[9, None], options={"reset_mask": mask})  # pyright: ignore[reportArgumentType]
    obs, _, _, truncated, _ = rows.step(action)
    last = by_hand.step(action)[0]
    beyond = by_hand.step(action)[0]
    assert truncated.tolist() == [False, True]
    assert np.array_equal(obs["state"][1], last["state"][1]) and np.array_equal(obs["state"][0], beyond["state"][0])
    assert not np.array_equal(last["state"][1], beyond["state"][1])


def test_every_vector_says_its_frames() -> None:
    assert make("two_rooms", 2).metadata["frames_per_step"] == 1
    assert make("CartPole-v1", 2, sensors=["state"]).metadata["frames_per_step"] == 1
    assert make("CartPole-v1", 2, sensors=["state"], action_repeat=4).metadata["frames_per_step"] == 4


def test_a_number_of_repeats_that_is_none_is_refused() -> None:
    for id in ("two_rooms", "CartPole-v1"):
        for build in (make, make_one):
            with pytest.raises(UserError, match="action_repeat is 0"):
                build(id, action_repeat=0)
