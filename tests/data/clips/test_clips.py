"""Clips are aligned, uniform over all places where they fit, and a pure function of (seed, step)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from innerworld.data import Clips, Store, spec_of_skip, split
from innerworld.data.clips import rows
from innerworld.errors import UserError
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (2, 2, 1), "state": (2,)}, action=2)
Numbered = Callable[..., Store]


@pytest.fixture
def store(numbered: Numbered) -> Store:
    return numbered([9, 2, 5, 7, 3])


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


def test_rows_of_a_batch_are_those_of_the_whole_batch(store: Store):
    clips = Clips(store, None, length=2, batch=7)
    whole, part = clips.batch(3), clips.rows(3, 2, 5)
    assert torch.equal(part.obs["pixels"], whole.obs["pixels"][2:5])
    assert torch.equal(part.action, whole.action[2:5]) and torch.equal(part.reward, whole.reward[2:5])
    with pytest.raises(UserError, match=r"a batch of 7 clips has no rows 5 to 8"):
        clips.rows(3, 5, 8)


def test_the_origin_of_each_clip_can_be_named(store: Store):
    clips = Clips(store, [2, 3], length=2, batch=5)
    state = clips.batch(4).obs["state"][:, 0].int().tolist()
    assert clips.origin(4) == [f"{store.name} episode {e} from {t}" for e, t in state]


def test_summed_actions_stay_in_bounds(store: Store):
    clips = Clips(store, [0], length=2, batch=9, frame_skip=3, actions="sum")
    clip = clips.batch(0)
    start = clip.obs["state"][:, :-1, 1]  # b t
    assert clips.spec.action == 2 == clip.action.shape[2]
    torch.testing.assert_close(clip.action[..., 0] * 100, start + 1)  # the mean of start, start + 1, start + 2
    assert torch.equal(clip.reward, 3 * start + 3)


@pytest.mark.parametrize("skip", [1, 2])
def test_history_stands_before_a_clip_and_is_invented_where_there_is_none(store: Store, skip: int):
    clips = Clips(store, [0], length=2, batch=1, frame_skip=skip, history=2)
    for window in range(clips.windows):
        clip = clips.cut(np.array([window]))
        grid = [window + skip * t for t in range(-2, 3)]
        first = min(time for time in grid if time >= 0)
        assert clip.obs["state"][0, :, 1].tolist() == [max(time, first) for time in grid]
        assert clip.obs["pixels"][0, :, 0, 0, 0].tolist() == [max(time, first) for time in grid]
        done = clip.action[0].unflatten(-1, (skip, 2))[..., 0] * 100  # t k
        for t, time in enumerate(grid[:-1]):
            expected = [time + i if time >= 0 else 0 for i in range(skip)]
            torch.testing.assert_close(done[t], torch.tensor(expected, dtype=torch.float32))
            assert clip.reward[0, t] == sum(expected)
    assert not clips.cut(np.array([0])).terminated.any()


def test_a_growing_store_is_taken_in_and_windows_keep_their_numbers(store: Store, numbered: Numbered):
    clips, chosen = Clips(store, None, length=2, batch=4), Clips(store, [0], length=2, batch=4)
    before = clips.cut(np.arange(clips.windows)).obs["state"]
    windows = clips.windows
    store.add(numbered([4], "more").episode(0))
    assert clips.windows == windows
    assert clips.refresh() == 3 and clips.windows == windows + 3
    assert torch.equal(clips.cut(np.arange(windows)).obs["state"], before)
    with pytest.raises(UserError, match="give episodes=None"):
        chosen.refresh()


def test_memory_of_a_batch_comes_back_and_never_while_somebody_holds_a_part_of_it(numbered: Numbered):
    spec = Spec({"pixels": (128, 128, 1), "state": (2,)}, action=2)
    clips = Clips(numbered([9, 9], spec=spec), None, length=4, batch=16)  # 1.3 MB of pictures
    held = clips.batch(0).obs["pixels"][3:5]
    before = held.clone()
    address = clips.batch(1).obs["pixels"].data_ptr()
    assert clips.batch(2).obs["pixels"].data_ptr() == address
    assert torch.equal(held, before)


def test_a_shard_that_is_cut_short_or_gone_is_named(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "SMALL_TOTAL", 0)  # or these tiny pictures would be kept in memory
    clips = Clips(store, [4], length=2, batch=3, sensors=["pixels"])
    clips.batch(0)
    path, columns = store.place(int(store.shard_of[4]))
    with path.open("r+b") as file:
        file.truncate(columns["obs.pixels"].offset)
    with pytest.raises(UserError, match=rf"cannot read episode 4 of .*{path.name} is truncated"):
        clips.batch(1)
    path.unlink()
    with pytest.raises(UserError, match=rf"cannot read episode 4 of .*{path.name}"):
        Clips(store, [4], length=2, batch=3).batch(0)


def test_the_disk_is_asked_for_what_is_not_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch):
    """As on a cold page cache: the same batch, whether a read would have to wait, is cut short, or cannot tell."""
    expected = Clips(store, None, length=3, batch=8).batch(0)
    real = rows.os.preadv
    for mode in ("waits", "short", "cannot tell"):

        def preadv(number: int, buffers: list[memoryview], at: int, flags: int = 0, mode: str = mode) -> int:
            if flags and mode == "waits":
                raise BlockingIOError
            if flags and mode == "cannot tell":
                raise OSError("not supported")
            return real(number, [buffers[0][:1]] if mode == "short" else buffers, at, flags)

        monkeypatch.setattr(rows.os, "preadv", preadv)
        monkeypatch.setattr(rows, "SMALL_TOTAL", 0)
        clip = Clips(store, None, length=3, batch=8).batch(0)
        assert torch.equal(clip.obs["pixels"], expected.obs["pixels"]), mode
        assert torch.equal(clip.obs["state"], expected.obs["state"]) and torch.equal(clip.action, expected.action)


def test_without_positioned_reads_everything_comes_from_the_map(store: Store, monkeypatch: pytest.MonkeyPatch):
    expected = Clips(store, None, length=3, batch=8, frame_skip=1).batch(0)
    monkeypatch.setattr(rows, "POSITIONED", False)
    clip = Clips(store, None, length=3, batch=8).batch(0)
    assert torch.equal(clip.obs["pixels"], expected.obs["pixels"]) and torch.equal(clip.action, expected.action)


def test_packed_frames_are_cut_as_raw_ones(store: Store, tmp_path: Path):
    packed = Store.create(tmp_path / "packed", SPEC, frames="zstd")
    packed.add_all([store.episode(e) for e in range(len(store))])
    ours, theirs = (Clips(s, None, length=2, batch=9, frame_skip=2).batch(1) for s in (store, packed))
    assert torch.equal(ours.obs["pixels"], theirs.obs["pixels"]) and torch.equal(ours.obs["state"], theirs.obs["state"])


def test_a_video_without_actions(tmp_path: Path):
    store = Store.create(tmp_path / "film", Spec({"pixels": (2, 2, 1)}, action=0))
    nothing = torch.zeros(1, 6)
    store.add(
        Clip({"pixels": torch.zeros(1, 7, 2, 2, 1, dtype=torch.uint8)}, torch.zeros(1, 6, 0), nothing, nothing > 0)
    )
    for actions in ("join", "sum"):
        clip = Clips(store, None, length=2, batch=3, frame_skip=2, actions=actions).batch(0)
        assert clip.action.shape == (3, 2, 0) and clip.obs["pixels"].shape == (3, 3, 2, 2, 1)


def test_clips_can_be_sent_to_another_process(store: Store):
    clips = Clips(store, None, length=2, batch=4)
    expected = clips.batch(5)
    again = copy.deepcopy(clips)
    assert torch.equal(again.batch(5).obs["pixels"], expected.obs["pixels"])


def test_the_spec_of_skipped_frames():
    assert spec_of_skip(SPEC, 5) == Spec(SPEC.obs, action=10)
    choices = Spec({"state": (1,)}, action=3, discrete=True)
    assert spec_of_skip(choices, 1) == choices
    with pytest.raises(UserError, match="discrete"):
        spec_of_skip(choices, 2)
    assert spec_of_skip(SPEC, 5, "sum") == SPEC
    with pytest.raises(UserError, match="at least 1"):
        spec_of_skip(SPEC, 0)
    with pytest.raises(UserError, match="'sum'"):
        spec_of_skip(SPEC, 2, "summ")  # pyright: ignore[reportArgumentType]
