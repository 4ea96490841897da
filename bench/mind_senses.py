"""Eyes that fail, and perception that does not know what to do about it: conditions of `bench/mind.py`'s table C."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from innerworld.agent.modules import Perception
from innerworld.types import Clip, Obs, State, each
from innerworld.world import WorldModel


class Flaky:
    """Shows pictures as numbers in [0, 1] to another perception, NaN where they are missing.

    In each world by itself they are missing in a `share` of the looks; all but every so many-th are missing, too.
    """

    state: State
    surprise: Tensor
    blind: Tensor

    def __init__(self, inner: Perception, share: float, every: int, seed: int) -> None:
        self.inner, self.share, self.every = inner, share, every
        self._rng = np.random.default_rng([seed, 40])

    def begin(self, obs: Obs) -> None:
        self._looks = 0
        self.inner.begin(_floats(obs))
        self._note()

    def look(self, obs: Obs, action: Tensor) -> None:
        self._looks += 1
        missing = torch.from_numpy(self._rng.random(len(action)) < self.share)
        if self._looks % self.every:
            missing[:] = True
        self.inner.look(each(lambda value: _without(value, missing), _floats(obs)), action)
        self._note()

    def refresh(self, clip: Clip, rows: Tensor) -> None:
        self.inner.refresh(clip, rows)
        self._note()

    def keep(self, rows: Tensor) -> None:
        self.inner.keep(rows)
        self._note()

    def _note(self) -> None:
        self.state, self.surprise, self.blind = self.inner.state, self.inner.surprise, self.inner.blind


class Zeros:
    """Encodes what it is given; what is not finite is black."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model

    def begin(self, obs: Obs) -> None:
        self.state: State = self.model.encode(obs)
        b = len(next(iter(obs.values())))
        self.surprise = torch.full((b,), torch.nan)
        self.blind = torch.zeros(b, dtype=torch.bool)

    def look(self, obs: Obs, action: Tensor) -> None:
        self.state = self.model.encode(each(torch.nan_to_num, obs), self.state, action)

    def refresh(self, clip: Clip, rows: Tensor) -> None:
        raise NotImplementedError("nobody learns here")

    def keep(self, rows: Tensor) -> None:
        self.state = each(lambda value: value[rows], self.state)
        self.surprise, self.blind = self.surprise[rows], self.blind[rows]


class Forgetful(Zeros):
    """Takes the last picture again where there is none."""

    def begin(self, obs: Obs) -> None:
        super().begin(obs)
        self._last = obs

    def look(self, obs: Obs, action: Tensor) -> None:
        self._last = {name: torch.where(value.isnan(), self._last[name], value) for name, value in obs.items()}
        super().look(self._last, action)

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self._last = each(lambda value: value[rows], self._last)


def _floats(obs: Obs) -> Obs:
    return each(lambda value: value.float() / 255 if value.dtype == torch.uint8 else value, obs)


def _without(value: Tensor, missing: Tensor) -> Tensor:
    return torch.where(missing.view(-1, *[1] * (value.ndim - 1)), torch.nan, value)
