"""`statistics.json`: mean, deviation and range of every sensor, action and reward; computed once, then kept up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from innerworld.activity import doing
from innerworld.config import Config, build
from innerworld.disk import write_atomic
from innerworld.errors import UserError

if TYPE_CHECKING:
    from innerworld.data.store.store import Store

STATISTICS = "statistics.json"
LEVELS = np.arange(256, dtype=np.float64)


class Moments(Config):
    """Of one column, per number of a vector, per channel of an image (in 0 to 255)."""

    count: int = Field(default=0, description="how many vectors, or pixels")
    mean: tuple[float, ...] = Field(default=(), description="arithmetic mean")
    std: tuple[float, ...] = Field(default=(), description="standard deviation, of the population")
    min: tuple[float, ...] = Field(default=(), description="smallest")
    max: tuple[float, ...] = Field(default=(), description="largest")


class Statistics(Config):
    """What `statistics.json` says; columns are named as in a shard: `obs.<sensor>`, `action`, `reward`."""

    episodes: int = Field(default=0, description="how many episodes were counted")
    next_episode: int = Field(default=0, description="those with smaller numbers are the ones that were counted")
    columns: dict[str, Moments] = Field(default={}, description="by column")


def statistics_of(store: Store, progress: Callable[[int, int], None] | None = None) -> Statistics:
    """Count the episodes that were not yet counted, and write the file where the store can be written."""
    known = _read(store)
    new = np.flatnonzero(store.numbers >= known.next_episode)
    if len(new) + known.episodes != len(store):  # some were lost or taken out: all anew
        known, new = Statistics(), np.arange(len(store))
    if not len(new):
        return known
    columns = dict(known.columns)
    with doing(f"counting {len(new)} episodes of {store.name}"):
        for done, i in enumerate(new.tolist(), 1):
            for name, moments in _moments(store, i):
                columns[name] = merged(columns[name], moments) if name in columns else moments
            if progress is not None:
                progress(done, len(new))
    found = Statistics(episodes=len(store), next_episode=int(store.numbers[-1]) + 1, columns=columns)
    _write(store, found)
    return found


def merged(one: Moments, other: Moments) -> Moments:
    """The moments of both together (Chan, Golub and LeVeque 1983, eq. 2.1)."""
    if not one.count or not other.count:
        return one if one.count else other
    n = one.count + other.count
    mean, mean_other = np.array(one.mean), np.array(other.mean)
    apart = mean_other - mean
    squares = np.square(one.std) * one.count + np.square(other.std) * other.count
    squares += np.square(apart) * (one.count * other.count / n)
    return Moments(
        count=n,
        mean=tuple((mean + apart * (other.count / n)).tolist()),
        std=tuple(np.sqrt(squares / n).tolist()),
        min=tuple(np.minimum(one.min, other.min).tolist()),
        max=tuple(np.maximum(one.max, other.max).tolist()),
    )


def _moments(store: Store, i: int) -> Iterator[tuple[str, Moments]]:
    """Of one episode, column by column."""
    arrays = store.arrays(int(store.shard_of[i]))
    t, row, first = int(store.lengths[i]), int(store.action_row[i]), int(store.obs_row[i])
    for sensor, shape in store.spec.obs.items():
        rows = arrays[f"obs.{sensor}"][first : first + t + 1]
        store.touched(rows.nbytes)
        yield f"obs.{sensor}", _of_images(rows) if len(shape) == 3 else _of_vectors(rows.reshape(-1, shape[-1]))
    yield "action", _of_vectors(arrays["action"][row : row + t])
    yield "reward", _of_vectors(arrays["reward"][row : row + t][:, None])


def _of_vectors(rows: np.ndarray) -> Moments:
    x = rows.astype(np.float64)  # t n
    return Moments(
        count=len(x),
        mean=tuple(x.mean(0).tolist()),
        std=tuple(x.std(0).tolist()),
        min=tuple(x.min(0).tolist()),
        max=tuple(x.max(0).tolist()),
    )


def _of_images(rows: np.ndarray) -> Moments:
    """By counting how often each of the 256 levels comes, which is exact and takes one pass."""
    counts = [np.bincount(rows[..., c].ravel(), minlength=256) for c in range(rows.shape[-1])]  # c x 256
    n = int(counts[0].sum())
    means = [float(count @ LEVELS) / n for count in counts]
    stds = [float(np.sqrt(count @ np.square(LEVELS - mean) / n)) for count, mean in zip(counts, means, strict=True)]
    seen = [np.flatnonzero(count) for count in counts]
    return Moments(
        count=n,
        mean=tuple(means),
        std=tuple(stds),
        min=tuple(float(levels[0]) for levels in seen),
        max=tuple(float(levels[-1]) for levels in seen),
    )


def _read(store: Store) -> Statistics:
    """What was counted before; nothing, where that cannot be read, for it can be counted again."""
    text = store.text(STATISTICS)
    if text is None:
        return Statistics()
    try:
        values = json.loads(text)
        return build(Statistics, values) if isinstance(values, dict) else Statistics()
    except (ValueError, RecursionError, UserError):
        return Statistics()


def _write(store: Store, found: Statistics) -> None:
    if store.here:
        try:
            write_atomic(store.path / STATISTICS, [found.model_dump_json(indent=2).encode() + b"\n"])
        except UserError:
            return  # a folder of somebody else's, or a full disk: the answer is good all the same
