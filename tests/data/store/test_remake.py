"""Merge, split, trim and convert copy episodes exactly, all or nothing, and keep where they are from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld.data.store import remake
from innerworld.data.store.examine import verify
from innerworld.data.store.store import About, Store
from innerworld.errors import UserError
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (16, 16, 3), "state": (2,)}, 1)


def episode(t: int, seed: int = 0) -> Clip:
    rng = torch.Generator().manual_seed(seed)
    frames = torch.arange(t + 1)[None, :, None, None, None].expand(1, t + 1, 16, 16, 3).to(torch.uint8) + seed
    state = torch.randn(1, t + 1, 2, generator=rng)
    return Clip({"pixels": frames, "state": state}, torch.zeros(1, t, 1), torch.randn(1, t), torch.zeros(1, t) > 0)


def made(path: Path, lengths: list[int], seed: int = 0, frames: str = "raw", env: str = "a") -> Store:
    store = Store.create(path, SPEC, About(env=env, policy="p"), frames=frames)  # type: ignore[arg-type]
    store.add_all(
        [episode(t, seed + i) for i, t in enumerate(lengths[:-1])], list(range(seed, seed + len(lengths) - 1))
    )
    store.add(episode(lengths[-1], seed + len(lengths) - 1), seed + len(lengths) - 1)
    return store


def same(a: Clip, b: Clip) -> bool:
    return torch.equal(a.action, b.action) and all(torch.equal(a.obs[name], b.obs[name]) for name in a.obs)


def test_merge_keeps_all_episodes_in_order_and_where_they_are_from(tmp_path: Path):
    one, two = made(tmp_path / "one", [3, 4]), made(tmp_path / "two", [5, 2], seed=10, env="b")
    both = remake.merge([one, two], tmp_path / "both")
    assert both.seeds.tolist() == [0, 1, 10, 11] and both.meta.about == About(policy="p")
    assert [(s.name, s.episodes, s.about.env) for s in both.meta.sources] == [("one", 2, "a"), ("two", 2, "b")]
    assert all(same(both.episode(i), one.episode(i)) and same(both.episode(2 + i), two.episode(i)) for i in range(2))
    assert not verify(tmp_path / "both").faults and not list((tmp_path / "both").glob(".lock*"))


def test_merge_refuses_another_world_and_other_units(tmp_path: Path):
    one = made(tmp_path / "one", [3, 4])
    with pytest.raises(UserError, match="is of another world than"):
        remake.merge([one, Store.create(tmp_path / "x", SPEC.only("state"))], tmp_path / "out")
    with pytest.raises(UserError, match="differ in action_low"):
        remake.merge([one, Store.create(tmp_path / "y", SPEC, About(action_low=(-2.0,)))], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_split_parts_every_episode_once(tmp_path: Path):
    store = made(tmp_path / "s", [2, 3, 4, 5, 6, 7])
    parts = remake.shares(len(store), [2, 1], seed=1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(6)) and [len(part) for part in parts] == [4, 2]
    made_of = remake.split(store, dict(zip([tmp_path / "a", tmp_path / "b"], map(list, parts), strict=True)))
    for part, out in zip(parts, made_of, strict=True):
        assert out.seeds.tolist() == part.tolist()
    with pytest.raises(UserError, match="6 episodes are too few"):
        remake.shares(6, [1000, 1])


@pytest.mark.parametrize("frames", ["raw", "jpeg"])
def test_trim_cuts_and_drops(tmp_path: Path, frames: str):
    store = made(tmp_path / "s", [3, 9, 6, 5], frames=frames)
    out = remake.trim(store, tmp_path / "out", shorter=4, drop=[2], begin=1, most=6)
    assert out.lengths.tolist() == [6, 4] and out.seeds.tolist() == [1, 3]
    assert same(out.episode(0), store.episode(1).cut(1, 6)) and same(out.episode(1), store.episode(3).cut(1, 4))
    with pytest.raises(UserError, match="none of the 4 episodes"):
        remake.trim(store, tmp_path / "none", shorter=100)
    with pytest.raises(UserError, match="has no episode 9"):
        remake.trim(store, tmp_path / "none", drop=[9])


def test_convert_there_and_back_loses_nothing_with_zstd(tmp_path: Path):
    pytest.importorskip("numcodecs")
    store = made(tmp_path / "s", [3, 9, 6])
    packed = remake.convert(store, tmp_path / "z", "zstd", shard_bytes=1)
    back = remake.convert(packed, tmp_path / "raw", "raw")
    for other in (packed, back):
        assert all(same(other.episode(i), store.episode(i)) for i in range(3)) and not verify(other.path).faults
    assert len(list((tmp_path / "z" / "shards").iterdir())) == 3 and packed.meta.frames == "zstd"


def test_a_damaged_episode_is_not_given_a_new_checksum(tmp_path: Path):
    store = made(tmp_path / "s", [3, 4])
    file = tmp_path / "s" / "shards" / "000000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="episode 0 is damaged"):
        remake.convert(store, tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["s"], "all or nothing"
