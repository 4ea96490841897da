"""Maps are bounded: no more open than granted, and their memory is given back without losing a byte."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
import torch

from innerworld.data.store import maps
from innerworld.data.store.store import Store
from innerworld.types import Clip, Spec


def test_half_of_the_files_that_the_process_may_open():
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, most))
        assert maps.open_limit() == (maps.LARGEST if sys.version_info >= (3, 13) else 100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, most))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much is mapped")
def test_memory_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(maps, "RESIDENT_BYTES", 20_000_000)
    monkeypatch.setattr(maps, "ASK_EVERY_BYTES", 5_000_000)
    store = Store.create(tmp_path / "s", Spec({"pixels": (64, 64, 3)}, 1))
    frames = torch.randint(0, 256, (1, 501, 64, 64, 3), dtype=torch.uint8)
    for _ in range(12):  # 74 MB
        store.add_all([Clip({"pixels": frames}, torch.zeros(1, 500, 1), torch.zeros(1, 500), torch.zeros(1, 500) > 0)])
    store = Store.open(tmp_path / "s")
    store.touched(0)
    before, most = maps.mapped_bytes() or 0, 0
    for _ in range(2):
        for i in range(12):
            rows = store.arrays(int(store.shard_of[i]))["obs.pixels"]
            assert int(rows[:].sum(dtype="int64")) == int(frames.sum())
            store.touched(rows[:].nbytes)
            most = max(most, (maps.mapped_bytes() or 0) - before)
    assert 0 < most < 40_000_000
