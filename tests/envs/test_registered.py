"""Gymnasium's own worlds, where their packages are: in the convention, from their seed, and cheap without pictures."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from innerworld.envs import make, make_one, spec_of

NEEDS = {
    "CartPole-v1": "gymnasium",
    "Acrobot-v1": "gymnasium",
    "MountainCar-v0": "gymnasium",
    "MountainCarContinuous-v0": "gymnasium",
    "Pendulum-v1": "gymnasium",
    "FrozenLake-v1": "gymnasium",
    "LunarLander-v3": "Box2D",
    "LunarLander-v3,continuous=true": "Box2D",
    "BipedalWalker-v3": "Box2D",
    **{
        f"{name}-v5": "mujoco"
        for name in (
            "Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum", "InvertedPendulum",
            "Pusher", "Reacher", "Swimmer", "Walker2d",
        )
    },
}  # fmt: skip
WORLDS = [
    pytest.param(id, marks=pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"no {module}"))
    for id, module in NEEDS.items()
]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.mark.parametrize("id", WORLDS)
def test_a_world_keeps_its_promises_and_its_seed_decides_it(id: str) -> None:
    for a, b in zip(play(id, 1), play(id, 1), strict=True):
        assert np.array_equal(a, b)


def play(id: str, seed: int) -> list[np.ndarray]:
    worlds = make(id, 2, sensors=["state"])
    assert worlds.envs[0].render_mode is None, "nothing is drawn"  # pyright: ignore[reportAttributeAccessIssue]
    assert list(spec_of(worlds.single_observation_space, worlds.single_action_space).obs) == ["state"]
    seen = [worlds.reset(seed=seed)[0]]
    worlds.action_space.seed(0)
    seen += [worlds.step(worlds.action_space.sample())[0] for _ in range(3)]
    worlds.close()
    assert all(worlds.observation_space.contains(obs) for obs in seen)
    return [obs["state"] for obs in seen]


@pytest.mark.slow
def test_a_car_races_through_pictures() -> None:
    pytest.importorskip("Box2D")
    pytest.importorskip("pygame")
    env = make_one("CarRacing-v3", size=64, max_steps=3)
    first = env.reset(seed=0)[0]["pixels"]
    assert env.action_space.shape == (3,) and first.shape == (64, 64, 3) and np.ptp(first) > 50
    steps = [env.step(np.array([0.0, 1.0, -1.0])) for _ in range(3)]
    assert [step[3] for step in steps] == [False, False, True]
    assert not np.array_equal(steps[-1][0]["pixels"], first)
    env.close()


def test_a_world_of_mujoco_is_drawn_in_its_size_at_once() -> None:
    pytest.importorskip("mujoco")
    env = make_one("Reacher-v5", size=40)
    assert np.asarray(env.env.render()).shape == (40, 40, 3)  # pyright: ignore[reportAttributeAccessIssue]
    assert env.reset(seed=0)[0]["pixels"].shape == (40, 40, 3)
    env.close()
