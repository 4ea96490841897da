"""Clips are aligned, uniform over all places where they fit, and a pure function of (seed, step)."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from innerworld.data import Clips, Store, spec_of_skip, split
from innerworld.errors import UserError
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (2, 2, 1), "state": (2,)}, action=2)


def numbered(store: Store, lengths: list[int]) -> Store:
    """Episode e at time t shows (e, t); its action there is (t, e) / 100, its reward t; it terminates at the end."""
    for i in range(0, len(lengths), 2):
        store.add_all([numbered_episode(e, t) for e, t in list(enumerate(lengths))[i : i + 2]])
    return store


def numbered_episode(e: int, t: int) -> Clip:
    time, who = torch.arange(t + 1.0), torch.full((t + 1,), float(e))
    return Clip(
        {
            "pixels": (10 * e + time).to(torch.uint8)[None, :, None, None, None].expand(1, t + 1, 2, 2, 1),
            "state": torch.stack([who, time], -1)[None],
        },
        torch.stack([time, who], -1)[None, :-1] / 100,
        time[None, :-1],
        (time[1:] == t)[None],
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return numbered(Store.create(tmp_path / "s", SPEC), [9, 2, 5, 7, 3])


@given(st.integers(2, 300), st.floats(0.001, 0.99), st.integers(0, 5))
def test_split_parts_the_episodes(n: int, held_out: float, seed: int):
    train, held = split(n, held_out, seed)
    assert sorted([*train, *held]) == list(range(n))
    assert len(train) >= 1 and len(held) >= 1 and abs(len(held) - n * held_out) <= 1
    assert np.array_equal(train, np.sort(train))


def test_split_is_repeatable_takes_a_store_and_refuses_what_cannot_be(store: Store):
    assert all(np.array_equal(a, b) for a, b in zip(split(50, 0.2, 1), split(50, 0.2, 1), strict=True))
    assert not np.array_equal(split(50, 0.2, 1)[1], split(50, 0.2, 2)[1])
    assert [len(part) for part in split(store, 0.4)] == [3, 2]
    assert [len(part) for part in split(3, 0)] == [3, 0]
    for n, share in ((1, 0.1), (0, 0.0), (10, 1.0), (10, -0.1)):
        with pytest.raises(UserError):
            split(n, share)


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_every_clip_lies_in_one_episode_and_its_actions_lead_from_sight_to_sight(store: Store, skip: int):
    clips = Clips(store, [0, 1, 2, 3], length=2, batch=64, frame_skip=skip)
    clip = clips.batch(0)
    assert clip.obs["pixels"].shape == (64, 3, 2, 2, 1) and clip.obs["pixels"].dtype == torch.uint8
    assert clip.action.shape == (64, 2, 2 * skip) == (64, 2, clips.spec.action)
    who, time = clip.obs["state"].unbind(-1)  # b t+1
    assert bool((who == who[:, :1]).all())
    assert torch.equal(time[:, 1:] - time[:, :-1], torch.full((64, 2), float(skip)))
    assert torch.equal(clip.obs["pixels"][:, :, 0, 0, 0].float(), 10 * who + time)
    # The block of actions at t is what was done at times t, t+1, …, t+skip-1, one after another.
    done = clip.action.unflatten(-1, (skip, 2)) * 100  # b t k a
    during = time[:, :-1, None] + torch.arange(float(skip))  # b t k
    torch.testing.assert_close(done[..., 0], during)
    torch.testing.assert_close(done[..., 1], who[:, :1, None].expand_as(during))
    torch.testing.assert_close(clip.reward, during.sum(-1))
    ends = torch.from_numpy(store.lengths)[who[:, 0].long()]
    assert torch.equal(clip.terminated, time[:, 1:] == ends[:, None])


def test_there_is_a_clip_for_every_start_and_each_is_equally_likely(store: Store):
    clips = Clips(store, [4, 0, 2], length=3, batch=5000, seed=1)
    assert clips.windows == 1 + 7 + 3 and clips.too_short == 0
    every = clips.cut(np.arange(clips.windows)).obs["state"][:, 0].tolist()
    assert every == [[4, 0], *([0, t] for t in range(7)), *([2, t] for t in range(3))]
    drawn = clips.batch(0).obs["state"][:, 0]
    counts = torch.tensor([int((drawn == torch.tensor(place)).all(1).sum()) for place in every])
    expected = 5000 / 11
    assert float(((counts - expected) ** 2 / expected).sum()) < 29.6  # chi square, 10 degrees, p = 0.001


def test_a_batch_is_a_pure_function_of_seed_and_step(store: Store):
    clips, again = (Clips(store, [0, 2, 3], length=2, batch=6, seed=4) for _ in range(2))
    late = again.batch(7)
    several = list(islice(clips, 9))
    assert torch.equal(several[7].obs["state"], late.obs["state"])
    assert torch.equal(Clips(Store.open(store.path), [0, 2, 3], 2, 6, seed=4).batch(7).action, late.action)
    assert not torch.equal(several[6].obs["state"], late.obs["state"])
    assert not torch.equal(Clips(store, [0, 2, 3], 2, 6, seed=5).batch(7).obs["state"], late.obs["state"])


def test_a_batch_belongs_to_its_owner(store: Store):
    clips = Clips(store, [0], length=2, batch=3)
    before = clips.batch(0).obs["pixels"].clone()
    clips.batch(0).obs["pixels"].zero_()
    assert torch.equal(clips.batch(0).obs["pixels"], before)


def test_some_sensors_only(store: Store):
    clips = Clips(store, [0], length=2, batch=3, sensors=["state"])
    assert list(clips.batch(0).obs) == list(clips.spec.obs) == ["state"]
    with pytest.raises(UserError, match=r"no sensor 'stat' here\. Did you mean 'state'"):
        Clips(store, [0], length=2, batch=3, sensors=["stat"])


def test_episodes_shorter_than_a_clip_are_left_out_and_counted(store: Store):
    clips = Clips(store, range(5), length=4, batch=50)
    assert clips.too_short == 2
    assert set(clips.batch(0).obs["state"][:, 0, 0].tolist()) == {0, 2, 3}
    assert Clips(store, range(5), length=9, batch=2).windows == 1


def test_mistakes_are_told(store: Store):
    with pytest.raises(UserError, match=r"no episode has the 10 actions of a clip: the longest of 5 has 9"):
        Clips(store, range(5), length=10, batch=2)
    with pytest.raises(UserError, match=r"12 actions of a clip \(length 4 x frame_skip 3\): the longest of 2 has 5"):
        Clips(store, [1, 2], length=4, batch=2, frame_skip=3)
    with pytest.raises(UserError, match="has no episode 5"):
        Clips(store, [0, 5], length=2, batch=2)
    with pytest.raises(UserError, match="the longest of 0 has 0"):
        Clips(store, [], length=2, batch=2)
    for length, batch in ((0, 1), (1, 0)):
        with pytest.raises(UserError, match="at least one"):
            Clips(store, [0], length, batch)


def test_the_spec_of_skipped_frames():
    assert spec_of_skip(SPEC, 5) == Spec(SPEC.obs, action=10)
    choices = Spec({"state": (1,)}, action=3, discrete=True)
    assert spec_of_skip(choices, 1) == choices
    with pytest.raises(UserError, match="discrete"):
        spec_of_skip(choices, 2)
    with pytest.raises(UserError, match="at least 1"):
        spec_of_skip(SPEC, 0)
