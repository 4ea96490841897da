"""Worlds in processes of their own: the same experience, and never a hang, whatever a world or its process does."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from innerworld.data import Store, Uniform, collect
from innerworld.envs import make
from innerworld.envs.workers import Workers
from innerworld.errors import UserError
from innerworld.types import Spec

SPEC = Spec({"pixels": (2, 2, 1), "state": (2,)}, action=2)


class Walk(gymnasium.Env):
    """Ten steps of a point. `fault` strikes at step 5 of every episode, or only until the file `once` is there."""

    def __init__(self, fault: str = "", once: Path | None = None) -> None:
        self.observation_space = spaces.Dict(
            {"pixels": spaces.Box(0, 255, (2, 2, 1), np.uint8), "state": spaces.Box(-99, 99, (2,), np.float32)}
        )
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.fault, self.once = fault, once
        self.state = np.zeros(2, np.float32)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.state, self.steps = self.np_random.uniform(-1, 1, 2).astype(np.float32), 0
        self.strike("reset")
        return self.see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.state = self.state + np.asarray(action, np.float32)
        self.steps += 1
        if self.steps == 5:
            self.strike("step")
        return self.see(), float(self.state[0]), False, self.steps >= 10, {}

    def see(self) -> dict[str, np.ndarray]:
        wrong = self.steps == 5 and not self.past()
        kind = np.float64 if self.fault == "kind" and wrong else np.float32
        state = self.state[:1] if self.fault == "shape" and wrong else self.state
        return {"pixels": np.full((2, 2, 1), self.steps, np.uint8), "state": state.astype(kind)}

    def past(self) -> bool:
        return self.once is not None and self.once.exists()

    def strike(self, verb: str) -> None:
        if self.past() or not self.fault.startswith(verb):
            return
        if self.once is not None:
            self.once.touch()
        match self.fault.partition(" ")[2]:
            case "hangs":
                time.sleep(1000)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exits":
                os._exit(3)
            case "raises":
                raise RuntimeError("the arm\nfell off")
            case "refuses":
                raise UserError("the gripper is jammed")


def workers(*worlds: Any, timeout_s: float = 0.5, restarts: int = 2) -> Workers:
    # Forked, for a spawned process cannot import a test module.
    return Workers(list(worlds), timeout_s, restarts, context="fork")


def contents(store: Store) -> list[Any]:
    clips = [store.episode(i) for i in range(len(store))]
    return sorted([int(seed), clip.obs["state"][0].tolist()] for seed, clip in zip(store.seeds, clips, strict=True))


@pytest.fixture
def clean(tmp_path: Path) -> list[Any]:
    store = Store.create(tmp_path / "clean", SPEC)
    envs = workers(Walk, Walk)
    collect(envs, Uniform(SPEC), 6, store, seed=1)
    envs.close()
    return contents(store)


@pytest.mark.parametrize("fault", ["hangs", "killed", "exits", "raises"])
@pytest.mark.parametrize("verb", ["step", "reset"])
def test_a_world_that_fails_once_costs_an_episode_that_is_begun_again(
    tmp_path: Path, clean: list[Any], verb: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, envs = Store.create(tmp_path / "s", SPEC), workers(Walk, lambda: Walk(f"{verb} {fault}", tmp_path / "once"))
    try:
        with caplog.at_level(logging.WARNING):
            assert len(collect(envs, Uniform(SPEC), 6, store, seed=1)) == 6
    finally:
        envs.close()
    found = contents(store)
    assert [seed for seed, _ in found] == [seed for seed, _ in clean]  # no episode is missing, none is there twice
    assert all(len(states) == 11 for _, states in found)
    assert [states[0] for _, states in found] == [states[0] for _, states in clean]
    assert len(caplog.records) == 1 and f"world 1 failed in {verb}" in caplog.text and "(1 of 2)" in caplog.text
    says = {"hangs": "no answer within 0.5 s", "killed": "SIGKILL", "exits": "status 3", "raises": "the arm fell off"}
    assert says[fault] in caplog.text


@pytest.mark.parametrize("fault", ["hangs", "killed", "raises"])
def test_a_world_that_always_fails_ends_with_an_error_and_loses_nothing(tmp_path: Path, fault: str) -> None:
    store, envs = Store.create(tmp_path / "s", SPEC), workers(Walk, lambda: Walk(f"step {fault}"), timeout_s=0.3)
    began = time.monotonic()
    try:
        with pytest.raises(UserError, match=r"world 1 failed in step: .* begun again 2 times before: mend the world"):
            collect(envs, Uniform(SPEC), 50, store, seed=1)
    finally:
        envs.close()
    assert time.monotonic() - began < 20
    assert len(Store.open(tmp_path / "s")) >= 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("step refuses", r"world 1 in step: the gripper is jammed$"),
        ("kind", r"world 1 in step: sensor 'state' is float64 \(2,\), its space promises float32 \(2,\)$"),
        ("shape", r"world 1 in step: sensor 'state' is float32 \(1,\), its space promises float32 \(2,\)$"),
    ],
)
def test_what_another_try_would_not_mend_is_told_at_once(tmp_path: Path, fault: str, message: str) -> None:
    envs = workers(Walk, lambda: Walk(fault))
    try:
        with pytest.raises(UserError, match=message):
            collect(envs, Uniform(SPEC), 4, Store.create(tmp_path / "s", SPEC))
    finally:
        envs.close()


def test_a_process_killed_from_outside(caplog: pytest.LogCaptureFixture) -> None:
    envs = workers(Walk, Walk, Walk)
    try:
        envs.reset(seed=3)
        os.kill(envs.pids()[1], signal.SIGKILL)
        with caplog.at_level(logging.WARNING):
            obs, reward, _, truncated, info = envs.step(np.ones((3, 2), np.float32))
        assert info["lost"].tolist() == truncated.tolist() == [False, True, False]
        assert obs["state"][1].tolist() == [0, 0] and reward[1] == 0 and obs["pixels"][:, 0, 0, 0].tolist() == [1, 0, 1]
        obs, _ = envs.reset(seed=[None, 7, None], options={"reset_mask": np.array([False, True, False])})
        assert obs["pixels"][:, 0, 0, 0].tolist() == [1, 0, 1]
        assert obs["state"][1].tolist() == Walk().reset(seed=7)[0]["state"].tolist()
        assert not envs.step(np.ones((3, 2), np.float32))[4]["lost"].any()
    finally:
        envs.close()


def test_one_that_is_stopped_does_not_hang_the_end(caplog: pytest.LogCaptureFixture) -> None:
    envs = workers(Walk, Walk)
    processes = [worker.process for worker in envs._workers]
    os.kill(envs.pids()[0], signal.SIGSTOP)
    began = time.monotonic()
    envs.close()
    assert time.monotonic() - began < 10
    assert not any(process.is_alive() for process in processes)


def test_a_world_that_cannot_be_made() -> None:
    def broken() -> gymnasium.Env:
        raise FileNotFoundError("scene.xml")

    with pytest.raises(UserError, match=r"did not start: FileNotFoundError: scene\.xml"):
        workers(Walk, broken)


@pytest.mark.slow
def test_spawned_as_users_get_them() -> None:
    envs = make("Pendulum-v1", n=2, sensors=["state"], parallel=True, timeout_s=30, restarts=1)
    try:
        first, _ = envs.reset(seed=3)
        os.kill(envs.pids()[0], signal.SIGKILL)  # type: ignore[attr-defined]
        assert envs.step(np.zeros((2, 1), np.float32))[4]["lost"].tolist() == [True, False]
        again, _ = envs.reset(seed=[3, None], options={"reset_mask": np.array([True, False])})
        assert np.array_equal(again["state"][0], first["state"][0])
    finally:
        envs.close()
