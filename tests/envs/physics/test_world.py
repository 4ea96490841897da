"""`physics_2d`: films are episodes without actions, reproducible, and collected like any others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pymunk")

from innerworld.data import POLICIES, Store, collect
from innerworld.envs import make, spec_of
from innerworld.envs.physics.quadruplets import film
from innerworld.envs.physics.scene import FRAMES
from innerworld.envs.physics.world import PhysicsConfig, PhysicsVector
from innerworld.errors import UserError


def test_an_episode_is_a_film() -> None:
    worlds = PhysicsVector(2, PhysicsConfig(size=32))
    obs, _ = worlds.reset(seed=4)
    seen = [obs]
    for step in range(1, FRAMES):
        obs, reward, terminated, truncated, _ = worlds.step(np.zeros((2, 0)))
        seen.append(obs)
        assert truncated.tolist() == [step == FRAMES - 1] * 2 and not terminated.any() and not reward.any()
    for i in range(2):
        shown = film(np.random.default_rng(4 + i), 32)
        for name, value in shown.items():
            np.testing.assert_array_equal(np.stack([obs[name][i] for obs in seen]), value)


def test_one_is_begun_anew_and_the_other_goes_on() -> None:
    worlds = PhysicsVector(2, PhysicsConfig(size=32, steps=5))
    first, _ = worlds.reset(seed=0)
    worlds.step(np.zeros((2, 0)))
    again, _ = worlds.reset(seed=[0, None], options={"reset_mask": np.array([True, False])})
    np.testing.assert_array_equal(again["pixels"][0], first["pixels"][0])
    assert worlds._time.tolist() == [0, 1]


def test_films_are_collected_with_actions_of_size_0(tmp_path: Path) -> None:
    worlds = make("physics_2d", n=3, size=32)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    assert spec.action == 0
    store = Store.create(tmp_path / "films", spec)
    collect(worlds, POLICIES["smooth"](spec), 5, store, seed=1)
    clip = store.episode(4)
    assert len(store) == 5 and clip.length == FRAMES - 1 and clip.action.shape == (1, FRAMES - 1, 0)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="Did you mean 'gravity'"):
        PhysicsVector(1, PhysicsConfig(principles=("gravty",)))
    worlds = PhysicsVector(2, PhysicsConfig(size=32))
    with pytest.raises(UserError, match="begin all films once"):
        worlds.reset(options={"reset_mask": np.array([True, False])})
    worlds.reset(seed=0)
    with pytest.raises(UserError, match="nobody acts"):
        worlds.step(np.zeros((2, 1)))
