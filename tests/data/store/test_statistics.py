"""Statistics are those of all numbers together, extended by what is new, and made anew when episodes were lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld.data.store.statistics import STATISTICS
from innerworld.data.store.store import Store
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (6, 5, 3), "state": (2,)}, 1)


def episode(t: int) -> Clip:
    rng = torch.Generator().manual_seed(t)
    frames = torch.randint(0, 99, (1, t + 1, 6, 5, 3), dtype=torch.uint8, generator=rng)
    state = torch.randn(1, t + 1, 2, generator=rng) + 1000
    return Clip({"pixels": frames, "state": state}, torch.rand(1, t, 1), torch.randn(1, t), torch.zeros(1, t) > 0)


def check(store: Store) -> None:
    found = store.statistics()
    clips = [store.episode(i) for i in range(len(store))]
    columns = {f"obs.{name}": [clip.obs[name][0] for clip in clips] for name in SPEC.obs}
    columns |= {"action": [clip.action[0] for clip in clips], "reward": [clip.reward[0][:, None] for clip in clips]}
    assert found.episodes == len(store) and found.columns.keys() == columns.keys()
    for name, rows in columns.items():
        x = torch.cat(rows).double().numpy().reshape(-1, rows[0].shape[-1])
        moments = found.columns[name]
        assert moments.count == len(x)
        np.testing.assert_allclose(moments.mean, x.mean(0), rtol=1e-9)
        np.testing.assert_allclose(moments.std, x.std(0), rtol=1e-6)
        assert (moments.min, moments.max) == (tuple(x.min(0)), tuple(x.max(0)))


def test_they_are_right_and_kept_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store.create(tmp_path / "s", SPEC)
    assert store.statistics().episodes == 0
    store.add_all([episode(3), episode(7)])
    check(store)
    store.add(episode(4))
    seen: list[tuple[int, int]] = []
    store.statistics(lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)], "only the new episode is counted"
    check(Store.open(tmp_path / "s"))
    (tmp_path / "s" / STATISTICS).write_text("{torn")
    check(store)
    counted = json.loads((tmp_path / "s" / STATISTICS).read_text())
    (tmp_path / "s" / STATISTICS).write_text(json.dumps(counted | {"episodes": 2}))
    check(store)
