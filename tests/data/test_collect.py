"""Collecting is repeatable, unbiased, aligned, and keeps what was finished whatever goes wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from innerworld.data import Smooth, Store, Uniform, collect
from innerworld.errors import UserError
from innerworld.types import Spec

BOX = spaces.Box(-1, 1, (2,), np.float32)
Fault = Callable[["Walk"], None]


class Walk(gymnasium.Env):
    """A point moved by its actions. Each episode lasts from 1 to 40 steps, as its seed says, and ends by either way."""

    def __init__(self, action_space: spaces.Space = BOX, fault: Fault | None = None) -> None:
        self.observation_space = spaces.Dict(
            {"pixels": spaces.Box(0, 255, (2, 2, 1), np.uint8), "state": spaces.Box(-99, 99, (4,), np.float32)}
        )
        self.action_space = action_space
        self.fault = fault
        self.state = np.zeros(4, np.float32)  # x, y, time, length of the episode
        self.reward = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        length = int(self.np_random.choice([1, 2, 40]))
        self.state = np.array([*self.np_random.uniform(-1, 1, 2), 0, length], np.float32)
        if options and "time" in options:
            self.state[2] = options["time"]
        return self.see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        moved = np.asarray(action, np.float32) if isinstance(self.action_space, spaces.Box) else np.float32(action)
        self.state[:2] += moved
        self.state[2] += 1
        self.reward = float(self.state[0])
        if self.fault is not None:
            self.fault(self)
        over = bool(self.state[2] >= self.state[3])
        odd = bool(self.state[3] == 1)
        return self.see(), self.reward, over and odd, over and not odd, {}

    def see(self) -> dict[str, np.ndarray]:
        return {"pixels": np.full((2, 2, 1), self.state[2], np.uint8), "state": self.state.copy()}


SPEC = Spec({"pixels": (2, 2, 1), "state": (4,)}, action=2)


def walks(n: int, action_space: spaces.Space = BOX, fault: Fault | None = None, copy: bool = True) -> VectorEnv:
    return SyncVectorEnv([lambda: Walk(action_space, fault)] * n, copy=copy, autoreset_mode=AutoresetMode.DISABLED)


def contents(store: Store) -> list[list[Any]]:
    clips = [store.episode(i) for i in range(len(store))]
    return [
        [store.seeds[i], c.obs["state"].tolist(), c.action.tolist(), c.reward.tolist()] for i, c in enumerate(clips)
    ]


def test_episodes_are_whole_and_aligned(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    seen = []
    assert collect(walks(4), Smooth(SPEC), 30, store, seed=1, progress=lambda *at: seen.append(at)) == range(30)
    assert seen[-1] == (30, 30) and seen == sorted(set(seen)) and len(seen) > 7
    for i in range(30):
        clip = store.episode(i)
        state = clip.obs["state"][0]  # t+1 4
        assert clip.length == state[0, 3] and torch.equal(state[:, 2], torch.arange(clip.length + 1.0))
        assert torch.equal(clip.obs["pixels"][0, :, 0, 0, 0], torch.arange(clip.length + 1).to(torch.uint8))
        torch.testing.assert_close(state[1:, :2] - state[:-1, :2], clip.action[0], atol=1e-5, rtol=0)
        assert torch.equal(clip.reward[0], state[1:, 0])
        assert clip.terminated[0].tolist() == [False] * (clip.length - 1) + [clip.length == 1]


def test_an_episodes_seed_begins_it_again(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    collect(walks(3), Uniform(SPEC), 7, store, seed=1)
    assert len(set(store.seeds.tolist())) == 7
    for i in range(7):
        first, _ = Walk().reset(seed=int(store.seeds[i]))
        assert torch.equal(store.episode(i).obs["state"][0, 0], torch.from_numpy(first["state"]))


def test_the_same_seed_and_number_of_environments_give_the_same_episodes(tmp_path: Path):
    made = []
    for name, seed, copy in (("a", 1, True), ("b", 1, False), ("c", 2, True)):
        store = Store.create(tmp_path / name, SPEC)
        collect(walks(4, copy=copy), Smooth(SPEC), 20, store, seed=seed)
        made.append(contents(store))
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("n", [1, 8, 50])
def test_those_that_start_first_are_kept_not_those_that_end_first(tmp_path: Path, n: int):
    store = Store.create(tmp_path / "s", SPEC)
    collect(walks(n), Uniform(SPEC), 40, store, seed=3)
    seeds = sorted(store.seeds.tolist())
    assert seeds == list(range(seeds[0], seeds[0] + 40))  # without a gap, although every third is 20 times as long
    # Kept by their end, 40 of 50 would have lost almost all of the long ones.
    assert 0.15 < np.mean(store.lengths == 40) < 0.55


def test_choices_reach_the_environment_as_numbers_from_its_own_first(tmp_path: Path):
    spec = Spec(SPEC.obs, action=3, discrete=True)
    store = Store.create(tmp_path / "s", spec)
    collect(walks(3, spaces.Discrete(3, start=5)), Smooth(spec), 10, store)
    for i in range(10):
        clip = store.episode(i)
        x = clip.obs["state"][0, :, 0]
        torch.testing.assert_close(x[1:] - x[:-1], clip.action[0].argmax(-1) + 5.0, atol=1e-4, rtol=0)


def test_options_reach_every_reset(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    collect(walks(2), Uniform(SPEC), 6, store, options={"time": 0.5})
    assert [float(store.episode(i).obs["state"][0, 0, 2]) for i in range(6)] == [0.5] * 6


def test_collecting_goes_on_in_a_store_that_has_episodes(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    collect(walks(2), Uniform(SPEC), 3, store, seed=1)
    assert collect(walks(2), Uniform(SPEC), 4, store, seed=2) == range(3, 7)
    assert len(Store.open(tmp_path / "s")) == 7


def test_processes_of_their_own_give_the_same_episodes(tmp_path: Path):
    here, there = Store.create(tmp_path / "a", SPEC), Store.create(tmp_path / "b", SPEC)
    collect(walks(2), Smooth(SPEC), 6, here, seed=1)
    # Forked, for a spawned process cannot import a test module.
    envs = AsyncVectorEnv([Walk] * 2, autoreset_mode=AutoresetMode.DISABLED, context="fork")
    try:
        collect(envs, Smooth(SPEC), 6, there, seed=1)
    finally:
        envs.close()
    assert contents(here) == contents(there)


class Notes(Uniform):
    """Notes down in which environments it is told that an episode begins, and what each shows at its next action."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.told: list[list[bool]] = [[]]
        self.true: list[list[bool]] = []

    def begin(self, started: np.ndarray, rng: np.random.Generator) -> None:
        self.told[-1] = started.tolist()

    def __call__(self, obs: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        self.true.append((obs["state"][:, 2] == 0).tolist())
        self.told.append([False] * 3)
        return super().__call__(obs, rng)


def test_a_policy_that_remembers_is_told_of_every_beginning(tmp_path: Path):
    policy = Notes()
    collect(walks(3), policy, 10, Store.create(tmp_path / "s", SPEC))
    assert policy.told[:-1] == policy.true and sum(map(sum, policy.true)) >= 10


# ---------------------------------------------------------------------- what goes wrong


class Later:
    """A fault that strikes at its 120th step, when many episodes are done."""

    def __init__(self, strike: Fault) -> None:
        self.strike, self.steps = strike, 0

    def __call__(self, walk: Walk) -> None:
        self.steps += 1
        if self.steps >= 120:
            self.strike(walk)


def unwell(walk: Walk) -> None:
    walk.state[1] = np.nan


def worthless(walk: Walk) -> None:
    walk.reward = float("inf")


def broken(walk: Walk) -> None:
    raise RuntimeError("the arm\nfell off")


def interrupted(walk: Walk) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("strike", "message"),
    [
        (unwell, r"^episode \d+ step \d+: sensor 'state' is not finite$"),
        (worthless, r"^episode \d+ step \d+: the reward is not finite$"),
        (broken, r"^the environment failed in step, .*\d+ \(step \d+\).*: RuntimeError: the arm fell off$"),
        (interrupted, r"^interrupted: \d+ episodes are safe in .*s$"),
    ],
)
def test_what_was_finished_is_kept(tmp_path: Path, strike: Fault, message: str):
    store = Store.create(tmp_path / "s", SPEC)
    done = []
    with pytest.raises(UserError, match=message) as caught:
        collect(walks(3, fault=Later(strike)), Uniform(SPEC), 500, store, progress=lambda at, total: done.append(at))
    assert done[-1] > 3 and len(Store.open(tmp_path / "s")) == done[-1]
    if strike is interrupted:
        assert f"{done[-1]} episodes are safe" in str(caught.value)


