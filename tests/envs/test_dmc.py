"""DeepMind Control: every task in the convention, its ends, its repeats, and pictures that are its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from innerworld.envs import make, make_one
from innerworld.envs.dmc import ControlSuite
from innerworld.errors import UserError

pytest.importorskip("dm_control")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")]

DOMAINS = [
    "acrobot", "ball_in_cup", "cartpole", "cheetah", "dog", "finger", "fish", "hopper", "humanoid", "humanoid_CMU",
    "lqr", "manipulator", "pendulum", "point_mass", "quadruped", "reacher", "stacker", "swimmer", "walker",
]  # fmt: skip


def test_gymnasiums_checker_is_content() -> None:
    check_env(make_one("dmc:cartpole-swingup", size=16), skip_render_check=True)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_task_is_a_world_that_its_seed_decides(domain: str) -> None:
    tasks = [task for task in ControlSuite.tasks() if task.partition("-")[0] == domain]
    assert tasks
    for task in tasks:
        check_task(task)


def test_no_domain_is_forgotten() -> None:
    assert {task.partition("-")[0] for task in ControlSuite.tasks()} == {*DOMAINS, "cup"}
    assert len(ControlSuite.tasks()) == 52


def check_task(task: str) -> None:
    bounds = {"action_low": -1, "action_high": 1} if task.startswith("lqr") else {}
    env = make_one(f"dmc:{task}", sensors=["state"], **bounds)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (3, *env.action_space.shape))  # pyright: ignore

    def play(seed: int) -> list[Any]:
        obs, _ = env.reset(seed=seed)
        assert env.observation_space.contains(obs)
        return [obs["state"].tolist()] + [[step[0]["state"].tolist(), *step[1:4]] for step in map(env.step, actions)]

    first = play(1)
    assert play(1) == first and play(2) != first, task
    env.close()


def test_sensors_have_the_suite_s_names_and_join_as_state() -> None:
    apart = make_one("dmc:walker-walk", sensors=["orientations", "height", "velocity"]).reset(seed=0)[0]
    joined = make_one("dmc:walker-walk", sensors=["state"]).reset(seed=0)[0]["state"]
    assert [len(apart[name]) for name in ("height", "orientations", "velocity")] == [1, 14, 9]
    assert np.array_equal(joined, np.concatenate([apart["height"], apart["orientations"], apart["velocity"]]))


def test_time_alone_ends_an_episode_truncated() -> None:
    env = make_one("dmc:pendulum-swingup", sensors=["state"], action_repeat=2)
    env.reset(seed=0)
    ends = [env.step(np.zeros(1))[2:4] for _ in range(500)]
    assert not any(terminated for terminated, _ in ends)
    assert [truncated for _, truncated in ends] == [False] * 499 + [True]
    with pytest.raises(UserError, match="the episode is over"):
        env.step(np.zeros(1))


def test_a_discount_of_zero_terminates() -> None:
    env = make_one("dmc:lqr-lqr_2_1", sensors=["state"], action_low=-1, action_high=1)
    world: Any = env.unwrapped
    env.reset(seed=0)
    with world._physics.reset_context():
        world._physics.data.qpos[:] = 0  # at rest, which is where this task ends
        world._physics.data.qvel[:] = 0
    assert env.step(np.zeros(1))[2:4] == (True, False)


@pytest.mark.parametrize("steps", [7, 1500])
def test_episodes_can_be_shorter_or_longer_than_the_suite_s(steps: int) -> None:
    env = make_one("dmc:pendulum-swingup", sensors=["state"], max_steps=steps)
    env.reset(seed=0)
    ends = [env.step(np.zeros(1))[3] for _ in range(steps)]
    assert ends.index(True) == steps - 1


def test_a_repeat_sums_the_rewards() -> None:
    twice, once = (make_one("dmc:reacher-easy", sensors=["state"], action_repeat=k) for k in (2, 1))
    assert twice.metadata["frames_per_step"] == 2
    twice.reset(seed=4)
    once.reset(seed=4)
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 2)):
        obs, reward, *_ = twice.step(action)
        parts = [once.step(action) for _ in range(2)]
        assert reward == pytest.approx(sum(float(part[1]) for part in parts))
        assert np.array_equal(obs["state"], parts[1][0]["state"])


def test_pictures_show_what_moves() -> None:
    env = make_one("dmc:cartpole-swingup", size=48)
    first = env.reset(seed=0)[0]["pixels"]
    for _ in range(20):
        last = env.step(np.ones(1))[0]["pixels"]
    assert first.shape == (48, 48, 3) and np.ptp(first) > 50 and not np.array_equal(first, last)


def test_a_camera_can_be_chosen() -> None:
    front, side = (make_one(f"dmc:walker-walk,camera={k}", size=32).reset(seed=0)[0]["pixels"] for k in (0, 1))
    assert not np.array_equal(front, side)
    with pytest.raises(UserError, match="has 2 cameras: there is no 5"):
        make("dmc:walker-walk,camera=5")


def test_many_step_together() -> None:
    worlds = make("dmc:cup-catch", 2, sensors=["state"], seed=0)
    obs, _ = worlds.reset(seed=[3, 3])  # pyright: ignore[reportArgumentType]
    assert np.array_equal(obs["state"][0], obs["state"][1])
    assert worlds.step(worlds.action_space.sample())[1].shape == (2,)
