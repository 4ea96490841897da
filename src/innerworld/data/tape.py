"""`Tape`: records one environment's current episode into arrays that grow by doubling and are used again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from innerworld.types import Clip, Spec

ROOM = 64
"""Steps that a tape holds at first."""


class Tape:
    """`begin`, `look`, then `act` and `look` by turns; at the end `clip` is the episode. Records only if `recorded`."""

    def __init__(self, spec: Spec) -> None:
        self.number = 0
        self.length = 0  # actions so far
        self.recorded = False
        self._obs = {
            sensor: np.empty((ROOM + 1, *shape), np.uint8 if len(shape) == 3 else np.float32)
            for sensor, shape in spec.obs.items()
        }
        self._action = np.empty((ROOM, spec.action), np.float32)
        self._reward = np.empty(ROOM, np.float32)
        self._terminated = np.empty(ROOM, np.bool_)

    @property
    def bytes(self) -> int:
        """Of what was seen so far."""
        return sum(frames[: self.length + 1].nbytes for frames in self._obs.values())

    def begin(self, number: int, recorded: bool) -> None:
        """A new episode, the `number`-th to start; forgets the last."""
        self.number = number
        self.length = 0
        self.recorded = recorded

    def discard(self) -> int:
        """Record no more of this episode; its number."""
        self.recorded = False
        return self.number

    def look(self, obs: Mapping[str, np.ndarray], row: int) -> None:
        """What is seen now: `row` of each sensor `n ...`."""
        if self.recorded:
            for sensor, frames in self._obs.items():
                frames[self.length] = obs[sensor][row]

    def act(self, action: np.ndarray, reward: float, terminated: bool) -> None:
        """An action (`a`) and what came of it."""
        if self.recorded:
            if self.length == len(self._action):
                self._grow()
            self._action[self.length] = action
            self._reward[self.length] = reward
            self._terminated[self.length] = terminated
        self.length += 1

    def clip(self) -> Clip:
        """The episode (b = 1), copied off the tape."""
        t = self.length
        return Clip(
            {sensor: torch.from_numpy(frames[: t + 1].copy())[None] for sensor, frames in self._obs.items()},
            torch.from_numpy(self._action[:t].copy())[None],
            torch.from_numpy(self._reward[:t].copy())[None],
            torch.from_numpy(self._terminated[:t].copy())[None],
        )

    def _grow(self) -> None:
        self._obs = {sensor: _longer(frames, self.length) for sensor, frames in self._obs.items()}
        self._action = _longer(self._action, self.length)
        self._reward = _longer(self._reward, self.length)
        self._terminated = _longer(self._terminated, self.length)


def _longer(array: np.ndarray, more: int) -> np.ndarray:
    return np.concatenate([array, np.empty((more, *array.shape[1:]), array.dtype)])
