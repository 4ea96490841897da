"""`split` episodes into two sets, and draw `Clips` from one of them as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import torch

from innerworld.data.store import Store
from innerworld.errors import UserError
from innerworld.types import Clip, Spec


def split(episodes: Store | int, held_out: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Part the episodes, before any clip is cut, into those to learn from and those `held_out` (a share in [0, 1)).

    Both are sorted indices. With a share above 0 neither is empty. Raises `UserError` where that cannot be.
    """
    n = episodes if isinstance(episodes, int) else len(episodes)
    if not 0 <= held_out < 1:
        raise UserError(f"held_out is a share in [0, 1), got {held_out}")
    if n < (2 if held_out else 1):
        raise UserError(f"cannot split {n} episodes: collect more, or set held_out=0")
    k = min(max(round(n * held_out), 1), n - 1) if held_out else 0
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[k:]), np.sort(order[:k])


def spec_of_skip(spec: Spec, frame_skip: int) -> Spec:
    """The same world at every `frame_skip`-th frame, where an action is the `frame_skip` ones in between, joined.

    Raises `UserError` for discrete actions: several one-hot choices joined are no longer one.
    """
    if frame_skip < 1:
        raise UserError(f"frame_skip must be at least 1, got {frame_skip}")
    if frame_skip > 1 and spec.discrete:
        raise UserError(f"frame_skip={frame_skip} joins actions, which discrete ones do not allow: use frame_skip=1")
    return replace(spec, action=spec.action * frame_skip)


class Clips:
    """Random stretches of `length` actions out of some `episodes` of a store, `batch` at a time.

    Every place where a clip fits is equally likely. With `frame_skip` = k only every k-th frame is read, the k actions
    in between are joined into one (`b t (k a)`, as in LeWorldModel), their rewards added; `length` counts joined
    actions. `batch(step)` depends on nothing but (seed, step), so that resuming a training run needs no sampler state.

    Raises `UserError` for an episode or sensor the store lacks, and if no episode is long enough.
    """

    def __init__(
        self,
        store: Store,
        episodes: Sequence[int] | np.ndarray,
        length: int,
        batch: int,
        seed: int = 0,
        frame_skip: int = 1,
        sensors: Sequence[str] | None = None,
    ) -> None:
        if length < 1 or batch < 1:
            raise UserError(f"a batch needs at least one clip of at least one action, got {batch} of {length}")
        self.store = store
        self.length = length
        self.size = batch
        self.seed = seed
        self.frame_skip = frame_skip
        seen = store.spec if sensors is None else store.spec.only(*sensors)
        self.spec = spec_of_skip(seen, frame_skip)
        self._windows(np.asarray(episodes, np.int64))

    def _windows(self, episodes: np.ndarray) -> None:
        """Count the starts in each episode: with their running sum, a number alone says which episode and where."""
        if len(episodes) and not 0 <= episodes.min() <= episodes.max() < len(self.store):
            wrong = episodes[(episodes < 0) | (episodes >= len(self.store))][0]
            raise UserError(f"{self.store.path} has no episode {wrong}: it has {len(self.store)}, counted from 0")
        need = self.length * self.frame_skip
        lengths = self.store.lengths[episodes]
        enough = lengths >= need
        self.too_short = int((~enough).sum())
        if not enough.any():
            skip = f" (length {self.length} x frame_skip {self.frame_skip})" if self.frame_skip > 1 else ""
            raise UserError(
                f"no episode has the {need} actions of a clip{skip}: the longest of {len(episodes)} "
                f"has {lengths.max(initial=0)}; choose a shorter clip"
            )
        kept = episodes[enough]
        starts = lengths[enough] - need + 1
        self._ends = np.cumsum(starts)
        self._begins = self._ends - starts
        self._shard = self.store.shard_of[kept]
        self._obs_row = self.store.obs_row[kept]
        self._action_row = self.store.action_row[kept]

    @property
    def windows(self) -> int:
        """How many different clips there are."""
        return int(self._ends[-1])

    def __iter__(self) -> Iterator[Clip]:
        return (self.batch(step) for step in count())

    def batch(self, step: int) -> Clip:
        """The clips of training step `step`: frames `uint8` `b t+1 y x c`, vectors float `b t+1 n`; always the same."""
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(self.seed, spawn_key=(step,))))
        return self.cut(rng.integers(self.windows, size=self.size))

    def cut(self, window: np.ndarray) -> Clip:
        """The clips of these numbers in `range(windows)`: `b` ints, which run through the episodes one by one."""
        episode = np.searchsorted(self._ends, window, side="right")  # b
        start = window - self._begins[episode]  # b
        return self._read(self._shard[episode], self._obs_row[episode] + start, self._action_row[episode] + start)

    def _read(self, shard: np.ndarray, obs_row: np.ndarray, action_row: np.ndarray) -> Clip:
        b, t, k = len(shard), self.length, self.frame_skip
        obs = {sensor: np.empty((b, t + 1, *shape), _dtype(shape)) for sensor, shape in self.spec.obs.items()}
        action = np.empty((b, t * k, self.store.spec.action), np.float32)
        reward = np.empty((b, t * k), np.float32)
        terminated = np.empty((b, t * k), np.bool_)
        # In the order of the disk, so that each shard is opened once; every clip still lands in its own row.
        order = np.lexsort((action_row, shard))
        places = zip(
            order.tolist(), shard[order].tolist(), obs_row[order].tolist(), action_row[order].tolist(), strict=True
        )
        for row, at, o, a in places:
            columns = self.store.arrays(at)
            for sensor, frames in obs.items():
                frames[row] = columns[f"obs.{sensor}"][o : o + t * k + 1 : k]
            action[row] = columns["action"][a : a + t * k]
            reward[row] = columns["reward"][a : a + t * k]
            terminated[row] = columns["terminated"][a : a + t * k]
        return Clip(
            {sensor: torch.from_numpy(frames) for sensor, frames in obs.items()},
            torch.from_numpy(action.reshape(b, t, -1)),
            torch.from_numpy(reward.reshape(b, t, k).sum(2)),
            torch.from_numpy(terminated.reshape(b, t, k).any(2)),
        )


def _dtype(shape: tuple[int, ...]) -> type[np.generic]:
    return np.uint8 if len(shape) == 3 else np.float32
