"""A cue shown once: nothing in the corridor tells it, policies earn floor and ceiling, a state goes on exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from innerworld.envs import make
from innerworld.envs.questions import NEVER
from innerworld.envs.recall import CHANCE, PAIRS, TIME, Recall, RecallConfig, RecallVector
from innerworld.errors import UserError

SHORT = RecallConfig(delay=12, size=24)
KINDS = [SHORT, RecallConfig(delay=5, pairs=3, show=2, cues=6, size=24), RecallConfig(delay=1, show=1, cues=2, size=24)]
Choose = Callable[[dict[str, np.ndarray], np.random.Generator], np.ndarray]


def returns(worlds: RecallVector, choose: Choose, seed: int = 0) -> np.ndarray:
    """What each world brought in one episode: `n`."""
    obs, _ = worlds.reset(seed=seed)
    rng, total = np.random.default_rng(seed), np.zeros(worlds.num_envs)
    for t in range(worlds.asking + 1):
        obs, reward, terminated, truncated, _ = worlds.step(choose(obs, rng))
        total += reward
        assert (terminated == (t == worlds.asking)).all() and not truncated.any()
    return total


class Remembers:
    """Keeps, of what its eyes show it, each key's colour."""

    def __init__(self, worlds: RecallVector) -> None:
        self.cues, self.keys = worlds.config.cues, worlds.config.pairs if worlds.config.pairs > 1 else 0
        self.known = np.zeros((worlds.num_envs, max(self.keys, 1)), np.int64)

    def __call__(self, obs: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        color, key, _ = np.split(obs["symbols"], [self.cues, self.cues + self.keys], axis=1)
        rows = np.arange(len(color))
        key = key.argmax(1) if self.keys else np.zeros(len(color), np.int64)
        told = color.any(1)
        self.known[rows[told], key[told]] = color.argmax(1)[told]
        return self.known[rows, key]


def test_gymnasiums_checker_is_content() -> None:
    check_env(Recall(SHORT), skip_render_check=True)


@pytest.mark.parametrize("config", KINDS)
def test_who_remembers_earns_the_ceiling(config: RecallConfig) -> None:
    worlds = RecallVector(200, config)
    assert (returns(worlds, Remembers(worlds)) == worlds.ceiling).all() and worlds.ceiling == 1


@pytest.mark.parametrize("config", KINDS)
def test_who_guesses_earns_the_floor(config: RecallConfig) -> None:
    worlds = RecallVector(1500, config)
    guess = lambda obs, rng: rng.integers(config.cues, size=len(obs["state"]))
    always = lambda obs, rng: np.ones(len(obs["state"]), np.int64)
    for policy in (guess, always):
        found = returns(worlds, policy).mean()
        assert found == pytest.approx(worlds.floor, abs=4 * (worlds.floor * (1 - worlds.floor) / 1500) ** 0.5)


def test_of_several_keys_the_last_colour_seen_is_worth_its_share() -> None:
    """One of 3 keys was the last, else it is a guess: 1/3 + 2/3 · 1/6."""
    config = KINDS[1]
    worlds, last = RecallVector(1500, config), np.zeros(1500, np.int64)

    def policy(obs: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        told = obs["symbols"][:, :6].any(1)
        last[told] = obs["symbols"][told, :6].argmax(1)
        return last

    assert returns(worlds, policy).mean() == pytest.approx(1 / 3 + 2 / 3 / 6, abs=0.03)


@pytest.mark.parametrize("config", KINDS)
def test_nothing_in_the_corridor_tells_the_cue(config: RecallConfig) -> None:
    """Two episodes that differ in their cues alone look the same from the corridor to the doors, and not before."""
    a, b = RecallVector(20, config), RecallVector(20, config)
    a.reset(seed=0)
    other = a.state.copy()
    other[:, PAIRS : PAIRS + config.pairs] = (other[:, PAIRS : PAIRS + config.pairs] + 1) % config.cues
    ways = [worlds.reset(options={"state": state})[0] for worlds, state in ((a, a.state.copy()), (b, other))]
    for t in range(a.asking + 2):
        for sensor in ("pixels", "symbols"):
            same = (ways[0][sensor] == ways[1][sensor]).reshape(20, -1).all(1)
            assert (same == (config.pairs * config.show <= t <= a.asking)).all()
        if t <= a.asking:
            ways = [worlds.step(np.zeros(20, np.int64))[0] for worlds in (a, b)]


def test_what_distracts_comes_as_often_as_said_in_every_colour_and_place() -> None:
    worlds = RecallVector(300, RecallConfig(delay=40, distractors=0.3, size=24))
    worlds.reset(seed=0)
    spots = []
    for _ in range(worlds.asking):
        obs, *_ = worlds.step(np.zeros(300, np.int64))
        spots.append(obs["symbols"][:, 4:12])  # colour and place
    seen = np.stack(spots[2:-1])  # the corridor alone
    assert seen[..., :4].any(-1).mean() == pytest.approx(0.3, abs=0.02)
    assert seen.mean((0, 1)) == pytest.approx(np.full(8, 0.075), abs=0.01)
    calm = RecallVector(5, RecallConfig(delay=40, distractors=0, size=24))
    calm.reset(seed=0, options={})
    assert not any(calm.step(np.zeros(5, np.int64))[0]["symbols"][:, 4:12].any() for _ in range(40))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10_000), st.integers(0, 20))
