"""The evaluator is unbiased: a world where half succeeds, slowly or quickly, whatever the number of worlds.

Who counts the first episodes to end counts those that are quick; who goes on to look after the end, another episode's
success.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Generator, Tensor

from innerworld.agent import Agent, AgentConfig
from innerworld.config import Config
from innerworld.data import Uniform
from innerworld.data.lives import Lives
from innerworld.errors import UserError
from innerworld.evaluate.control import Tasks, joined, play, play_policy, summary, wilson
from innerworld.evaluate.returns import AtRandom, earn
from innerworld.evaluate.returns import summary as earned
from innerworld.plan import RandomShooting
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel

SPEC = Spec({"state": (1,)}, 1)
GOAL, LOST = 99.0, -99.0
EPISODES, BUDGET = 448, 20


@cache
def fate(seed: int, late: bool = True) -> tuple[bool, int]:
    """Does the episode succeed, and after how many steps does it end? Successes are `late`, or else failures are."""
    rng = np.random.default_rng([seed, 4])
    wins = bool(rng.integers(2))
    return wins, int(rng.integers(12, 18) if wins == late else rng.integers(1, 4))


class Coin(gymnasium.Env):
    """A coin decides when the episode begins: a slow success, worth 1, or a quick failure."""

    late = True

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({"state": spaces.Box(LOST, GOAL, (1,), np.float32)})
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        self.wins, self.left = fate(int(seed or 0), self.late)
        return {"state": np.zeros(1, np.float32)}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.left -= 1
        over, end = self.left == 0, GOAL if self.wins else LOST
        return {"state": np.full(1, end if over else 0, np.float32)}, float(over and self.wins), over, False, {}


class Early(Coin):
    """The other way round: quick successes, slow failures."""

    late = False


class Coins:
    """The same as worlds with goals, whose fates their states tell; who has failed begins another episode by itself."""

    def __init__(self, n: int, late: bool = True) -> None:
        self.num_envs, self.late = n, late

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        self.number = np.array((options or {})["state"])[:, 0].astype(int)
        self.age = np.zeros(self.num_envs, int)
        return self._seen(np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)), {}

    def step(self, actions: np.ndarray) -> tuple[dict[str, Any], Any, Any, Any, dict]:
        self.age += 1
        fates = [fate(number, self.late) for number in self.number]
        ended = np.array([age >= last for age, (_, last) in zip(self.age, fates, strict=True)])
        won = ended & np.array([wins for wins, _ in fates])
        seen = self._seen(ended, won)
        self.number[ended] += 10_000  # the next episode
        self.age[ended] = 0
        never = np.zeros(self.num_envs, bool)
        return seen, np.zeros(self.num_envs), ended, never, {}

    def success(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.asarray(state)[..., 0] == GOAL

    def _seen(self, ended: np.ndarray, won: np.ndarray) -> dict[str, Any]:
        state = np.where(won, GOAL, np.where(ended, LOST, 0)).astype(np.float32)
        return {"state": state[:, None]}


class Blind(WorldModel):
    """Knows nothing of it."""

    class Config(Config):
        """Nothing to set."""

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"x": obs["state"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"x": state["x"] + action}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["x"] - goal["x"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def tasks(first: int, n: int) -> Tasks:
    """Those with the numbers from `first` on, which decide their fates."""
    start = np.arange(first, first + n, dtype=np.float32)[:, None]
    goal = np.full((n, 1), GOAL, np.float32)
    return Tasks(start, goal, {"state": torch.from_numpy(start)}, {"state": torch.from_numpy(goal)}, np.zeros(n, bool))


TRUE = np.array([fate(number)[0] for number in range(EPISODES)])


def half(hits: float, n: int) -> bool:
    """Is 50 % within the 95 % interval?"""
    low, high = wilson(hits, n)
    return low <= 0.5 <= high


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("n", [1, 7, 64])
def test_the_share_of_goals_reached_is_the_coins(n: int, late: bool) -> None:
    parts = [play_policy(Coins(n, late), tasks(i, n), Uniform(SPEC), BUDGET) for i in range(0, EPISODES, n)]
    played = joined(parts)
    np.testing.assert_array_equal(played.success, TRUE)
    found = summary(played, np.zeros(EPISODES, bool))
    assert found["episodes"] == EPISODES and found["success_low"] <= 0.5 <= found["success_high"]
    assert set(played.steps[~TRUE]) == {BUDGET} and (played.steps[TRUE].min() >= 12) == late


@pytest.mark.parametrize("n", [1, 7, 64])
def test_so_it_is_for_one_who_plans(n: int) -> None:
    few = 7 if n == 1 else n
    mind = Agent(Blind(Blind.Config(), SPEC), RandomShooting(horizon=1, samples=2), AgentConfig())
    parts = [play(Coins(n), tasks(i, n), mind, BUDGET) for i in range(0, few, n)]
    np.testing.assert_array_equal(joined(parts).success, TRUE[:few])


@pytest.mark.parametrize("kind", [Coin, Early])
@pytest.mark.parametrize("n", [1, 7, 64])
def test_so_is_the_mean_return(n: int, kind: type[Coin]) -> None:
    worlds = SyncVectorEnv([kind] * n, autoreset_mode=AutoresetMode.DISABLED)
    found = earn(AtRandom(SPEC), Lives(worlds, SPEC, seed=3), 200)
    told = earned(found)
    assert len(found) == 200 and told["return_low"] <= 0.5 <= told["return_high"]
    assert half(told["return"] * 200, 200)
    lengths = {over.length for over in found if over.total}
    assert (min(lengths) >= 12) == kind.late and lengths, "slow successes are among them"


@pytest.mark.parametrize("kind", [Coin, Early])
def test_who_counts_the_first_to_end_is_found_out(kind: type[Coin]) -> None:
    """The test can fail: of 64 worlds, the first 64 episodes to end are the quick ones above all."""
    worlds = SyncVectorEnv([kind] * 64, autoreset_mode=AutoresetMode.DISABLED)
    lives, ended = Lives(worlds, SPEC, seed=3), []
    while len(ended) < 64:
        outcome = lives.step(np.zeros((64, 1), np.float32))
        ended += outcome.over
        if outcome.ended.any():
            lives.begin()
    assert not half(sum(over.total for over in ended[:64]), 64)


def test_who_counts_what_comes_after_the_end_is_found_out() -> None:
    """Of worlds that begin anew by themselves, far more than half would succeed in the end, each in some episode."""
    worlds = Coins(64)
    worlds.reset(options={"state": tasks(0, 64).start})
    ever = np.zeros(64, bool)
    for _ in range(BUDGET):
        obs, *_ = worlds.step(np.zeros((64, 1), np.float32))
        ever |= worlds.success(obs["state"], obs["state"])
    assert not half(ever.sum(), 64) and ever.mean() > 0.65


def test_worlds_that_begin_anew_by_themselves_are_refused() -> None:
    class Goals(SyncVectorEnv):
        def success(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
            return np.asarray(state)[..., 0] == GOAL

    with pytest.raises(UserError, match=r"AutoresetMode\.DISABLED"):
        play_policy(Goals([Coin] * 2, autoreset_mode=AutoresetMode.NEXT_STEP), tasks(0, 2), Uniform(SPEC), BUDGET)