def test_a_mistake_in_a_policy_is_not_hidden_and_loses_nothing(tmp_path: Path):
    store, calls = Store.create(tmp_path / "s", SPEC), []

    def policy(obs: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        calls.append(obs)
        if len(calls) > 100:
            raise ZeroDivisionError
        return np.zeros((3, 2))

    with pytest.raises(ZeroDivisionError):
        collect(walks(3), policy, 500, store)
    assert len(Store.open(tmp_path / "s")) > 3


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((2, 2)), r"shape \(2, 2\), expected \(3, 2\)"),
        (np.full((3, 2), 1.1), r"outside \[-1, 1\]"),
        (np.full((3, 2), np.nan), "not a number"),
    ],
)
def test_actions_that_are_none(tmp_path: Path, action: np.ndarray, message: str):
    with pytest.raises(UserError, match=message):
        collect(walks(3), lambda obs, rng: action, 5, Store.create(tmp_path / "s", SPEC))


def test_choices_that_are_none(tmp_path: Path):
    store = Store.create(tmp_path / "s", Spec(SPEC.obs, action=3, discrete=True))
    with pytest.raises(UserError, match="one-hot"):
        collect(walks(2, spaces.Discrete(3)), lambda obs, rng: np.full((2, 3), 0.5), 5, store)


