"""Atari: which frames make a picture, how a game begins and ends, and what decides it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from innerworld.envs import make, make_one
from innerworld.envs.atari import Atari, AtariConfig, of_ale
from innerworld.errors import UserError

pytest.importorskip("ale_py")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def game(**settings: Any) -> Atari:
    return Atari(AtariConfig(**{"task": "breakout", "noops": 0} | settings))


def test_gymnasiums_checker_is_content() -> None:
    check_env(make_one("atari:pong", size=16), skip_render_check=True)


def test_the_protocol_of_atari_100k_is_the_default() -> None:
    config = AtariConfig()
    assert (config.frame_skip, config.sticky, config.noops, config.lives) == (4, 0.0, 30, "ignored")
    assert (config.gray, config.buttons, config.max_steps) == (False, "needed", None)
    worlds = make("atari:pong", 2)
    assert worlds.metadata["frames_per_step"] == 4
    assert worlds.single_observation_space["pixels"].shape == (64, 64, 3)  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("task", ["breakout", "space_invaders"])
def test_a_picture_is_the_brighter_of_the_last_two_frames(task: str) -> None:
    four, one = game(task=task), game(task=task, frame_skip=1)
    four.reset(seed=0)
    one.reset(seed=0)
    rng = np.random.default_rng(0)
    for step in range(30):
        action = 1 if step == 0 else rng.integers(four.action_space.n)  # pyright: ignore[reportAttributeAccessIssue]
        obs, reward, *_ = four.step(action)
        frames, rewards = [], []
        for _ in range(4):
            rewards.append(one.step(action)[1])
            frames.append(one.render())
        assert np.array_equal(obs, np.maximum(frames[2], frames[3])) and reward == sum(rewards)


@pytest.mark.parametrize("end", [1, 2, 3, 4])
def test_a_picture_at_an_early_end_shows_nothing_older_than_two_frames(end: int) -> None:
    four, one = game(task="pong"), game(task="pong", frame_skip=1)
    for env, steps in ((four, 20), (one, 80)):
        env.reset(seed=0)
        for _ in range(steps):
            env.step(3)
    four._longest = 80 + end
    frames = [one.render()]
    for _ in range(end):
        one.step(3)
        frames.append(one.render())
    obs, _, terminated, truncated, _ = four.step(3)
    seen = frames[-2:] if end in (1, 4) else frames[-1:]
    assert np.array_equal(obs, np.max(seen, 0)) and truncated and not terminated


def test_the_first_picture_is_of_the_new_game_alone() -> None:
    env = game(task="pong")
    first, _ = env.reset(seed=0)
    assert first.max() > 0 and np.array_equal(first, env.render())
    for _ in range(60):
        env.step(3)
    assert not np.array_equal(env.step(3)[0], first)
    assert np.array_equal(env.reset(seed=0)[0], first)


def test_up_to_so_many_frames_of_doing_nothing_begin_a_game() -> None:
    env = game(task="space_invaders", noops=30)
    waited = []
    for seed in [*range(40), 0]:
        env.reset(seed=seed)
        waited.append(env._ale.getEpisodeFrameNumber())
    assert min(waited) in range(5) and max(waited) in range(26, 31) and waited[-1] == waited[0]


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_a_seed_decides_a_game(sticky: float) -> None:
    env = game(task="pong", sticky=sticky)

    def play(seed: int) -> bytes:
        env.reset(seed=seed)
        rng = np.random.default_rng(0)
        return b"".join(env.step(rng.integers(6))[0].tobytes() for _ in range(40))

    first = play(1)
    assert play(1) == first
    assert (play(2) == first) is (sticky == 0)


def lose(env: Atari) -> tuple[bool, bool, dict]:
    """Fire and do nothing until an episode is over."""
    for step in range(3000):
        _, _, terminated, truncated, info = env.step(1 if step % 20 == 0 else 0)
        if terminated or truncated:
            return terminated, truncated, info
    raise AssertionError("the game does not end")


def test_a_game_terminates_when_its_lives_are_gone() -> None:
    env = game()
    assert env.reset(seed=0)[1] == {"lives": 5}
    assert lose(env) == (True, False, {"lives": 0})


def test_a_lost_life_may_end_the_episode_and_the_game_goes_on() -> None:
    env = game(lives="end")
    env.reset(seed=0)
    assert lose(env) == (True, False, {"lives": 4})
    assert env.reset()[1] == {"lives": 4}
    assert lose(env) == (True, False, {"lives": 3})
    assert env.reset(seed=0)[1] == {"lives": 5}, "a seed begins a new game"
    env.step(0)
    assert env.reset()[1] == {"lives": 5}, "no life was lost"
    for lives in (4, 3, 2, 1, 0):
        assert lose(env) == (True, False, {"lives": lives})
        env.reset()
    assert env.step(0)[4] == {"lives": 5}


def test_time_truncates() -> None:
    env = game(task="pong", max_steps=5)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(5)] == [(False, False)] * 4 + [(False, True)]


def test_pictures_can_be_grey_and_the_buttons_all() -> None:
    gray, colored = game(gray=True, buttons="all"), game()
    picture, color = gray.reset(seed=0)[0], colored.reset(seed=0)[0].astype(float)
    expected = 0.299 * color[..., 0] + 0.587 * color[..., 1] + 0.114 * color[..., 2]
    assert picture.shape == (210, 160, 1) and np.abs(picture[..., 0] - expected).max() <= 0.51
    assert gray.action_space == make_one("atari:pong,buttons=all").action_space
    assert make_one("atari:breakout,gray=true", size=84).reset(seed=0)[0]["pixels"].shape == (84, 84, 1)


def test_ids_of_the_package_itself_are_sticky() -> None:
    assert of_ale("ALE/MsPacman-v5") == "atari:ms_pacman,sticky=0.25"
    world: Any = make_one("ALE/Pong-v5,noops=3").unwrapped
    assert (world.config.task, world.config.sticky, world.config.noops) == ("pong", 0.25, 3)
    with pytest.raises(UserError, match="Did you mean 'Pong-v5'"):
        make("ALE/Pong-v4")


def test_a_wrong_game_or_setting_is_told() -> None:
    with pytest.raises(UserError, match="atari has no world 'pongg'"):
        make("atari:pongg")
    with pytest.raises(UserError, match="lives"):
        make("atari:pong,lives=none")
