"""Prefetching changes nothing but the time: same batches, same errors, and no thread is left behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

import pytest
import torch

from innerworld.data import Clips, Store
from innerworld.data.clips import rows
from innerworld.data.clips.prefetch import Prefetched
from innerworld.data.clips.sampler import Places, Sampler
from innerworld.errors import UserError

Numbered = Callable[..., Store]


def threads() -> int:
    return sum(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_order_is_the_same_for_any_number_of_workers(numbered: Numbered, workers: int):
    clips = Clips(numbered([9, 8, 7]), None, length=2, batch=5)
    with Prefetched(clips, ahead=3, workers=workers) as ready:
        for step in (0, 1, 2, 3, 7, 8, 2, 2):  # in a row, a jump, back, the same again
            assert torch.equal(ready.batch(step).obs["state"], clips.batch(step).obs["state"])
        assert ready.origin(3) == clips.origin(3) and ready.spec == clips.spec and ready.size == 5
    assert threads() == 0


def test_a_process_prefetches_its_own_rows_only(numbered: Numbered):
    clips = Clips(numbered([9, 8, 7]), None, length=2, batch=6)
    with Prefetched(clips, rows=(2, 4)) as ready:
        assert torch.equal(ready.rows(3, 2, 4).obs["state"], clips.batch(3).obs["state"][2:4])
        with pytest.raises(UserError, match=r"prefetched in rows \(2, 4\), not \(0, 2\)"):
            ready.rows(3, 0, 2)


def test_batches_are_read_ahead_and_no_more_than_asked(numbered: Numbered):
    asked: list[int] = []

    class Slow(Clips):
        def places(self, step: int) -> Places:
            asked.append(step)
            return super().places(step)

    with Prefetched(Slow(numbered([9]), None, 2, 4), ahead=3, workers=2) as ready:
        ready.batch(0)
        until = time.monotonic() + 5
        while len(asked) < 4 and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.02)
        assert sorted(asked) == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_in_a_thread_names_the_episode_and_can_be_tried_again(
    numbered: Numbered, monkeypatch: pytest.MonkeyPatch, workers: int
):
    monkeypatch.setattr(rows, "SMALL_TOTAL", 0)
    store = numbered([9])
    clips = Clips(store, None, length=2, batch=5)
    with Prefetched(clips, workers=workers) as ready:
        expected = ready.batch(0).obs["state"]
        path, columns = store.place(int(store.shard_of[0]))
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(min(column.offset for column in columns.values()))
        with pytest.raises(UserError, match=r"cannot read episode 0 of .* is truncated"):
            ready.batch(9)
        with path.open("r+b") as file:
            file.write(content)
        assert torch.equal(ready.batch(0).obs["state"], expected)
        assert torch.equal(ready.batch(9).obs["state"], clips.batch(9).obs["state"])


def test_any_failure_arrives(numbered: Numbered):
    class Broken(Clips):
        def places(self, step: int) -> Places:
            raise RuntimeError(f"no step {step}")

    with (
        Prefetched(Broken(numbered([9]), None, 2, 4), workers=2) as ready,
        pytest.raises(RuntimeError, match="no step 4"),
    ):
        ready.batch(4)


def test_no_thread_is_left_when_it_is_closed_twice_or_forgotten(numbered: Numbered):
    clips: Sampler = Clips(numbered([9]), None, 2, 4)
    ready = Prefetched(clips, workers=3)
    ready.batch(0)
    assert threads() > 0
    ready.close()
    ready.close()
    assert threads() == 0
    assert torch.equal(ready.batch(5).action, clips.batch(5).action)  # it reads by itself now
    forgotten = Prefetched(clips, workers=3)
    forgotten.batch(0)
    del forgotten
    gc.collect()
    until = time.monotonic() + 5
    while threads() and time.monotonic() < until:
        time.sleep(0.001)
    assert threads() == 0


def test_mistakes_are_told(numbered: Numbered):
    clips = Clips(numbered([9]), None, 2, 4)
    for ahead, workers in ((0, 1), (1, -1)):
        with pytest.raises(UserError, match="prefetching needs"):
            Prefetched(clips, ahead, workers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_arrive_on_the_device(numbered: Numbered):
    clips = Clips(numbered([9, 8]), None, 2, 16)
    with Prefetched(clips, device="cuda") as ready:
        for step in range(20):
            clip = ready.batch(step)
            assert clip.action.is_cuda
            assert torch.equal(clip.obs["pixels"].cpu(), clips.batch(step).obs["pixels"])
