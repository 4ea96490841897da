"""What does it earn? The returns of whole episodes, fixed beforehand, that a policy lives through."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from innerworld.data.explore import Uniform
from innerworld.data.lives import Lives, Over
from innerworld.data.stepping import Sensors
from innerworld.errors import UserError
from innerworld.types import Spec

LONGEST = 100_000  # actions in an episode


class Acts(Protocol):
    """Chooses in several worlds at once, from what is seen there and where an episode begins: `n a`."""

    def act(self, obs: Sensors, first: np.ndarray) -> np.ndarray: ...


class AtRandom:
    """Every action equally likely: the floor."""

    def __init__(self, spec: Spec, seed: int = 0) -> None:
        self._policy, self._rng = Uniform(spec), np.random.default_rng(seed)

    def act(self, obs: Sensors, first: np.ndarray) -> np.ndarray:
        return self._policy(dict(obs), self._rng)


def earn(
    acts: Acts, lives: Lives, episodes: int, longest: int = LONGEST, tell: Callable[[int], None] | None = None
) -> list[Over]:
    """The first `episodes` episodes to begin in fresh `lives`; the first to end would favour the short ones.

    One that is lost with its world is replaced. Raises `UserError` for one that does not end.
    """
    wanted = set(range(lives.begun - lives.n, lives.begun - lives.n + episodes))
    found: list[Over] = []
    while wanted:
        numbers = [life.number for life in lives.lives]
        outcome = lives.step(acts.act(lives.obs, lives.first))
        for row in np.flatnonzero(outcome.lost).tolist():
            if numbers[row] in wanted:
                wanted.remove(numbers[row])
                wanted.add(max([lives.begun - 1, *wanted]) + 1)
        for over in outcome.over:
            if over.number in wanted:
                wanted.remove(over.number)
                found.append(over)
        if tell is not None and outcome.over:
            tell(len(found))
        for life, ended in zip(lives.lives, outcome.ended, strict=True):
            if life.number in wanted and not ended and life.length >= longest:
                raise UserError(f"episode {life.number} does not end within {longest} steps: give the world max_steps")
        if outcome.ended.any():
            lives.begin()
    return sorted(found, key=lambda over: over.number)


def summary(found: Sequence[Over]) -> Mapping[str, float]:
    """Mean, deviation and middle of the returns, the mean length in actions; of two episodes
    or more a 95 % interval of the mean, too."""
    totals = np.array([over.total for over in found])
    mean = float(totals.mean())
    told = {
        "episodes": float(len(totals)),
        "return": mean,
        "return_std": float(totals.std()),
        "return_median": float(np.median(totals)),
        "length": float(np.mean([over.length for over in found])),
    }
    if len(totals) > 1:
        half = float(1.96 * totals.std(ddof=1) / math.sqrt(len(totals)))
        told |= {"return_low": mean - half, "return_high": mean + half}
    return told
