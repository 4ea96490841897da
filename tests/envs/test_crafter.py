"""Crafter: a seed decides the landscape, death terminates, time truncates, achievements are counted."""

from __future__ import annotations

from typing import Any

import pytest

from innerworld.envs import make_one
from innerworld.errors import UserError

pytest.importorskip("crafter")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


def test_a_seed_decides_the_landscape() -> None:
    env = make_one("crafter:reward")

    def play(seed: int, steps: int) -> bytes:
        first = env.reset(seed=seed)[0]["pixels"]
        return b"".join([first.tobytes(), *(env.step(1 + step % 4)[0]["pixels"].tobytes() for step in range(steps))])

    first = play(3, 60)
    assert play(3, 60) == first and play(2, 1)[: 64 * 64 * 3] != first[: 64 * 64 * 3]


def test_time_truncates_and_death_terminates() -> None:
    env = make_one("crafter:reward", max_steps=3)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False)] * 2 + [(False, True)]
    env.reset(seed=0)
    world: Any = env.unwrapped
    world._world._player.health = 0
    _, reward, terminated, truncated, _ = env.step(0)
    assert terminated and not truncated and float(reward) <= -0.8


def test_achievements_are_counted_and_rewarded() -> None:
    env, unpaid = make_one("crafter:reward"), make_one("crafter:noreward")
    for world in (env, unpaid):
        world.reset(seed=0)
    paid = 0.0
    for _ in range(12):  # sleeping unlocks waking up, so does the first step after it
        _, reward, _, _, info = env.step(6)
        paid += float(reward)
        assert unpaid.step(6)[1] == 0
    assert len(info["achievements"]) == 22
    assert paid >= 0.9 * sum(count > 0 for count in info["achievements"].values())


def test_pictures_that_are_too_small_are_refused() -> None:
    with pytest.raises(UserError, match="at least 9 pixels"):
        make_one("crafter:reward", size=8)
