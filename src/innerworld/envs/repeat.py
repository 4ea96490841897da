"""Action repeat: each action is done several times, rewards are summed, and nothing is done past an episode's end."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from innerworld.envs.adapter import Sensors, checked_reward
from innerworld.errors import UserError


def check_times(times: int) -> None:
    """Raise `UserError` unless `times` is a number of repeats."""
    if times < 1:
        raise UserError(f"action_repeat is {times}: each action is done at least once")


def counted(metadata: dict[str, Any], times: int) -> dict[str, Any]:
    """The metadata of a world whose actions are done so many times, with its frames per step."""
    return {**metadata, "frames_per_step": times * metadata.get("frames_per_step", 1)}


class Repeat(gymnasium.Wrapper):
    """One world. Wrap it before `adapt`, so that one picture a step is drawn. Raises `UserError` for a bad reward."""

    def __init__(self, env: gymnasium.Env, times: int) -> None:
        super().__init__(env)
        self.times = times
        self.metadata = counted(env.metadata, times)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, given, terminated, truncated, info = self.env.step(action)
        reward = checked_reward(given)
        for _ in range(self.times - 1):
            if terminated or truncated:
                break
            obs, given, terminated, truncated, info = self.env.step(action)
            reward += checked_reward(given)
        return obs, reward, bool(terminated), bool(truncated), info


class RepeatRows(VectorWrapper):
    """Many worlds that are stepped as one array: a row that ends keeps its last observation while others go on.

    The `info` is that of the last repeat.
    """

    def __init__(self, env: VectorEnv, times: int) -> None:
        super().__init__(env)
        self.times = times
        self.metadata = counted(env.metadata, times)

    def step(self, actions: Any) -> tuple[Sensors, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(actions)
        obs: Any = {name: value.copy() for name, value in obs.items()}
        reward, terminated, truncated = reward.copy(), terminated.copy(), truncated.copy()
        for _ in range(self.times - 1):
            runs = ~(terminated | truncated)  # n
            if not runs.any():
                break
            after, more, ends, stops, info = self.env.step(actions)
            for name, value in obs.items():
                value[runs] = after[name][runs]
            reward[runs] += more[runs]
            terminated |= ends & runs
            truncated |= stops & runs
        return obs, reward, terminated, truncated, info
