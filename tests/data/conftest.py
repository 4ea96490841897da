"""A store in which every frame says where it is from, for tests of whatever draws from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from innerworld.data import Store
from innerworld.types import Clip, Spec

NUMBERED = Spec({"pixels": (2, 2, 1), "state": (2,)}, action=2)


@pytest.fixture
def numbered(tmp_path: Path) -> Callable[..., Store]:
    """`numbered([9, 2])`: episode e at time t shows (e, t); its action there is (t, e) / 100, its reward t.

    Two episodes share a shard.
    """

    def make(lengths: list[int], name: str = "store", spec: Spec = NUMBERED) -> Store:
        store = Store.create(tmp_path / name, spec)
        for i in range(0, len(lengths), 2):
            store.add_all([numbered_episode(e, t, spec) for e, t in list(enumerate(lengths))[i : i + 2]])
        return store

    return make


def numbered_episode(e: int, t: int, spec: Spec = NUMBERED) -> Clip:
    time, who = torch.arange(t + 1.0), torch.full((t + 1,), float(e))
    y, x, c = spec.obs["pixels"]
    return Clip(
        {
            "pixels": (10 * e + time).to(torch.uint8)[None, :, None, None, None].expand(1, t + 1, y, x, c),
            "state": torch.stack([who, time], -1)[None],
        },
        torch.stack([time, who], -1)[None, :-1] / 100,
        time[None, :-1],
        (time[1:] == t)[None],
    )