def test_from_a_state_the_same_follows(config: RecallConfig, seed: int, steps: int) -> None:
    a, b = RecallVector(4, config), RecallVector(4, config)
    a.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(min(steps, a.asking)):
        a.step(rng.integers(config.cues, size=4))
    b.reset(seed=seed + 1, options={"state": a.state})
    for _ in range(a.asking + 2):
        action = rng.integers(config.cues, size=4)
        ours, theirs = a.step(action), b.step(action)
        for name in ours[0]:
            np.testing.assert_array_equal(ours[0][name], theirs[0][name])
        for one, other in zip(ours[1:4], theirs[1:4], strict=True):
            np.testing.assert_array_equal(one, other)


def test_many_worlds_are_single_ones() -> None:
    many, ones = RecallVector(3, KINDS[1]), [Recall(KINDS[1]) for _ in range(3)]
    obs, _ = many.reset(seed=5)
    firsts = [world.reset(seed=5 + i)[0] for i, world in enumerate(ones)]
    rng = np.random.default_rng(0)
    for _ in range(many.asking + 1):
        for i, first in enumerate(firsts):
            for name in obs:
                np.testing.assert_array_equal(obs[name][i], first[name])
        actions = rng.integers(6, size=3)
        obs, *_ = many.step(actions)
        firsts = [world.step(action)[0] for world, action in zip(ones, actions, strict=True)]


def test_the_oracle_s_law_is_the_world_s() -> None:
    worlds = RecallVector(8, KINDS[1])
    obs, _ = worlds.reset(seed=0)
    for _ in range(worlds.asking + 1):
        action = np.arange(8) % 6
        known = {name: torch.from_numpy(obs[name].copy()) for name in ("state", "symbols")}
        foreseen = worlds.dynamics()(known, torch.eye(6)[torch.from_numpy(action)])
        obs, *_ = worlds.step(action)
        for name, value in foreseen.items():
            np.testing.assert_array_equal(value.numpy(), obs[name])


def test_the_lag_is_counted_from_the_last_sight_to_the_answer() -> None:
    config = KINDS[1]  # 3 keys of 2 steps, 5 steps of corridor, then the doors at 11 and the answer at 12
    worlds = RecallVector(50, config)
    worlds.reset(seed=0)
    assert worlds.asking == 11 and set(worlds.lag(worlds.state).tolist()) == {12 - 1, 12 - 3, 12 - 5}
    plain = RecallVector(1, RecallConfig(delay=100))
    plain.reset(seed=0)
    assert plain.lag(plain.state).tolist() == [102]


@pytest.mark.parametrize("sensor", ["pixels", "symbols"])
@pytest.mark.parametrize("config", KINDS)
def test_the_true_answer_is_among_the_candidates_and_no_other_is_it(config: RecallConfig, sensor: str) -> None:
    worlds = RecallVector(30, config)
    obs, _ = worlds.reset(seed=0)
    states = [obs["state"]]
    for _ in range(worlds.asking + 1):
        obs, *_ = worlds.step(np.ones(30, np.int64))
        states.append(obs["state"])
    asked = worlds.questions(np.stack(states, axis=1), sensor)
    seen = np.take_along_axis(obs[sensor].reshape(30, -1), asked.where, 1)
    alike = (asked.candidates == seen[:, None]).all(-1)  # q k
    np.testing.assert_array_equal(alike, np.eye(config.cues, dtype=bool)[asked.answer])
    assert len(asked) == 30 and (asked.ceiling == 1).all() and asked.floor == worlds.floor and NEVER not in asked.lag


def test_time_may_run_out_before_the_doors() -> None:
    worlds = make("recall_10", 2, size=24, max_steps=5, seed=0)
    ends = [worlds.step(np.zeros(2, np.int64))[2:4] for _ in range(5)]
    assert [truncated.all() for _, truncated in ends] == [False] * 4 + [True]
    assert worlds.unwrapped.ceiling == worlds.unwrapped.floor == 0  # pyright: ignore


def test_who_has_ended_waits() -> None:
    worlds = RecallVector(2, KINDS[2])
    worlds.reset(seed=0)
    for _ in range(worlds.asking + 1):
        worlds.step(np.zeros(2, np.int64))
    before = worlds.state.copy()
    _, reward, terminated, _, _ = worlds.step(np.ones(2, np.int64))
    assert (worlds.state == before).all() and not reward.any() and terminated.all()
    worlds.reset(options={"reset_mask": [True, False]})
    assert worlds.state[:, TIME].tolist() == [0, before[1, TIME]]


def test_bad_input_is_told() -> None:
    worlds = RecallVector(2, SHORT)
    worlds.reset(seed=0)
    with pytest.raises(UserError, match=r"shape \(2, 4\), expected 2 integers"):
        worlds.step(np.zeros((2, 4), np.int64))
    with pytest.raises(UserError, match="outside 0 to 3"):
        worlds.step(np.array([0, 4]))
    for column, value in ((TIME, 0.5), (TIME, 99), (CHANCE, 1.0), (PAIRS, 4), (3, 2)):  # 3: chosen before the doors
        state = worlds.state.copy()
        state[1, column] = value
        with pytest.raises(UserError, match="given for world 1, is no state"):
            worlds.reset(options={"state": state})
    with pytest.raises(UserError, match=r"state has shape \(2,\)"):
        worlds.reset(options={"state": [1.0, 2.0]})
    with pytest.raises(UserError, match="whole episodes, of 16 steps"):
        worlds.questions(np.stack([worlds.state] * 3, axis=1))
