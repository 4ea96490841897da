"""MinAtar: every game in the convention, its seed, its buttons and its colours."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from innerworld.envs import make_one
from innerworld.envs.minatar import GAMES

pytest.importorskip("minatar")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.mark.parametrize("game", GAMES)
def test_gymnasiums_checker_is_content(game: str) -> None:
    check_env(make_one(f"minatar:{game}", size=20), skip_render_check=True)


def test_a_seed_decides_a_game() -> None:
    env = make_one("minatar:asterix", sensors=["state"])

    def play(seed: int) -> list[list[float]]:
        first = env.reset(seed=seed)[0]["state"]
        return [first.tolist(), *(env.step(k % 3)[0]["state"].tolist() for k in range(30))]

    first = play(1)
    assert play(1) == first and play(2) != first


def test_things_are_planes_of_zeros_and_ones_and_colours() -> None:
    obs, _ = make_one("minatar:breakout", size=40).reset(seed=0)
    planes = obs["state"].reshape(10, 10, 4)
    assert set(np.unique(planes)) == {0, 1} and planes[9, 4, 0] == 1 and planes[1:4, :, 3].all()
    colors = obs["pixels"].reshape(10, 4, 10, 4, 3)[:, 0, :, 0]
    assert np.all(colors[1:4] == colors[1, 0]) and not np.array_equal(colors[9, 4], colors[1, 0])
    assert np.all(colors[8] == 0)


def test_buttons_are_those_of_the_game_or_all() -> None:
    assert make_one("minatar:breakout").action_space.n == 3  # pyright: ignore[reportAttributeAccessIssue]
    assert make_one("minatar:breakout,buttons=all").action_space.n == 6  # pyright: ignore[reportAttributeAccessIssue]


def test_losing_terminates_and_time_truncates() -> None:
    env = make_one("minatar:breakout,sticky=0", sensors=["state"])
    env.reset(seed=0)
    ends = [env.step(1)[2:4] for _ in range(200)]  # always to the left
    assert (True, False) in ends
    env = make_one("minatar:breakout", sensors=["state"], max_steps=2)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(2)] == [(False, False), (False, True)]
