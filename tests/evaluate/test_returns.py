"""Evaluation counts the first episodes to begin, all of them and no others, and says what a policy earns."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from innerworld.data.lives import Lives, Over
from innerworld.errors import UserError
from innerworld.evaluate.returns import AtRandom, earn, summary
from innerworld.types import Spec

SPEC = Spec({"state": (1,)}, action=1)


class Span(gymnasium.Env):
    """Lasts 1 to 20 steps, as its seed says; each is worth the action."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({"state": spaces.Box(-99, 99, (1,), np.float32)})
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 21))
        return {"state": np.zeros(1, np.float32)}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.left -= 1
        return {"state": np.zeros(1, np.float32)}, float(action[0]), self.left == 0, False, {}


class Losing(SyncVectorEnv):
    count = 0

    def step(self, actions: Any) -> Any:
        *seen, truncated, info = super().step(actions)
        self.count += 1
        lost = np.arange(self.num_envs) == (0 if self.count == 1 else -1)
        return *seen, truncated | lost, {**info, "lost": lost}


class Fully:
    """Always 1."""

    def act(self, obs: Any, first: np.ndarray) -> np.ndarray:
        return np.ones((len(first), 1), np.float32)


def spans(n: int, kind: type[SyncVectorEnv] = SyncVectorEnv) -> Lives:
    return Lives(kind([Span] * n, autoreset_mode=AutoresetMode.DISABLED), SPEC, seed=3)


def test_the_same_episodes_whatever_the_number_of_worlds():
    told: list[int] = []
    one, four = earn(Fully(), spans(1), 9), earn(Fully(), spans(4), 9, tell=told.append)
    assert one == four and [over.number for over in one] == list(range(9))
    assert all(over.total == over.length for over in one) and len({over.length for over in one}) > 3
    assert told[-1] == 9 and told == sorted(told)


def test_an_episode_that_is_lost_is_replaced():
    found = earn(Fully(), spans(2, Losing), 5)
    assert len(found) == 5 and 0 not in [over.number for over in found]


def test_one_that_does_not_end_is_told():
    with pytest.raises(UserError, match=r"does not end within 3 steps: give the world max_steps"):
        earn(Fully(), spans(2), 4, longest=3)


def test_the_random_floor_is_random_and_repeatable():
    first, again = (earn(AtRandom(SPEC, seed=1), spans(2), 6) for _ in range(2))
    assert first == again and len({over.total for over in first}) == 6


def test_the_summary_is_the_numbers():
    found = summary([Over(0, 2, 1.0), Over(1, 4, 3.0), Over(2, 6, 8.0)])
    assert (found["return"], found["return_median"], found["length"], found["episodes"]) == (4, 3, 4, 3)
    assert math.isclose(found["return_std"], math.sqrt(26 / 3))
    assert math.isclose(found["return_high"] - found["return"], 1.96 * math.sqrt(13) / math.sqrt(3))
    assert "return_low" not in summary([Over(0, 2, 1.0)])
