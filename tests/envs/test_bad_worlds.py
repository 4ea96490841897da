"""What a user's own broken world does to a collection: one clear line, what had ended is stored, and never a hang."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from innerworld.data import Store, Uniform, collect
from innerworld.envs import make, make_one, spec_of
from innerworld.errors import UserError

WORLDS = '''
import time
import gymnasium
import numpy as np
from gymnasium import spaces


class World(gymnasium.Env):
    """Episodes of ten steps; the fault strikes in the third step of the second one."""

    def __init__(self, fault, render_mode=None):
        self.fault, self.render_mode, self.episode = fault, render_mode, 0
        bound = np.inf if fault == "unbounded" else 1
        self.observation_space = spaces.Box(-99, 99, (2,), np.float32)
        self.action_space = spaces.Box(-bound, bound, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.episode, self.t = self.episode + 1, 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        now = self.episode == 2 and self.t == 3
        if now and self.fault == "hangs":
            time.sleep(1000)
        if now and self.fault == "raises":
            raise RuntimeError("the gearbox\\nhas broken")
        obs = np.full(3 if now and self.fault == "shape" else 2, self.t, np.float32)
        if now and self.fault == "nan":
            obs[1] = np.nan
        reward = {"reward": np.nan, "infinite": -np.inf, "none": None}.get(self.fault, 1.0) if now else 1.0
        first = self.fault == "first"
        return obs, reward, first, self.t >= 10, {}


for fault in ("fine", "hangs", "raises", "shape", "nan", "reward", "infinite", "none", "first", "unbounded"):
    if f"{fault}-v0" not in gymnasium.registry:
        gymnasium.register(f"{fault}-v0", entry_point=World, kwargs={"fault": fault})
'''
FAULTS = {
    "raises": "RuntimeError: the gearbox has broken",
    "shape": r"sensor 'state' as float32 \(3,\), its space promises float32 \(2,\)",
    "nan": "sensor 'state' the value nan in dimension 1",
    "reward": "the reward nan: rewards must be finite numbers",
    "infinite": "the reward -inf: rewards must be finite numbers",
    "none": "the reward None: rewards must be finite numbers",
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "broken_worlds_of_a_test.py").write_text(WORLDS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_worlds_of_a_test", raising=False)
    return "broken_worlds_of_a_test"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_one_line_and_what_had_ended_is_stored(tmp_path: Path, module: str, fault: str) -> None:
    envs = make(f"{module}:{fault}-v0", sensors=["state"])
    spec = spec_of(envs.single_observation_space, envs.single_action_space)
    with pytest.raises(UserError, match=FAULTS[fault]) as error:
        collect(envs, Uniform(spec), 3, Store.create(tmp_path / "s", spec))
    assert "failed in step, one of the episodes 1 (step 2)" in str(error.value) and "\n" not in str(error.value)
    assert len(Store.open(tmp_path / "s")) == 1


@pytest.mark.parametrize("repeat", [1, 4])
def test_episodes_that_end_on_their_first_step_are_episodes(tmp_path: Path, module: str, repeat: int) -> None:
    envs = make(f"{module}:first-v0", 2, sensors=["state"], action_repeat=repeat)
    spec = spec_of(envs.single_observation_space, envs.single_action_space)
    store = Store.create(tmp_path / "s", spec)
    collect(envs, Uniform(spec), 5, store)
    assert len(store) == 5
    for i in range(5):
        clip = store.episode(i)
        assert clip.action.shape[1] == 1 and clip.reward is not None and clip.reward.tolist() == [[1.0]]
        assert clip.terminated is not None and clip.terminated.tolist() == [[True]]


def test_actions_without_bounds_need_some(module: str) -> None:
    with pytest.raises(UserError, match=r"^action dimension 0 has no bounds .*: give them with action_low"):
        make(f"{module}:unbounded-v0", sensors=["state"])
    bounded = make_one(f"{module}:unbounded-v0", sensors=["state"], action_low=-2, action_high=2)
    assert bounded.action_space.shape == (1,)


@pytest.mark.slow
def test_a_world_that_hangs_ends_with_an_error(tmp_path: Path, module: str) -> None:
    envs = make(f"{module}:hangs-v0", 2, sensors=["state"], parallel=True, timeout_s=1.0, restarts=0)
    spec = spec_of(envs.single_observation_space, envs.single_action_space)
    try:
        with pytest.raises(UserError, match=r"world \d failed in step: no answer within 1 s.*restarts"):
            collect(envs, Uniform(spec), 6, Store.create(tmp_path / "s", spec))
    finally:
        envs.close()
    assert len(Store.open(tmp_path / "s")) == 2
