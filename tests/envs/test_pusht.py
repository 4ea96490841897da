"""Push-T: exact states, gym-pusht's own physics and coverage, success for both kinds of goal."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gym_pusht")

from gym_pusht.envs.pusht import PushTEnv

from innerworld.envs.adapter import shrink
from innerworld.envs.pusht import GOAL, PushT, PushTConfig, PushTVector, coverage, success
from innerworld.errors import UserError

STATE = np.array([100.0, 400.0, 230.0, 260.0, 1.0])
DONE = np.array([100.0, 400.0, *GOAL])


def random_states(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(150, 350, (n, 4)), rng.uniform(0, 2 * np.pi, (n, 1))], axis=1)


@pytest.mark.parametrize("size", [48, 96, 128])
def test_sensors(size: int):
    table = PushT(PushTConfig(size=size))
    obs, _ = table.reset(seed=0)
    assert obs["pixels"].shape == (size, size, 3) and obs["pixels"].dtype == np.uint8
    assert obs["state"].shape == (5,) and obs["state"].dtype == np.float32
    assert table.observation_space.contains(obs)
    assert np.array_equal(table.render(), obs["pixels"])


def test_reset_puts_the_state_exactly():
    table = PushT()
    for state in random_states(20):
        obs, info = table.reset(options={"state": state})
        np.testing.assert_allclose(obs["state"], state, rtol=1e-5)
        np.testing.assert_allclose(info["block_pose"], state[2:], rtol=1e-12)


def test_the_picture_shows_the_state_that_was_put():
    table = PushT()
    table.reset(seed=0)
    first, _ = table.reset(options={"state": STATE})
    for _ in range(3):
        table.step(np.array([0.9, -0.9]))
    again, _ = table.reset(options={"state": STATE})
    assert np.array_equal(first["pixels"], again["pixels"])
    x, y = (STATE[:2] * 96 / 512).astype(int)
    agent = first["pixels"][y, x].astype(int)
    assert agent[2] > 200 and agent[0] < 100  # royal blue
    block = first["pixels"][int(275 * 96 / 512), int(224 * 96 / 512)]
    np.testing.assert_allclose(block.astype(int), (143, 163, 184), atol=5)  # light slate grey, lightened


def test_the_agent_is_drawn_to_the_target():
    table = PushT()
    table.reset(options={"state": [100, 400, 400, 100, 0]})
    for _ in range(30):
        obs, *_ = table.step(np.array([-0.5, 0.25]))
    np.testing.assert_allclose(obs["state"][:2], [128, 320], atol=2)


def test_a_rollout_is_gym_pushts_own():
    table, own = PushT(), PushTEnv()
    obs, _ = table.reset(seed=3)
    np.testing.assert_allclose(obs["state"], own.reset(seed=3)[0], rtol=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-1, 1, 2)
        obs, reward, terminated, _, info = table.step(action)
        state, own_reward, own_terminated, _, own_info = own.step((action + 1) * 256)
        np.testing.assert_allclose(obs["state"], state, rtol=1e-6)
        assert (reward, terminated, info["coverage"]) == (own_reward, own_terminated, own_info["coverage"])


def test_coverage_equals_gym_pushts():
    table = PushT()
    states = random_states(12)
    states[:6, 2:] = np.array(GOAL) + np.random.default_rng(1).normal(0, [12, 12, 0.2], (6, 3))
    theirs = []
    for state in states:
        table.reset(options={"state": state})
        theirs.append(table._table._get_coverage())
    np.testing.assert_allclose(coverage(states), theirs, atol=1e-9)
    assert max(theirs) > 0.5  # the comparison saw more than misses


def test_success_of_the_task_is_coverage():
    beside = DONE + np.array([0, 0, 3, 0, 0])
    away = DONE + np.array([0, 0, 30, 0, 0])
    assert success(np.stack([DONE, beside, away])).tolist() == [True, coverage(beside) > 0.95, False]
    assert coverage(DONE) == pytest.approx(1)
    table = PushT()
    table.reset(options={"state": DONE})
    _, reward, terminated, _, info = table.step(DONE[:2] / 256 - 1)
    assert terminated and reward == 1 and info["is_success"]


@pytest.mark.parametrize(
    ("change", "done"),
    [
        ([0, 0, 0, 0, 0], True),
        ([0, 0, 19, 0, 0], True),
        ([0, 0, 21, 0, 0], False),
        ([19, 0, 0, 0, 0], True),
        ([15, 0, 15, 0, 0], False),  # the four coordinates count together
        ([0, 0, 0, 0, 0.34], True),
        ([0, 0, 0, 0, 0.36], False),
        ([0, 0, 0, 0, 2 * np.pi], True),
        ([0, 0, 0, 0, -2 * np.pi + 0.3], True),
    ],
)
def test_success_for_a_goal_state(change: list[float], done: bool):
    assert success(STATE + change, STATE) == done
    assert success(STATE, STATE + change) == done


def test_success_broadcasts_over_a_batch():
    states = np.stack([STATE, STATE + 50])
    assert success(states, np.stack([STATE, STATE])).tolist() == [True, False]


def test_time_runs_out():
    table = PushT(PushTConfig(max_steps=2))
    table.reset(seed=0)
    assert [table.step(np.zeros(2))[3] for _ in range(2)] == [False, True]
    table.reset(seed=0)
    assert not table.step(np.zeros(2))[3]
    assert PushTConfig().max_steps == 300


def test_mistakes_are_refused():
    table = PushT()
    table.reset(seed=0)
    with pytest.raises(UserError, match="dimension 1 is 2, its bound is 1"):
        table.step(np.array([0, 2]))
    with pytest.raises(UserError, match=r"expected \(2,\)"):
        table.step(np.zeros(3))
    with pytest.raises(UserError, match="5 finite numbers"):
        table.reset(options={"state": [1, 2, 3]})
    with pytest.raises(UserError, match="5 finite numbers"):
        table.reset(options={"state": [1, 2, 3, 4, np.nan]})
    with pytest.raises(UserError, match="far off the table"):
        table.reset(options={"state": [1, 2, 3, 4000, 0]})


def test_many_tables_equal_single_ones():
    many, single = PushTVector(3), [PushT() for _ in range(3)]
    rng = np.random.default_rng(0)
    obs, _ = many.reset(seed=7)
    alone = [table.reset(seed=7 + i)[0] for i, table in enumerate(single)]
    for _ in range(4):
        for i in range(3):
            assert np.array_equal(obs["pixels"][i], alone[i]["pixels"])
            assert np.array_equal(obs["state"][i], alone[i]["state"])
        action = rng.uniform(-1, 1, (3, 2))
        obs, reward, terminated, truncated, info = many.step(action)
        results = [table.step(action[i]) for i, table in enumerate(single)]
        alone = [result[0] for result in results]
        assert reward.tolist() == [result[1] for result in results]
        assert info["coverage"].tolist() == [result[4]["coverage"] for result in results]
        assert not terminated.any() and not truncated.any()


def test_some_tables_begin_anew_each_with_its_state():
    many = PushTVector(2)
    with pytest.raises(UserError, match="begin all worlds once"):
        many.reset(options={"reset_mask": np.array([True, False])})
    states = random_states(2)
    many.reset(seed=0)
    before, *_ = many.step(np.zeros((2, 2)))
    after, _ = many.reset(options={"reset_mask": np.array([False, True]), "state": states})
    assert np.array_equal(after["state"][0], before["state"][0])
    np.testing.assert_allclose(after["state"][1], states[1], rtol=1e-5)
    assert many.success(after["state"], states).tolist() == [False, True]
    with pytest.raises(UserError, match=r"expected \(2, 5\)"):
        many.reset(options={"state": states[0]})
    with pytest.raises(UserError, match=r"expected \(2, 2\)"):
        many.step(np.zeros(2))


@pytest.mark.parametrize("size", [48, 96, 150])
def test_pictures_are_those_of_gym_pusht(size: int) -> None:
    table = PushT(PushTConfig(size=size))
    table.reset(seed=3)
    for step in range(20):
        obs, *_ = table.step(np.array([np.cos(step), np.sin(step)], np.float32))
        theirs = np.asarray(table._table._render(), np.uint8)
        assert np.array_equal(obs["pixels"], shrink(theirs, size))
