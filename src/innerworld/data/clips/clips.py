"""`split` episodes into two sets, and draw `Clips` from one of them as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerworld.data.clips.cut import Actions, Cutter
from innerworld.data.clips.resident import Slide
from innerworld.data.clips.sampler import Places, Sampler, random_state, read
from innerworld.data.store.store import Store
from innerworld.errors import UserError
from innerworld.types import Clip


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


class Clips(Sampler):
    """Random stretches of `length` actions out of some `episodes` of a store (None: all), `batch` at a time.

    Every place where a clip fits is equally likely. With `frame_skip` = k only every k-th frame is read, rewards in
    between are added, and the k `actions` joined into one (`b t (k a)`, as in LeWorldModel) or summed (see
    `spec_of_skip`); `length` counts these. `history` puts that many actions before each clip: an episode's first frame,
    with actions of zero, stands in for what came before it. `resident` = K draws from about K shards at a time, which
    is for stores larger than memory (see `Slide`).

    `batch(step)` depends on nothing but (seed, step), so that resuming a training run needs no sampler state.
    Raises `UserError` for an episode or sensor the store lacks, and if no episode is long enough.
    """

    def __init__(
        self,
        store: Store,
        episodes: Sequence[int] | np.ndarray | None,
        length: int,
        batch: int,
        seed: int = 0,
        frame_skip: int = 1,
        sensors: Sequence[str] | None = None,
        actions: Actions = "join",
        history: int = 0,
        resident: int | None = None,
    ) -> None:
        if length < 1 or batch < 1:
            raise UserError(f"a batch needs at least one clip of at least one action, got {batch} of {length}")
        if resident is not None and resident < 1:
            raise UserError(f"resident is a number of shards, at least 1, got {resident}")
        self.store = store
        self.length = length
        self.size = batch
        self.seed = seed
        self.frame_skip = frame_skip
        self.resident = resident
        self.cutters = (Cutter(store, length, frame_skip, sensors, actions, history),)
        self._grows = episodes is None
        self._index(np.arange(len(store)) if episodes is None else np.asarray(episodes, np.int64))

    def _index(self, episodes: np.ndarray) -> None:
        """Count the starts in each episode: with their running sum, a number alone says which episode and where."""
        if len(episodes) and not 0 <= episodes.min() <= episodes.max() < len(self.store):
            wrong = episodes[(episodes < 0) | (episodes >= len(self.store))][0]
            raise UserError(f"{self.store.name} has no episode {wrong}: it has {len(self.store)}, counted from 0")
        need = self.cutters[0].span
        lengths = self.store.lengths[episodes]
        enough = lengths >= need
        self.too_short = int((~enough).sum())
        if not enough.any():
            skip = f" (length {self.length} x frame_skip {self.frame_skip})" if self.frame_skip > 1 else ""
            raise UserError(
                f"no episode has the {need} actions of a clip{skip}: the longest of {len(episodes)} "
                f"has {lengths.max(initial=0)}; choose a shorter clip"
            )
        self._episodes = episodes[enough]
        starts = lengths[enough] - need + 1
        self._ends = np.cumsum(starts)
        self._begins = self._ends - starts
        shard = self.store.shard_of[self._episodes]
        self._slide = None if self.resident is None else Slide(shard, starts, self.resident, self.seed)

    @property
    def windows(self) -> int:
        """How many different clips there are."""
        return int(self._ends[-1])

    def refresh(self, episodes: int | None = None) -> int:
        """Take in the episodes that the store has got since (the first `episodes` of it); how many windows are new.

        Windows keep their numbers. Raises `UserError` if this sampler was given its episodes.
        """
        if not self._grows:
            raise UserError("these clips come from chosen episodes: give episodes=None to take in new ones")
        before = self.windows
        self._index(np.arange(len(self.store) if episodes is None else episodes))
        return self.windows - before

    def draw(self, step: int, size: int) -> np.ndarray:
        """Numbers of the `size` windows of training step `step`, in `range(windows)`."""
        if self._slide is not None:
            return self._slide.draw(step, size)
        return random_state(self.seed, step).integers(self.windows, size=size)

    def places(self, step: int) -> Places:
        return self.places_of(self.draw(step, self.size))

    def places_of(self, window: np.ndarray) -> Places:
        """Where the windows of these numbers are: they run through the episodes one by one."""
        at = np.searchsorted(self._ends, window, side="right")  # b
        return Places(np.zeros(len(at), np.int64), self._episodes[at], window - self._begins[at])

    def cut(self, window: np.ndarray) -> Clip:
        """The clips of these numbers in `range(windows)`: `b` ints."""
        return read(self.cutters, self.places_of(window))
