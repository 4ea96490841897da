"""Clips that grow: which stage a step is in, what its clips look like, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld.data import Clips, Prefetched, Shrunk, Staged, Store
from innerworld.envs.adapter import shrink
from innerworld.errors import UserError
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3), "wrist": (8, 8, 1), "state": (2,)}, 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path: Path = tmp_path_factory.mktemp("store") / "data"
    made = Store.create(path, SPEC)
    for seed in range(4):
        made.add(random_clip(SPEC, 1, 9, seed))
    return made


def test_a_stage_begins_at_its_step_and_ends_at_the_next(store: Store) -> None:
    short, long = Clips(store, None, 2, batch=3), Clips(store, None, 5, batch=3)
    clips = Staged({4: long, 0: short})
    assert [clips.stage(step) for step in (0, 3, 4, 99)] == [0, 0, 1, 1]
    assert [clips.batch(step).length for step in range(6)] == [2, 2, 2, 2, 5, 5]
    for step, part in ((3, short), (4, long)):
        assert torch.equal(clips.batch(step).obs["pixels"], part.batch(step).obs["pixels"])
        assert torch.equal(clips.rows(step, 1, 3).action, part.rows(step, 1, 3).action)
        assert clips.origin(step) == part.origin(step)
        assert np.array_equal(clips.places(step).start, part.places(step).start)


def test_the_next_stage_is_read_ahead(store: Store) -> None:
    clips = Staged({0: Shrunk(Clips(store, None, 2, batch=3), 4, ["pixels"]), 2: Clips(store, None, 5, batch=3)})
    with Prefetched(clips, ahead=2, rows=(1, 3)) as ready:
        for step in range(4):
            assert torch.equal(ready.batch(step).obs["pixels"], clips.batch(step).obs["pixels"][1:])
    assert ready.spec == clips.spec == SPEC


def test_pictures_are_shrunk_as_importers_shrink_them_and_the_rest_stays(store: Store) -> None:
    whole = Clips(store, None, 2, batch=3)
    small = Shrunk(whole, 6, ["pixels"])
    before, after = whole.batch(7), small.batch(7)
    assert after.obs["pixels"].shape == (3, 3, 6, 6, 3) and after.obs["pixels"].dtype == torch.uint8
    assert np.array_equal(after.obs["pixels"][1, 2].numpy(), shrink(before.obs["pixels"][1, 2].numpy(), 6))
    assert all(torch.equal(after.obs[name], before.obs[name]) for name in ("wrist", "state"))
    assert torch.equal(after.action, before.action) and small.origin(7) == whole.origin(7)
    assert small.spec == Spec({**SPEC.obs, "pixels": (6, 6, 3)}, 2)
    assert Shrunk(whole, 4).spec.obs == {"pixels": (4, 4, 3), "wrist": (4, 4, 1), "state": (2,)}
    assert np.array_equal(small.places(7).start, whole.places(7).start)


def test_what_cannot_be_is_refused(store: Store) -> None:
    whole = Clips(store, None, 2, batch=3)
    with pytest.raises(UserError, match="begins at step 0, these begin at \\[2\\]"):
        Staged({2: whole})
    with pytest.raises(UserError, match="one batch size, these have \\[3, 4\\]"):
        Staged({0: whole, 1: Clips(store, None, 2, batch=4)})
    with pytest.raises(UserError, match="to 9 pixels a side: wrist is 8×8"):
        Shrunk(whole, 9)
