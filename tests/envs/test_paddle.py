"""The paddle's world: the ball is returned and missed as told, a state goes on exactly, pictures show the state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from innerworld.envs import make
from innerworld.envs.paddle import AT, LEFT, RIGHT, SIDE, STAY, TIME, VX, VY, Paddle, PaddleConfig, PaddleVector, X, Y
from innerworld.errors import UserError

KINDS = [PaddleConfig(), PaddleConfig(size=64, width=5, drift=3, fall=2.5), PaddleConfig(ends=True, radius=1)]


def test_gymnasiums_checker_is_content() -> None:
    check_env(Paddle(), skip_render_check=True)


def begun(**numbers: float) -> PaddleVector:
    """One world in a given state: the paddle in the middle, the ball above it and falling, but for `numbers`."""
    worlds = PaddleVector(1)
    plain = {"time": 0, "at": 16, "x": 16, "y": 24, "vx": 0, "vy": 1.5}
    worlds.reset(seed=0, options={"state": [list((plain | numbers).values())]})
    return worlds


def test_the_paddle_goes_where_it_is_told_and_stops_at_the_sides() -> None:
    worlds = begun(y=5)
    for action, at in ((STAY, 16), (LEFT, 14), (RIGHT, 16), (RIGHT, 18)):
        obs, *_ = worlds.step(np.array([action]))
        assert obs["state"][0, AT] == at
    for _ in range(10):
        obs, *_ = worlds.step(np.array([RIGHT]))
    assert obs["state"][0, AT] == SIDE - 4


def test_the_ball_bounces_from_sides_and_top() -> None:
    left = begun(x=2.5, y=10, vx=-1.5)
    obs, *_ = left.step(np.array([STAY]))
    assert obs["state"][0, [X, VX]].tolist() == [3.0, 1.5]  # 1 is beyond 2 by 1
    right = begun(x=29.5, y=10, vx=1.5)
    obs, *_ = right.step(np.array([STAY]))
    assert obs["state"][0, [X, VX]].tolist() == [29.0, -1.5]
    top = begun(y=3, vy=-1.5)
    obs, reward, *_ = top.step(np.array([STAY]))
    assert obs["state"][0, [Y, VY]].tolist() == [2.5, 1.5] and reward[0] == 0


@pytest.mark.parametrize(("at", "turned"), [(16.0, 0.0), (13.0, 0.75), (19.0, -0.75)])
def test_the_paddle_returns_the_ball_and_turns_it(at: float, turned: float) -> None:
    """With a half width of 4 and a radius of 2, the ball 3 beside the middle is turned by half of the drift."""
    worlds = begun(at=at, y=26.5)
    obs, reward, *_ = worlds.step(np.array([STAY]))
    assert reward[0] == 1 and obs["state"][0, [Y, VX, VY]].tolist() == [26.0, turned, -1.5]


def test_a_missed_ball_comes_in_at_the_top_where_it_fell() -> None:
    worlds, total, seen = begun(at=4, x=20, y=26.5, vx=1.0), [], []
    for _ in range(8):
        obs, reward, terminated, _, _ = worlds.step(np.array([STAY]))
        total.append(reward[0])
        seen.append(obs["state"][0])
        assert not terminated[0]
    assert total == [0, 0, 0, 0, 0, -1, 0, 0]  # 28, ... 34, then 35.5, which is -0.5
    assert seen[5][[X, Y, VX, VY]].tolist() == [26.0, -0.5, 1.0, 1.5]
    ending = PaddleVector(1, PaddleConfig(ends=True))
    ending.reset(seed=0, options={"state": [[0, 4, 20, 33, 0, 1.5]]})
    _, reward, terminated, truncated, _ = ending.step(np.array([STAY]))
    assert reward[0] == -1 and terminated[0] and not truncated[0]


def test_who_follows_the_ball_returns_far_more_than_who_stays() -> None:
    follow = lambda s: np.where(s[:, X] > s[:, AT] + 1, RIGHT, np.where(s[:, X] < s[:, AT] - 1, LEFT, STAY))
    total = {}
    for name, policy in {"follow": follow, "stay": lambda s: np.full(len(s), STAY)}.items():
        worlds = PaddleVector(64, PaddleConfig(size=8))
        obs, _ = worlds.reset(seed=0)
        total[name] = 0.0
        for _ in range(200):
            obs, reward, *_ = worlds.step(policy(obs["state"]))
            total[name] += reward.mean()
    assert total["follow"] > 4 and total["stay"] < 1


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10_000), st.integers(0, 60))
def test_from_a_state_the_same_follows(config: PaddleConfig, seed: int, steps: int) -> None:
    a, b = PaddleVector(4, config), PaddleVector(4, config)
    a.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        a.step(rng.integers(3, size=4))
    assert a.check(a.state).all()
    b.reset(seed=seed + 1, options={"state": a.state})
    for _ in range(20):
        action = rng.integers(3, size=4)
        ours, theirs = a.step(action), b.step(action)
        for name in ours[0]:
            np.testing.assert_array_equal(ours[0][name], theirs[0][name])
        for one, other in zip(ours[1:4], theirs[1:4], strict=True):
            np.testing.assert_array_equal(one, other)


def test_many_worlds_are_single_ones_and_the_oracle_s_law_is_theirs() -> None:
    many, ones = PaddleVector(3), [Paddle() for _ in range(3)]
    obs, _ = many.reset(seed=5)
    firsts = [world.reset(seed=5 + i)[0] for i, world in enumerate(ones)]
    rng = np.random.default_rng(0)
    for _ in range(60):
        for i, first in enumerate(firsts):
            for name in obs:
                np.testing.assert_array_equal(obs[name][i], first[name])
        action = rng.integers(3, size=3)
        known = {"state": torch.from_numpy(obs["state"].copy())}
        foreseen = many.dynamics()(known, torch.eye(3)[torch.from_numpy(action)])
        obs, *_ = many.step(action)
        np.testing.assert_array_equal(foreseen["state"].numpy(), obs["state"])
        firsts = [world.step(each)[0] for world, each in zip(ones, action, strict=True)]


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_picture_shows_the_state_at_every_size(size: int) -> None:
    """The ball's and the paddle's middles, read from the colours."""
    worlds = PaddleVector(50, PaddleConfig(size=size))
    obs, _ = worlds.reset(seed=0)
    assert obs["pixels"].shape == (50, size, size, 3)
    light = obs["pixels"].astype(np.float64) - (16, 20, 34)
    middle = (np.arange(size) + 0.5) * SIDE / size
    ball = np.clip(light[..., 0] - light[..., 2], 0, None)  # n y x   red is the ball's
    paddle = np.clip(light[..., 2] - light[..., 0], 0, None)
    mean = lambda picture, axis: (picture.sum(axis) * middle).sum(-1) / picture.sum((1, 2))
    for found, column in ((mean(ball, 1), X), (mean(ball, 2), Y), (mean(paddle, 1), AT)):
        np.testing.assert_allclose(found, obs["state"][:, column], atol=0.35 * SIDE / size)


def test_a_ball_half_out_of_sight_is_cut() -> None:
    worlds = begun(at=4, x=20, y=32)
    picture = worlds.render()[0]
    assert (picture[31, 18:22, 0] > 200).all() and (picture[:29, 10:, 0] == 16).all()
    assert (begun(at=4, x=20, y=-2).render()[0][1:, 10:, 0] == 16).all()


def test_time_runs_out_and_bad_input_is_told() -> None:
    worlds = make("paddle", 2, size=32, max_steps=5, seed=0)
    ends = [worlds.step(np.array([LEFT, RIGHT]))[2:4] for _ in range(5)]
    assert [truncated.all() for _, truncated in ends] == [False] * 4 + [True] and not ends[-1][0].any()
    plain = PaddleVector(1)
    plain.reset(seed=0)
    for column, value in ((TIME, 0.5), (AT, 1), (X, 40), (VY, 1.0), (VX, 9)):
        state = plain.state.copy()
        state[0, column] = value
        with pytest.raises(UserError, match=r"paddle: .* is no state of it"):
            plain.reset(options={"state": state})
    with pytest.raises(UserError, match="outside 0 to 2"):
        plain.step(np.array([3]))
