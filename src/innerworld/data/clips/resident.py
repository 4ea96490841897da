"""`Slide`: a random order that asks for a few shards at a time, for stores larger than memory or far away."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from innerworld.data.clips.sampler import random_state


class Slide:
    """All windows on a line, shard after shard in a random order, drawn anew each time round; draws come from a stretch
    of the line that moves on by one batch a step.

    Every window is drawn once a round on average, whatever the sizes of the shards, and a shard is needed for
    `resident` shards' worth of steps in a row, once a round. The price: clips of one batch come from about `resident`
    shards only.
    """

    def __init__(self, shard: np.ndarray, starts: np.ndarray, resident: int, seed: int) -> None:
        """`shard` and `starts`, one entry for each episode: which shard it is in, and how many windows begin in it."""
        self._shard = shard
        self._starts = starts
        self._begins = np.cumsum(starts) - starts
        self._seed = seed
        self._windows = int(starts.sum())
        shards = len(np.unique(shard))
        self._stretch = max(1, round(self._windows * min(1.0, resident / shards)))
        self._round = lru_cache(2)(self._new_round)

    def draw(self, step: int, size: int) -> np.ndarray:
        """Numbers of `size` windows."""
        rng = random_state(self._seed, step)
        at = step * size + rng.integers(self._stretch, size=size)  # b   on the line
        turn, place = np.divmod(at, self._windows)
        drawn = np.empty(size, np.int64)
        for number in np.unique(turn).tolist():
            rows = turn == number
            order, ends = self._round(number)
            position = np.searchsorted(ends, place[rows], side="right")
            episode = order[position]
            drawn[rows] = self._begins[episode] + place[rows] - (ends[position] - self._starts[episode])
        return drawn

    def _new_round(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The episodes in this round's order, and how many windows there are up to each one's end."""
        shards, index = np.unique(self._shard, return_inverse=True)
        rank = random_state(self._seed, number, 1).permutation(len(shards))
        order = np.argsort(rank[index], kind="stable")
        return order, np.cumsum(self._starts[order])
