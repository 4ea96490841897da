"""Worlds of MuJoCo from several packages share a process, come and go, and each keeps its own pictures."""

from __future__ import annotations

import gc
import importlib.util
import os

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from innerworld.envs import make, make_one

IDS = {
    "HalfCheetah-v5": "mujoco",
    "dmc:walker-walk": "dm_control",
    "Hopper-v5": "mujoco",
    "reacher": "dm_control",
    "fetch_push": "gymnasium_robotics",
}
HERE = [id for id, module in IDS.items() if importlib.util.find_spec(module) is not None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="draws without a screen by EGL"),
    pytest.mark.skipif(len(HERE) < 2, reason="no MuJoCo"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


def film(env: gymnasium.Env, steps: int = 3) -> NDArray[np.uint8]:
    env.action_space.seed(0)
    first = env.reset(seed=1)[0]["pixels"]
    return np.stack([first, *(env.step(env.action_space.sample())[0]["pixels"] for _ in range(steps))])


@pytest.fixture(scope="module")
def alone() -> dict[str, NDArray[np.uint8]]:
    films = {}
    for id in HERE:
        env = make_one(id, size=32)
        films[id] = film(env)
        env.close()
        assert np.ptp(films[id]) > 100, f"{id}: nothing is drawn"
    return films


def test_pictures_are_the_same_beside_other_worlds(alone: dict[str, NDArray[np.uint8]]) -> None:
    worlds = {id: make_one(id, size=32) for id in HERE}
    films = {id: [world.reset(seed=1)[0]["pixels"]] for id, world in worlds.items()}
    for world in worlds.values():
        world.action_space.seed(0)
    for _ in range(3):
        for id, world in worlds.items():
            films[id].append(world.step(world.action_space.sample())[0]["pixels"])
    for id in HERE:
        assert np.array_equal(np.stack(films[id]), alone[id]), id


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(
    ("gone", "stays"),
    [
        ("HalfCheetah-v5", "Hopper-v5"),
        ("HalfCheetah-v5", "dmc:walker-walk"),
        ("dmc:walker-walk", "HalfCheetah-v5"),
        ("dmc:walker-walk", "reacher"),
        ("reacher", "fetch_push"),
    ],
)
def test_a_world_that_goes_takes_nothing_along(
    alone: dict[str, NDArray[np.uint8]], gone: str, stays: str, closed: bool
) -> None:
    if not {gone, stays} <= set(HERE):
        pytest.skip("a package is missing")
    going = make_one(gone, size=32)
    going.reset(seed=0)
    staying = make_one(stays, size=32)
    staying.reset(seed=0)
    if closed:
        going.close()
    del going
    gc.collect()
    assert np.array_equal(film(staying), alone[stays])


@pytest.mark.skipif("HalfCheetah-v5" not in HERE, reason="no MuJoCo")
def test_pictures_do_not_depend_on_the_episode_before() -> None:
    env = make_one("HalfCheetah-v5", size=32)
    first = film(env, 10)
    assert np.array_equal(film(env, 10), first)


@pytest.mark.parametrize("id", HERE)
def test_rows_are_drawn_as_single_worlds_are(alone: dict[str, NDArray[np.uint8]], id: str) -> None:
    worlds = make(id, 2, size=32)
    obs, _ = worlds.reset(seed=[1, 2])  # pyright: ignore[reportArgumentType]
    assert np.array_equal(obs["pixels"][0], alone[id][0])
    worlds.close()
