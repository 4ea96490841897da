"""Worlds lived in side by side: episodes follow each other, returns are right, what is wrong is told in one line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from innerworld.data.lives import SUSPICIOUS, Lives
from innerworld.errors import UserError
from innerworld.types import Spec

SPEC = Spec({"state": (2,)}, action=3, discrete=True)
Fault = Callable[["Line"], None]


class Line(gymnasium.Env):
    """Shows its length, by its seed, and the time; a step is worth the choice. It ends in both ways."""

    def __init__(self, fault: Fault | None = None, longest: int = 6) -> None:
        self.observation_space = spaces.Dict({"state": spaces.Box(-1e9, 1e9, (2,), np.float32)})
        self.action_space = spaces.Discrete(3, start=5)
        self.fault, self.longest = fault, longest
        self.steps = self.time = self.length = 0
        self.reward: float = 0.0
        self.shown = 2

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.length, self.time = int(self.np_random.integers(1, self.longest + 1)), 0
        return self.see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.time += 1
        self.steps += 1
        self.reward = float(action) - 5
        if self.fault is not None and self.steps >= 10:
            self.fault(self)
        over = self.time >= self.length
        return self.see(), self.reward, over and self.length % 2 == 0, over and self.length % 2 == 1, {}

    def see(self) -> dict[str, np.ndarray]:
        return {"state": np.array([self.length, self.time, 0], np.float32)[: self.shown]}


class Losing(SyncVectorEnv):
    """Loses its second world at the third step, as `envs.Workers` says it."""

    count = 0

    def step(self, actions: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(actions)
        self.count += 1
        lost = np.array([False, self.count == 3])
        return obs, reward, terminated, truncated | lost, {**info, "lost": lost}


def lines(n: int, fault: Fault | None = None, longest: int = 6, kind: type[SyncVectorEnv] = SyncVectorEnv) -> Any:
    return kind([lambda: Line(fault, longest)] * n, autoreset_mode=AutoresetMode.DISABLED)


def choice(n: int, which: int = 2) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[[which] * n]


def test_episodes_follow_each_other_and_are_counted_right():
    lives, seen = Lives(lines(3), SPEC, seed=4), []
    assert lives.first.all() and lives.begun == 3
    for _ in range(60):
        assert np.array_equal(lives.obs["state"][:, 1] == 0, lives.first)  # where an episode begins, and there only
        lengths = lives.obs["state"][:, 0].copy()
        outcome = lives.step(choice(3))
        assert np.array_equal(outcome.ended, lives.obs["state"][:, 1] == lengths)  # still its last sight
        assert np.array_equal(outcome.terminated, outcome.ended & (lengths % 2 == 0))
        assert all(over.length in lengths and over.total == 2 * over.length for over in outcome.over)
        seen += outcome.over
        if outcome.ended.any():
            lives.begin()
    numbers = [over.number for over in seen]
    assert len(numbers) == len(set(numbers)) and set(numbers) <= set(range(lives.begun))
    assert lives.begun == len(seen) + 3


def test_each_episode_has_a_seed_of_its_own_wherever_one_begins():
    def lengths(begun: int) -> list[float]:
        lives, found = Lives(lines(1), SPEC, seed=4, begun=begun), []
        while len(found) < 8:
            if lives.first[0]:
                found.append(float(lives.obs["state"][0, 0]))
            if lives.step(choice(1)).ended[0]:
                lives.begin()
        return found

    whole = lengths(0)
    assert len(set(whole)) > 2
    assert lengths(3)[:5] == whole[3:]


def test_an_episode_whose_world_was_lost_is_nobodys():
    envs = lines(2, longest=30, kind=Losing)
    lives = Lives(envs, SPEC, seed=1)
    assert (lives.obs["state"][:, 0] > 3).all()
    outcomes = [lives.step(choice(2)) for _ in range(3)]
    assert outcomes[2].lost.tolist() == [False, True] and outcomes[2].ended[1]
    assert not outcomes[2].over and not outcomes[2].terminated[1]
    lives.begin()
    assert lives.lives[1].number == 2 and lives.lives[1].length == 0 and lives.lives[0].length == 3


def unwell(line: Line) -> None:
    line.reward = float("nan")


def changed(line: Line) -> None:
    line.shown = 3


def broken(line: Line) -> None:
    raise RuntimeError("the arm\nfell off")


def shapeless(envs: SyncVectorEnv) -> None:
    """What a vector that does not check its worlds would give."""
    given = envs.step

    def step(actions: Any) -> Any:
        _, *rest = given(actions)
        return {"state": np.zeros((envs.num_envs, 5), np.float32)}, *rest

    envs.step = step  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (unwell, r"^episode \d+ step \d+: the reward is not finite$"),
        (changed, r"^the environment failed in step, one of the episodes \d+ \(step \d+\), \d+ \(step \d+\): "),
        (broken, r"^the environment failed in step, .*: RuntimeError: the arm fell off$"),
    ],
)
def test_a_world_that_fails_is_told_in_one_line(fault: Fault, message: str):
    lives = Lives(lines(2, fault), SPEC)
    with pytest.raises(UserError, match=message) as caught:
        for _ in range(40):
            if lives.step(choice(2)).ended.any():
                lives.begin()
    assert "\n" not in str(caught.value)


def test_a_sensor_that_changes_its_shape_is_told():
    envs = lines(2)
    lives = Lives(envs, SPEC)
    shapeless(envs)
    with pytest.raises(UserError, match=r"sensor 'state' has shape \(5,\), its space promises \(2,\)"):
        lives.step(choice(2))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Spec({"state": (3,)}, 3, True), "the environments show"),
        (Spec({"state": (2,)}, 3), "the environments take"),
    ],
)
def test_worlds_that_do_not_fit(spec: Spec, message: str):
    with pytest.raises(UserError, match=message):
        Lives(lines(1), spec)


def test_no_action_is_no_action():
    with pytest.raises(UserError, match="one-hot"):
        Lives(lines(2), SPEC).step(np.full((2, 3), 0.3))


def test_episodes_of_one_step_are_lived_and_asked_about_once(caplog: pytest.LogCaptureFixture):
    lives, count = Lives(lines(2, longest=1), SPEC), 0
    with caplog.at_level(logging.WARNING):
        for _ in range(2 * SUSPICIOUS):
            count += len(lives.step(choice(2)).over)
            lives.begin()
    assert count == 4 * SUSPICIOUS
    assert [record.getMessage() for record in caplog.records] == [
        f"each of the first {SUSPICIOUS} episodes ended at its first step: is the world right?"
    ]
