"""MuJoCo's worlds, where its packages are: a state is restored exactly, and success is about the right point."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from innerworld.envs import make, make_one
from innerworld.errors import UserError
from innerworld.evaluate.control import GoalWorlds

NEEDS = {"reacher": "dm_control", "fetch_push": "gymnasium_robotics"}
WORLDS = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"no {module}"))
    for name, module in NEEDS.items()
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="draws without a screen by EGL"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


@pytest.mark.parametrize("name", WORLDS)
def test_gymnasiums_checker_is_content(name: str) -> None:
    check_env(make_one(name, size=16), skip_render_check=True)


@pytest.mark.parametrize("name", WORLDS)
def test_what_follows_a_restored_state_is_what_followed_it(name: str) -> None:
    world, rng = make_one(name, size=32), np.random.default_rng(0)
    obs, _ = world.reset(seed=0)
    for _ in range(10):
        obs, *_ = world.step(rng.uniform(-1, 1, world.action_space.shape))  # pyright: ignore
    actions = rng.uniform(-1, 1, (8, *world.action_space.shape))  # pyright: ignore
    first = [world.step(action)[0] for action in actions]
    again, _ = world.reset(options={"state": obs["state"]})
    np.testing.assert_allclose(again["state"], obs["state"], atol=1e-6)
    for action, before in zip(actions, first, strict=True):
        after = world.step(action)[0]
        np.testing.assert_allclose(after["state"], before["state"], atol=1e-4)  # float32 states, chaotic little
        assert (after["pixels"] != before["pixels"]).mean() < 0.02


@pytest.mark.parametrize("name", WORLDS)
def test_many_have_goals(name: str) -> None:
    worlds = make(name, 2, size=16, seed=3)
    assert isinstance(worlds, GoalWorlds)
    obs, _ = worlds.reset(seed=3)
    state = obs["state"]
    assert not np.array_equal(state[0], state[1])
    assert worlds.success(state, state).all() and not worlds.success(state, state[::-1]).any()
    worlds.step(worlds.action_space.sample())
    back, _ = worlds.reset(options={"state": state})
    np.testing.assert_allclose(back["state"], state, atol=1e-6)


@pytest.mark.parametrize("name", WORLDS)
def test_bad_input_is_told(name: str) -> None:
    world = make_one(name, size=16)
    with pytest.raises(UserError, match="finite numbers"):
        world.reset(options={"state": [0.0]})
    with pytest.raises(UserError, match="an action has the shape"):
        world.step(np.zeros(7))


@pytest.mark.parametrize("name", [WORLDS[0]])
def test_the_reacher_s_tip_is_where_the_physics_has_it(name: str) -> None:
    world = make_one(name, size=16)
    for seed in range(5):
        obs, _ = world.reset(seed=seed)
        truth = world._physics.named.data.geom_xpos["finger", :2]  # pyright: ignore
        np.testing.assert_allclose(world.point(obs["state"].astype(float)), truth, atol=2e-2)  # pyright: ignore
