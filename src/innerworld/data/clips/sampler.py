"""`Sampler`: batches of clips whose places are drawn first and read then; what `Clips`, `Mixture` and others share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from innerworld.data.clips.cut import Cutter
from innerworld.errors import UserError
from innerworld.types import Clip, Spec


@dataclass(frozen=True)
class Places:
    """Where the clips of a batch begin: each `b` ints."""

    source: np.ndarray  # which of the sampler's cutters reads it
    episode: np.ndarray
    start: np.ndarray  # steps from the episode's first observation to the clip's, history not counted

    def cut(self, start: int, stop: int) -> Places:
        return Places(self.source[start:stop], self.episode[start:stop], self.start[start:stop])


class Sampler(ABC):
    """Experience to learn from, `size` clips at a time."""

    size: int
    cutters: Sequence[Cutter]  # all of one shape

    @abstractmethod
    def places(self, step: int) -> Places:
        """Where the clips of training step `step` begin."""

    @property
    def spec(self) -> Spec:
        return self.cutters[0].spec

    def __iter__(self) -> Iterator[Clip]:
        return (self.batch(step) for step in count())

    def batch(self, step: int) -> Clip:
        """The clips of training step `step`: frames `uint8` `b t+1 y x c`, vectors float `b t+1 n`."""
        return self.rows(step, 0, self.size)

    def rows(self, step: int, start: int, stop: int) -> Clip:
        """Some of `batch(step)`, nothing else read: one process's share of a batch that several draw together."""
        if not 0 <= start < stop <= self.size:
            raise UserError(f"a batch of {self.size} clips has no rows {start} to {stop}")
        return read(self.cutters, self.places(step).cut(start, stop))

    def origin(self, step: int) -> list[str]:
        """Where each clip of `batch(step)` comes from, in words for a message."""
        places = self.places(step)
        rows = zip(places.source.tolist(), places.episode.tolist(), places.start.tolist(), strict=True)
        return [f"{self.cutters[source].store.name} episode {episode} from {start}" for source, episode, start in rows]


def read(cutters: Sequence[Cutter], places: Places) -> Clip:
    """The clips at these places. Raises `UserError` that names file and episode if one cannot be read."""
    batch = cutters[0].empty(len(places.episode))
    for source in np.unique(places.source).tolist():
        rows = np.flatnonzero(places.source == source)
        cutters[source].fill(batch, rows, places.episode[rows], places.start[rows])
    return cutters[0].clip(batch)


def random_state(seed: int, *key: int) -> np.random.Generator:
    """A stream of random numbers that depends on the seed and the key alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))
