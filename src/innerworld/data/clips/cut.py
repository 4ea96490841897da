"""`Cutter`: clips of one shape out of one store, given where each begins: frame skip, joined actions, history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from innerworld.data.clips.buffers import Buffers
from innerworld.data.clips.rows import Late, OpenShard, Rows
from innerworld.data.store.record import obs_dtype
from innerworld.data.store.store import Store
from innerworld.errors import UserError, choose
from innerworld.types import Clip, Spec

Actions = Literal["join", "sum"]


def spec_of_skip(spec: Spec, frame_skip: int, actions: Actions = "join") -> Spec:
    """The same world at every `frame_skip`-th frame, where an action stands for the `frame_skip` ones in between.

    `join` puts them one after another (its size grows). `sum` adds them up and divides by `frame_skip`, so that 1
    stands for `frame_skip` times as much as before: for actions that are differences; doing it means to repeat it.
    Raises `UserError` for discrete actions: several one-hot choices are no longer one.
    """
    if frame_skip < 1:
        raise UserError(f"frame_skip must be at least 1, got {frame_skip}")
    choose("treatment of skipped actions", actions, {"join": 0, "sum": 0})
    if frame_skip > 1 and spec.discrete:
        raise UserError(f"frame_skip={frame_skip} joins actions, which discrete ones do not allow: use frame_skip=1")
    return replace(spec, action=spec.action * frame_skip) if actions == "join" else spec


@dataclass(frozen=True)
class Batch:
    """Memory for a batch, filled by one or several cutters of the same shape."""

    obs: dict[str, np.ndarray]  # b t+1 ...
    action: np.ndarray  # b (t k) a
    reward: np.ndarray  # b (t k)
    terminated: np.ndarray  # b (t k)


class Cutter:
    """`length` actions of `frame_skip` steps each, after `history` more; `spec` is what the clips look like.

    Before an episode begins its first frame stands in for what came earlier, with actions and rewards of zero.
    """

    def __init__(
        self, store: Store, length: int, frame_skip: int, sensors: Sequence[str] | None, actions: Actions, history: int
    ) -> None:
        if length < 1 or history < 0:
            raise UserError(f"a clip needs at least one action and history 0 or more, got {length} and {history}")
        self.store = store
        self.length = length
        self.frame_skip = frame_skip
        self.actions = actions
        self.history = history
        self.spec = spec_of_skip(store.spec if sensors is None else store.spec.only(*sensors), frame_skip, actions)
        self._rows = Rows(store)
        self._buffers = Buffers()

    @property
    def span(self) -> int:
        """The steps of an episode that a clip takes, without its history."""
        return self.length * self.frame_skip

    def empty(self, b: int) -> Batch:
        t, k = self.history + self.length, self.frame_skip
        return Batch(
            {
                sensor: self._buffers.empty((b, t + 1, *shape), obs_dtype(shape))
                for sensor, shape in self.spec.obs.items()
            },
            np.empty((b, t * k, self.store.spec.action), np.float32),
            np.empty((b, t * k), np.float32),
            np.empty((b, t * k), np.bool_),
        )

    def fill(self, batch: Batch, rows: np.ndarray, episode: np.ndarray, start: np.ndarray) -> None:
        """Read into some `rows` of the batch the clips that begin at these steps of these episodes (each `b` ints).

        Raises `UserError` that names the file and the episode if it cannot be read.
        """
        k, store = self.frame_skip, self.store
        first = start - self.history * k  # b
        missing = np.maximum(0, -(first // k))  # b   whole steps before the episode began
        first = first + missing * k
        shard = store.shard_of[episode]
        # In the order of the disk, so that each shard is opened once; every clip still lands in its own row.
        order = np.lexsort((first, episode, shard))
        places = zip(
            rows[order].tolist(),
            episode[order].tolist(),
            shard[order].tolist(),
            (store.obs_row[episode] + first)[order].tolist(),
            (store.action_row[episode] + first)[order].tolist(),
            missing[order].tolist(),
            strict=True,
        )
        late: list[Late] = []
        owners: list[int] = []
        number, file = -1, None
        for row, who, at, o, a, before in places:
            try:
                if at != number or file is None:
                    number, file = at, self._rows.shard(at)
                self._take(file, batch, row, o, a, before, late)
            except (UserError, OSError, ValueError) as error:
                raise _named(error, store, who) from error
            owners += [who] * (len(late) - len(owners))
        self._finish(late, owners)
        for row in rows[missing > 0].tolist() if self.history else ():
            before = int(missing[rows == row][0])
            for frames in batch.obs.values():
                frames[row, :before] = frames[row, before]

    def _take(self, file: OpenShard, batch: Batch, row: int, o: int, a: int, before: int, late: list[Late]) -> None:
        for sensor, frames in batch.obs.items():
            file.take(f"obs.{sensor}", o, self.frame_skip, frames[row, before:], late)
        skipped = before * self.frame_skip
        for name, values in (("action", batch.action), ("reward", batch.reward), ("terminated", batch.terminated)):
            values[row, :skipped] = 0
            file.take(name, a, 1, values[row, skipped:], late)

    def clip(self, batch: Batch) -> Clip:
        """The batch as tensors over the same memory."""
        b, k = len(batch.action), self.frame_skip
        t = self.history + self.length
        action = batch.action.reshape(b, t, k, -1) if batch.action.size else batch.action.reshape(b, t, k, 0)
        done = action.reshape(b, t, k * action.shape[3]) if self.actions == "join" else action.mean(2)
        return Clip(
            {sensor: torch.from_numpy(frames) for sensor, frames in batch.obs.items()},
            torch.from_numpy(done),
            torch.from_numpy(batch.reward.reshape(b, t, k).sum(2)),
            torch.from_numpy(batch.terminated.reshape(b, t, k).any(2)),
        )

    def frames(self, episode: np.ndarray, at: np.ndarray) -> dict[str, np.ndarray]:
        """Single observations, `b ...` each: step `at` of these episodes."""
        out = {name: value[:, None] for name, value in self._frames(len(episode)).items()}  # b 1 ...
        late: list[Late] = []
        owners: list[int] = []
        o = (self.store.obs_row[episode] + at).tolist()
        for row, (who, shard) in enumerate(zip(episode.tolist(), self.store.shard_of[episode].tolist(), strict=True)):
            try:
                file = self._rows.shard(shard)
                for sensor, frames in out.items():
                    file.take(f"obs.{sensor}", o[row], 1, frames[row], late)
            except (UserError, OSError, ValueError) as error:
                raise _named(error, self.store, who) from error
            owners += [who] * (len(late) - len(owners))
        self._finish(late, owners)
        return {name: value[:, 0] for name, value in out.items()}

    def _frames(self, b: int) -> dict[str, np.ndarray]:
        return {sensor: np.empty((b, *shape), obs_dtype(shape)) for sensor, shape in self.spec.obs.items()}

    def _finish(self, late: list[Late], owners: list[int]) -> None:
        """Wait for what was not in memory."""
        for read in late:
            read.advise()
        for read, who in zip(late, owners, strict=True):
            try:
                read.wait()
            except UserError as error:
                raise _named(error, self.store, who) from error


def _named(error: Exception, store: Store, episode: int) -> UserError:
    what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return UserError(f"cannot read episode {episode} of {store.name}: {what}")
