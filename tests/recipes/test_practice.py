"""What the model of a practice sees unless told otherwise, and how much is kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from innerworld.errors import UserError
from innerworld.recipes.practice import Online, Practice
from innerworld.training import TrainConfig
from innerworld.types import Spec

ID = "innerworld-test/Both-v0"
STATE, PIXELS = Spec({"state": (2,)}, 2), Spec({"pixels": (8, 8, 3)}, 2)


class Both(gymnasium.Env):
    """Shows an image of its own and numbers; would break if it were asked to draw."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        eye, speed = spaces.Box(0, 255, (10, 10, 3), np.uint8), spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = spaces.Dict({"eye": eye, "speed": speed})
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        return {"eye": np.zeros((10, 10, 3), np.uint8), "speed": np.zeros(2, np.float32)}, {}


@pytest.fixture
def both() -> Iterator[str]:
    gymnasium.register(ID, entry_point=lambda **given: Both(**given))
    yield ID
    del gymnasium.registry[ID]


def test_a_world_is_seen_as_it_shows_itself(both: str):
    assert Online(env="CartPole-v1").seen() == ["state"]  # and no picture is drawn of it
    assert Online(env=both).seen() == ["eye"]
    assert Online(env=both, sensors=("speed", "eye")).seen() == ["speed", "eye"]
    assert Online(env="two_rooms").seen() == ["pixels"]


def test_worlds_draw_only_what_is_seen(both: str):
    with closing(Online(env=both, size=8).make(2)) as worlds:
        assert isinstance(worlds.single_observation_space, spaces.Dict)
        assert list(worlds.single_observation_space.spaces) == ["eye"]
    with closing(Online(env="two_rooms", sensors=("state",)).make(1)) as worlds:  # always shows all it has
        assert isinstance(worlds.single_observation_space, spaces.Dict)
        assert {"pixels", "state"} <= set(worlds.single_observation_space.spaces)


def test_a_sensor_that_is_not_there_is_told(both: str):
    with pytest.raises(UserError, match="no sensor 'nose' here"):
        Online(env=both, sensors=("nose",)).make(1)


def test_the_replay_keeps_what_the_run_lives_up_to_a_limit():
    def practice(steps: int, **online: Any) -> Practice:
        return Practice(online=Online(**online), train=TrainConfig(steps=steps))

    few = practice(100, prefill=30, ratio=4, batch=2, length=4).capacity(STATE)
    assert 30 + 200 <= few < 300
    assert practice(10**9).capacity(STATE) == 1_000_000
    assert practice(10**9).capacity(PIXELS) == 100_000
    assert practice(10**9, capacity=77).capacity(PIXELS) == 77
