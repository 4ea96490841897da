"""CoinRun: a seed decides the levels, the coin and death terminate, time truncates, ended games wait."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from innerworld.data import About, Store, Uniform, collect
from innerworld.envs import make, make_one, spec_of
from innerworld.envs.coinrun import CoinRunConfig, CoinRunVector
from innerworld.errors import UserError

RIGHT, JUMP_RIGHT = 7, 8


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "procgen", None)
    with pytest.raises(UserError, match=r"needs the package procgen2.*pip install --no-deps procgen2 gym3"):
        make("coinrun", 2)


@pytest.fixture(scope="module")
def procgen() -> Any:
    return pytest.importorskip("procgen")


@pytest.fixture
def games(procgen: Any) -> Iterator[CoinRunVector]:
    found = CoinRunVector(3)
    yield found
    found.close()


def frames(worlds: Any, seed: int, steps: int = 20) -> NDArray[np.uint8]:
    """Pictures `t n y x c` of running to the right."""
    seen = [worlds.reset(seed=seed)[0]["pixels"]]
    seen += [worlds.step(np.full(worlds.num_envs, JUMP_RIGHT))[0]["pixels"] for _ in range(steps)]
    return np.stack(seen)


def test_a_seed_decides_the_levels(games: CoinRunVector):
    first = frames(games, 3)
    np.testing.assert_array_equal(first, frames(games, 3))
    assert not np.array_equal(first[0, 0], frames(games, 4)[0, 0])
    assert not np.array_equal(first[0, 0], first[0, 1])
    np.testing.assert_array_equal(first[:, 1], frames(CoinRunVector(1), 4)[:, 0])  # world i has the seed + i


def test_the_agent_is_moved_by_the_actions(games: CoinRunVector):
    def after(action: int) -> NDArray[np.uint8]:
        games.reset(seed=0)
        for _ in range(8):
            obs = games.step(np.full(3, action))[0]["pixels"]
        return obs

    assert not np.array_equal(after(RIGHT), after(JUMP_RIGHT))
    assert (after(RIGHT) != after(4)).any((1, 2, 3)).all()  # 4: nothing


def test_many_games_are_those_of_single_ones(games: CoinRunVector):
    many = frames(games, 5)
    single = make_one("coinrun")
    for i in range(3):
        alone = [single.reset(seed=5 + i)[0]["pixels"]] + [single.step(JUMP_RIGHT)[0]["pixels"] for _ in range(20)]
        np.testing.assert_array_equal(many[:, i], np.stack(alone))


def until_the_end(worlds: CoinRunVector, seed: int) -> tuple[NDArray[Any], float, int]:
    """Running and jumping until the first of the games ends: which, its reward, after how many steps."""
    worlds.reset(seed=seed)
    for step in range(1, 1000):
        action = RIGHT if step % 7 else JUMP_RIGHT
        _, reward, terminated, truncated, _ = worlds.step(np.full(worlds.num_envs, action))
        if terminated.any():
            assert not truncated.any()
            return terminated, float(reward[terminated][0]), step
    raise AssertionError("nothing ended")


def test_an_ended_game_waits_until_it_is_begun_anew(games: CoinRunVector):
    ended, reward, _ = until_the_end(games, 1)
    assert reward in (0.0, 10.0)
    before = games.render()
    obs, reward_then, terminated, _, _ = games.step(np.full(3, RIGHT))
    np.testing.assert_array_equal(obs["pixels"][ended], np.stack(before)[ended])
    assert terminated[ended].all() and not reward_then[ended].any()
    assert (obs["pixels"][~ended] != np.stack(before)[~ended]).any()
    again, _ = games.reset(options={"reset_mask": ended})
    np.testing.assert_array_equal(again["pixels"][~ended], obs["pixels"][~ended])
    assert (again["pixels"][ended] != obs["pixels"][ended]).any()
    assert not games.step(np.full(3, RIGHT))[2][ended].any()


def test_the_coin_brings_ten(procgen: Any):
    easy = CoinRunVector(16, CoinRunConfig(mode="easy", levels=1))
    easy.reset(seed=0)
    rng, gained = np.random.default_rng(0), []
    for _ in range(600):
        onwards = np.where(rng.random(16) < 0.3, JUMP_RIGHT, RIGHT)
        action = np.where(rng.random(16) < 0.7, onwards, rng.integers(9, size=16))
        _, reward, terminated, truncated, _ = easy.step(action)
        gained += reward[reward != 0].tolist()
        assert terminated[reward != 0].all()
        if (over := terminated | truncated).any():
            easy.reset(options={"reset_mask": over})
    assert gained and set(gained) == {10.0}


def test_time_truncates(procgen: Any):
    worlds = make("coinrun", 2, max_steps=3, seed=0)
    ends = [worlds.step(np.full(2, 4))[2:4] for _ in range(3)]
    assert [(one.tolist(), two.tolist()) for one, two in ends] == [([False] * 2, [False] * 2)] * 2 + [
        ([False] * 2, [True] * 2)
    ]


def test_one_level_is_one_level(procgen: Any):
    same = CoinRunVector(4, CoinRunConfig(levels=1))
    first = same.reset(seed=0)[0]["pixels"]
    assert (first == first[:1]).all()
    other = CoinRunVector(1, CoinRunConfig(levels=1, first_level=5)).reset(seed=0)[0]["pixels"]
    assert not np.array_equal(first[:1], other)


def test_sizes_other_than_procgens_own_are_area_means(games: CoinRunVector):
    large = games.reset(seed=2)[0]["pixels"].astype(float)
    small = CoinRunVector(3, CoinRunConfig(size=32)).reset(seed=2)[0]["pixels"].astype(float)
    np.testing.assert_allclose(small, large.reshape(3, 32, 2, 32, 2, 3).mean((2, 4)), atol=0.51)


def test_mistakes_are_refused(games: CoinRunVector):
    games.reset(seed=0)
    for wrong in (np.full(3, 9), np.full(2, 1), np.full(3, -1), np.full(3, 1.5)):
        with pytest.raises(UserError, match="whole numbers from 0 to 8"):
            games.step(wrong)
    assert CoinRunVector(1, CoinRunConfig(buttons="all")).single_action_space == spaces.Discrete(15)


def test_experience_is_collected(procgen: Any, tmp_path: Any):
    worlds = make("coinrun", 4, max_steps=12)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec, About(env="coinrun"))
    collect(worlds, Uniform(spec), 6, store, seed=0)
    clip = store.episode(0)
    assert spec.obs == {"pixels": (64, 64, 3)} and spec.action == 9 and spec.discrete
    assert len(store) == 6 and clip.obs["pixels"].float().std() > 10
