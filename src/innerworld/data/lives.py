"""`Lives`: worlds that are lived in side by side, where the next episode begins by itself; counts what they bring."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import VectorEnv

from innerworld.data.stepping import (
    Sensors,
    check_action,
    check_envs,
    check_obs,
    check_reward,
    reset,
    seeds_from,
    step,
    to_env,
)
from innerworld.types import Spec

SUSPICIOUS = 100  # episodes of one step each, after which to ask whether that is meant
logger = logging.getLogger(__name__)


@dataclass
class Life:
    """An episode that is under way."""

    number: int = 0
    length: int = 0  # actions so far
    rewards: float = 0.0
    recorded: bool = True


@dataclass(frozen=True)
class Over:
    """An episode that has ended: how many actions it had, and the sum of its rewards."""

    number: int
    length: int
    total: float


@dataclass(frozen=True)
class Outcome:
    """What came of one action in every world."""

    reward: np.ndarray  # n
    terminated: np.ndarray  # n   the world ended
    ended: np.ndarray  # n   the episode did
    lost: np.ndarray  # n   the world was lost with it: what is seen now is nothing
    over: list[Over]  # whole episodes


class Lives:
    """`obs` is what is seen now, each `n ...`, `first` where an episode begins with it, `n`.

    After a `step` in which episodes ended, `obs` shows their last sight until `begin`. Episode k begins with a seed of
    its own, which follows from `seed` and k; the first has the number `begun`. `envs` must have
    `AutoresetMode.DISABLED`. Raises `UserError` for worlds that do not fit `spec`, fail, show something else than they
    promise, or give numbers that are not finite.
    """

    def __init__(self, envs: VectorEnv, spec: Spec, seed: int = 0, begun: int = 0) -> None:
        self.envs, self.spec, self.n = envs, spec, envs.num_envs
        self._choices_from = check_envs(envs, spec)
        self._seeds = seeds_from(seed)
        self.begun = begun
        self.lives = [Life() for _ in range(self.n)]
        self.first = np.ones(self.n, np.bool_)
        self._short = 0  # episodes of one step, as long as there are no others
        self.obs: Sensors = {}
        self.begin()

    def begin(self) -> None:
        """Begin new episodes where the last have ended."""
        for row in np.flatnonzero(self.first).tolist():
            self.lives[row] = Life(self.begun)
            self.begun += 1
        self.obs = reset(self.envs, self.first, [self._seeds + life.number for life in self.lives], None, self.lives)
        check_obs(self.obs, self.spec, self.lives)

    def step(self, action: np.ndarray) -> Outcome:
        """Act, `n a`."""
        action = check_action(action, self.spec, self.n)
        seen = step(self.envs, to_env(action, self.spec, self._choices_from), self.lives)
        self.obs, reward, terminated, truncated, lost_rows = seen
        lost = np.isin(np.arange(self.n), lost_rows)
        for life, gained in zip(self.lives, reward.tolist(), strict=True):
            life.length += 1
            life.rewards += gained
        check_obs(self.obs, self.spec, self.lives)
        check_reward(reward, self.lives)
        self.first = np.asarray(terminated | truncated | lost, np.bool_)
        over = [self.lives[row] for row in np.flatnonzero(self.first & ~lost).tolist()]
        self._look_at_length(over)
        return Outcome(
            np.asarray(reward, np.float32),
            np.asarray(terminated, np.bool_) & ~lost,
            self.first,
            lost,
            [Over(life.number, life.length, life.rewards) for life in over],
        )

    def _look_at_length(self, over: list[Life]) -> None:
        """A world in which nothing follows from anything may be meant so, and mostly is not: say it once."""
        if self._short < 0 or not over:
            return
        if any(life.length > 1 for life in over):
            self._short = -1
            return
        self._short += len(over)
        if self._short >= SUSPICIOUS:
            logger.warning("each of the first %d episodes ended at its first step: is the world right?", self._short)
            self._short = -1
