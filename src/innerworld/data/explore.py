"""Policies without a goal, to gather experience with: `Uniform`, and `Smooth`, which keeps a direction for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from innerworld.errors import UserError
from innerworld.types import Spec

Policy = Callable[[dict[str, np.ndarray], np.random.Generator], np.ndarray]
"""(each sensor `n ...`, rng) → actions `n a` in the library's units: floats in [-1, 1], or one-hot."""


@runtime_checkable
class Remembers(Protocol):
    """A policy with a memory of each environment, which must not outlive the episode."""

    def begin(self, started: np.ndarray, rng: np.random.Generator) -> None:
        """Episodes begin where `started` (`n` bool) is true: forget there what was before."""
        ...


class Uniform:
    """Every action equally likely, each independent of the last."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def __call__(self, obs: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        n = len(next(iter(obs.values())))
        if self.spec.discrete:
            return _one_hot(rng.integers(self.spec.action, size=n), self.spec.action)
        return rng.uniform(-1, 1, (n, self.spec.action)).astype(np.float32)


class Smooth:
    """Actions that resemble the one before: exploration that gets somewhere.

    Continuous: an Ornstein–Uhlenbeck process sampled in time, with correlation `memory` from step to step, sent through
    the normal distribution function, so that each action by itself is uniform on [-1, 1]. Discrete: repeat the last
    choice with probability `memory`, else choose anew.
    """

    def __init__(self, spec: Spec, memory: float = 0.9) -> None:
        if not 0 <= memory < 1:
            raise UserError(f"the memory of a smooth policy lies in [0, 1), got {memory}")
        self.spec = spec
        self.memory = memory
        self._last = np.zeros((0, spec.action))  # n a

    def begin(self, started: np.ndarray, rng: np.random.Generator) -> None:
        fresh = self._draw(len(started), rng)
        last = self._last if len(self._last) == len(started) else fresh
        self._last = np.where(started[:, None], fresh, last)

    def __call__(self, obs: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        n = len(next(iter(obs.values())))
        if len(self._last) != n:
            self.begin(np.ones(n, np.bool_), rng)
        now, fresh = self._last, self._draw(n, rng)
        if self.spec.discrete:
            self._last = np.where(rng.random((n, 1)) < self.memory, now, fresh)
            return now.astype(np.float32)
        self._last = self.memory * now + np.sqrt(1 - self.memory**2) * fresh
        return torch.erf(torch.from_numpy(now) / np.sqrt(2)).numpy().astype(np.float32)

    def _draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Where an episode may begin: the distribution that the process keeps."""
        if self.spec.discrete:
            return _one_hot(rng.integers(self.spec.action, size=n), self.spec.action)
        return rng.standard_normal((n, self.spec.action))


def _one_hot(choice: np.ndarray, a: int) -> np.ndarray:
    return np.eye(a, dtype=np.float32)[choice]


POLICIES: dict[str, type[Uniform] | type[Smooth]] = {"smooth": Smooth, "uniform": Uniform}
"""The explorers there are, by name; each is made of a `Spec`."""
