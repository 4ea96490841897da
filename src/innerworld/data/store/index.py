"""`Index`: where each episode of a store lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from innerworld.data.store.part import Part


@dataclass(frozen=True)
class Index:
    """Arrays of one entry per episode, in the order of their numbers."""

    lengths: np.ndarray  # actions
    seeds: np.ndarray  # NO_SEED where unknown
    numbers: np.ndarray  # for life; they have gaps where episodes were lost
    shard_of: np.ndarray  # what `Store.arrays` is asked for
    action_row: np.ndarray  # its first row there among the actions,
    obs_row: np.ndarray  # and among the observations


def index_of(parts: Sequence[Part], names: Sequence[int]) -> Index:
    """`names`: what the parts are called in `shard_of`."""
    counts = [len(part.lengths) for part in parts]
    begins = _joined([part.starts()[:-1] for part in parts])
    within = _joined([np.arange(count) for count in counts])
    return Index(
        lengths=_joined([part.lengths for part in parts]),
        seeds=_joined([part.seeds for part in parts]),
        numbers=within + np.repeat(np.array([part.first for part in parts], np.int64), counts),
        shard_of=np.repeat(np.array(names, np.int64), counts),
        action_row=begins,
        obs_row=begins + within,
    )


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *arrays])
