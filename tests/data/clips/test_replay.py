"""Online sampling: new experience first, surprising experience first, and both go on exactly from a saved state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from innerworld.data import Clips, Store
from innerworld.data.clips.prefetch import Prefetched
from innerworld.data.clips.replay import Prioritised, Recent
from innerworld.errors import UserError

Numbered = Callable[..., Store]


def test_the_chance_halves_with_every_half_life(numbered: Numbered):
    clips = Clips(numbered([100]), None, length=1, batch=40000)
    time = Recent(clips, half_life=20, uniform=0).batch(0).obs["state"][:, 0, 1]
    counts = torch.tensor([int(((time >= 20 * i) & (time < 20 * i + 20)).sum()) for i in range(5)]).float()
    torch.testing.assert_close(counts[1:] / counts[:-1], torch.full((4,), 2.0), rtol=0.08, atol=0)
    even = Recent(clips, half_life=1, uniform=0.5).batch(0).obs["state"][:, 0, 1]
    assert float((even < 90).float().mean()) == pytest.approx(0.45, abs=0.02)


def test_recent_takes_in_what_came_and_goes_on_from_what_it_knew(numbered: Numbered):
    store = numbered([9, 9, 9])
    recent = Recent(Clips(store, None, 2, 64), half_life=3, uniform=0)
    assert 3 not in recent.batch(1).obs["state"][:, 0, 0]
    saved = recent.state_dict()
    expected = recent.batch(1).obs["state"]
    store.add(numbered([9, 9, 9, 9], "more").episode(3))
    assert recent.refresh() == 8
    assert 3 in recent.batch(1).obs["state"][:, 0, 0]
    resumed = Recent(Clips(Store.open(store.path), None, 2, 64), half_life=3, uniform=0)
    resumed.load_state_dict(saved)
    assert torch.equal(resumed.batch(1).obs["state"], expected)
    with pytest.raises(UserError, match="has 3 episodes, 9 when the state was saved"):
        Recent(Clips(numbered([9, 9, 9], "other"), None, 2, 4), 3).load_state_dict({"episodes": torch.tensor(9)})


def test_windows_are_drawn_in_proportion_to_their_priority(numbered: Numbered):
    clips = Clips(numbered([9]), None, length=2, batch=8000)
    replay = Prioritised(clips, alpha=1.0, beta=1.0)
    replay.update(np.arange(8), torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 12]))
    windows = replay.windows(0)
    assert np.array_equal(windows, replay.clips.store.episode(0).obs["state"][0, :, 1].numpy()[windows])
    assert np.array_equal(replay.batch(0).obs["state"][:, 0, 1].numpy(), windows)
    counts = np.bincount(windows, minlength=8)
    assert abs(counts - 200 * np.array([1, 2, 3, 4, 5, 6, 7, 12])).max() <= 2  # layers leave little to chance
    weighted = np.bincount(windows, weights=replay.weights(0).numpy(), minlength=8)
    assert weighted.max() / weighted.min() == pytest.approx(1, rel=0.02)


def test_it_goes_on_exactly_from_a_saved_state_while_the_store_grows(numbered: Numbered, tmp_path: Path):
    store = numbered([9, 9, 5])
    replay = Prioritised(Clips(store, None, 2, 6))
    rng = np.random.default_rng(0)

    def go(replay: Prioritised, steps: range) -> list[list[int]]:
        drawn = []
        for step in steps:
            windows = replay.windows(step)
            replay.update(windows, np.random.default_rng(step).exponential(size=6) + 0.1)
            drawn.append(windows.tolist())
        return drawn

    go(replay, range(5))
    store.add(numbered([9, 9], "more").episode(1))
    assert replay.refresh() == 8
    go(replay, range(5, 9))
    save_file(replay.state_dict(), tmp_path / "replay.safetensors")
    expected = go(replay, range(9, 20))
    resumed = Prioritised(Clips(Store.open(store.path), None, 2, 6))
    resumed.load_state_dict(load_file(tmp_path / "replay.safetensors"))
    assert go(resumed, range(9, 20)) == expected
    with pytest.raises(UserError, match="priorities are finite numbers"):
        replay.update(np.arange(6), rng.normal(size=6))
    with pytest.raises(UserError, match="of 28 windows, here are"):
        Prioritised(Clips(store, None, 3, 6)).load_state_dict(resumed.state_dict())


def test_new_windows_are_drawn_soon(numbered: Numbered):
    store = numbered([9, 9])
    replay = Prioritised(Clips(store, None, 2, 64), alpha=1)
    replay.update(np.arange(16), np.full(16, 0.01))
    store.add(numbered([9, 9, 9], "more").episode(2))
    replay.refresh()
    assert float((replay.batch(0).obs["state"][:, 0, 0] == 2).float().mean()) > 0.9


def test_they_are_not_prefetched(numbered: Numbered):
    clips = Clips(numbered([9]), None, 2, 4)
    for sampler in (Recent(clips, 3), Prioritised(clips)):
        with pytest.raises(UserError, match="cannot be prefetched"):
            Prefetched(sampler)
