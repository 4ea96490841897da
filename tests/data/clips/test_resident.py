"""A sliding order asks for few shards at a time, and draws every window equally often all the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from innerworld.data import Clips, Store
from innerworld.data.clips.resident import Slide
from innerworld.errors import UserError

SHARD = np.repeat(np.arange(10), 3)
STARTS = np.array([5, 1, 9] * 10) + np.repeat(np.arange(10), 3)


def test_every_window_is_drawn_once_a_round_whatever_the_size_of_its_shard():
    slide = Slide(SHARD, STARTS, resident=3, seed=0)
    windows = int(STARTS.sum())
    rounds = 300
    drawn = np.concatenate([slide.draw(step, 19) for step in range(rounds * windows // 19)])
    counts = np.bincount(drawn, minlength=windows)
    assert len(counts) == windows
    # A Poisson's variance would be 300; the slide's is smaller or as large. Five deviations either way.
    assert abs(counts - rounds).max() < 5 * rounds**0.5


def test_few_shards_are_needed_at_a_time_and_each_once_a_round():
    slide = Slide(SHARD, STARTS, resident=3, seed=0)
    ends, windows = np.cumsum(STARTS), int(STARTS.sum())
    steps = windows // 4
    needed = [set(SHARD[np.searchsorted(ends, slide.draw(step, 4), side="right")]) for step in range(2 * steps)]
    spread = [set().union(*needed[i : i + 3]) for i in range(len(needed))]
    assert max(map(len, spread)) <= 5
    assert set().union(*needed[:steps]) == set(range(10))
    together = set().union(*needed[: steps // 10])
    assert len(together) <= 5


def test_it_is_a_pure_function_of_seed_and_step():
    a, b = Slide(SHARD, STARTS, 3, 0), Slide(SHARD, STARTS, 3, 0)
    a.draw(1, 8)
    assert np.array_equal(a.draw(70, 8), b.draw(70, 8))
    assert not np.array_equal(a.draw(70, 8), Slide(SHARD, STARTS, 3, 1).draw(70, 8))


def test_with_all_shards_resident_a_batch_comes_from_everywhere():
    drawn = Slide(SHARD, STARTS, resident=99, seed=0).draw(0, 5000)
    assert len(np.unique(drawn)) > 0.99 * STARTS.sum()


def test_clips_draw_that_way(numbered: Callable[..., Store]):
    store = numbered([9, 8, 7, 9, 8, 7])  # three shards
    clips = Clips(store, [5, 0, 1, 2, 3, 4], length=2, batch=4, resident=1)
    steps = clips.windows // 4
    seen = [set(store.shard_of[clips.places(step).episode]) for step in range(steps)]
    assert max(map(len, seen)) <= 2 and len(seen[0]) == 1
    assert clips.batch(3).obs["state"].shape == (4, 3, 2)
    with pytest.raises(UserError, match="number of shards"):
        Clips(store, None, 2, 4, resident=0)