def test_worlds_that_do_not_fit(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    other = Store.create(tmp_path / "o", SPEC.only("state"))
    with pytest.raises(UserError, match=r"AutoresetMode\.DISABLED"):
        collect(SyncVectorEnv([Walk]), Uniform(SPEC), 1, store)
    with pytest.raises(UserError, match="the environments show"):
        collect(walks(1), Uniform(SPEC), 1, other)
    with pytest.raises(UserError, match="the environments take"):
        collect(walks(1, spaces.Discrete(2)), Uniform(SPEC), 1, store)
    with pytest.raises(UserError, match="flat Box or Discrete"):
        collect(walks(1, spaces.MultiBinary(2)), Uniform(SPEC), 1, store)
    bare = SyncVectorEnv([lambda: gymnasium.wrappers.FlattenObservation(Walk())], autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(UserError, match="Dict of sensors"):
        collect(bare, Uniform(SPEC), 1, store)


class Shrinking(SyncVectorEnv):
    """Promises four numbers and, after the first step, shows three."""

    def step(self, actions: Any) -> Any:
        obs, *rest = super().step(actions)
        return {**obs, "state": obs["state"][:, :3]}, *rest


def test_a_world_that_breaks_its_promise(tmp_path: Path):
    envs = Shrinking([Walk], autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(
        UserError, match=r"episode 0 step 1: sensor 'state' has shape \(3,\), its space promises \(4,\)"
    ):
        collect(envs, Uniform(SPEC), 1, Store.create(tmp_path / "s", SPEC))


def test_an_episode_without_an_end(tmp_path: Path):
    def forever(walk: Walk) -> None:
        walk.state[3] = 99

    with pytest.raises(UserError, match=r"does not end within 70 steps"):
        collect(walks(2, fault=forever), Uniform(SPEC), 5, Store.create(tmp_path / "s", SPEC), longest=70)


def test_episodes_that_end_together_are_a_shard_of_the_usual_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def together(walk: Walk) -> None:
        walk.state[3] = 9

    alike = Store.create(tmp_path / "alike", SPEC)
    collect(walks(40, fault=together), Uniform(SPEC), 80, alike)
    assert sorted(file.name for file in (tmp_path / "alike").rglob("0*")) == [f"{i:06d}.safetensors" for i in range(2)]
    assert len(set(alike.seeds.tolist())) == 80

    of_one = alike.record(0).bytes
    for module in ("collect", "store.store", "store.writer"):
        monkeypatch.setattr(import_module(f"innerworld.data.{module}"), "COMPACT_BYTES", 12 * of_one)
    small = Store.create(tmp_path / "small", SPEC)
    collect(walks(40, fault=together), Uniform(SPEC), 80, small)
    assert small.seeds.tolist() == alike.seeds.tolist()
    files = sorted((tmp_path / "small" / "shards").iterdir())
    assert len(files) >= 6 and max(file.stat().st_size for file in files) < 15 * of_one + 3000
