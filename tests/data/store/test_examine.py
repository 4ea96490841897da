"""`verify` names the shard and the episode of every fault; `repair` loses these alone and deletes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from innerworld.data.store import mend
from innerworld.data.store.examine import verify
from innerworld.data.store.mend import repair
from innerworld.data.store.shard import read_columns
from innerworld.data.store.store import Store
from innerworld.errors import UserError
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (8, 8, 3), "state": (2,)}, 1)


def episode(i: int) -> Clip:
    rng = torch.Generator().manual_seed(i)
    seen = {"pixels": torch.randint(0, 256, (1, 4, 8, 8, 3), dtype=torch.uint8, generator=rng)}
    seen["state"] = torch.randn(1, 4, 2, generator=rng)
    return Clip(seen, torch.zeros(1, 3, 1), torch.full((1, 3), float(i)), torch.zeros(1, 3, dtype=torch.bool))


def made(path: Path, frames: str = "raw") -> Store:
    """Three shards of four episodes, and two loose ones."""
    store = Store.create(path, SPEC, frames=frames)  # type: ignore[arg-type]
    for shard in range(3):
        store.add_all([episode(4 * shard + i) for i in range(4)], seeds=[4 * shard + i for i in range(4)])
    for i in (12, 13):
        store.add(episode(i), seed=i)
    return store


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 16
    file.write_bytes(content)


def flip_in(column: str, row: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        place = read_columns(file)[column]
        flip(file, place.offset + row * place.bytes // place.shape[0])

    return damage


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def garbage(file: Path) -> None:
    file.write_bytes(b"\xff" * file.stat().st_size)


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str, list[int]]] = {
    "a frame": ("shards/000001", flip_in("obs.pixels", 5), r"episode 5 is not what was written", [5]),
    "a vector": ("shards/000001", flip_in("obs.state", 15), r"episode 7 is not what was written", [7]),
    "a reward": ("shards/000002", flip_in("reward", 0), r"episode 8 is not what was written", [8]),
    "a length": ("shards/000000", flip_in("length", 2), r"its header or its index", []),
    "a seed": ("shards/000000", flip_in("seed", 2), r"its header or its index", []),
    "a checksum": ("shards/000000", flip_in("crc", 2), r"its header or its index", [2]),
    "the end": ("shards/000001", cut_off, r"episode 7 is (cut off|not what was written)", [7]),
    "all": ("shards/000001", garbage, r"is truncated or not a shard", [4, 5, 6, 7]),
    "the file": ("shards/000001", Path.unlink, r"is missing with 4 episodes", [4, 5, 6, 7]),
    "the last file": ("shards/000002", Path.unlink, r"is missing with 4 episodes", [8, 9, 10, 11]),
    "a loose one": ("episodes/00000012", flip_in("obs.pixels", 3), r"episode 12 is not what was written", [12]),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_named_and_repaired_at_the_least_cost(tmp_path: Path, what: str):
    name, damage, message, lost = DAMAGE[what]
    made(tmp_path / "s")
    assert not verify(tmp_path / "s").faults
    file = tmp_path / "s" / f"{name}.safetensors"
    before = file.read_bytes()
    damage(file)
    damaged = file.read_bytes() if file.exists() else None
    faults = verify(tmp_path / "s").faults
    assert all(fault.file == f"{name}.safetensors" for fault in faults)
    assert any(re.search(message, str(fault)) for fault in faults), faults
    repair(tmp_path / "s")
    store = Store.open(tmp_path / "s")
    kept = [i for i in range(14) if i not in lost]
    assert store.numbers.tolist() == kept and store.seeds.tolist() == kept
    assert all(torch.equal(store.episode(i).obs["pixels"], episode(n).obs["pixels"]) for i, n in enumerate(kept))
    assert not verify(tmp_path / "s").faults and before != damaged
    if damaged is not None:
        assert (tmp_path / "s" / "damaged" / file.name).read_bytes() == damaged
    store.add(episode(14))
    assert Store.open(tmp_path / "s").numbers.tolist() == [*kept, 14]


@pytest.mark.parametrize("frames", ["zstd", "jpeg"])
def test_packed_frames_are_checked_as_they_lie(tmp_path: Path, frames: str):
    if frames == "zstd":
        pytest.importorskip("numcodecs")
    made(tmp_path / "s", frames)
    file = tmp_path / "s" / "shards" / "000001.safetensors"
    flip(file, file.stat().st_size - 5)  # bytes of the last episode's last frame
    assert [fault.episode for fault in verify(tmp_path / "s").faults] == [7]
    assert repair(tmp_path / "s").episodes == 13
    assert 7 not in Store.open(tmp_path / "s").numbers


def test_every_single_bit_is_watched(tmp_path: Path):
    store = Store.create(tmp_path / "s", Spec({"state": (1,)}, 1))
    store.add_all(
        [Clip({"state": torch.zeros(1, 3, 1)}, torch.zeros(1, 2, 1), torch.zeros(1, 2), torch.zeros(1, 2) > 0)]
    )
    file = tmp_path / "s" / "shards" / "000000.safetensors"
    whole = file.read_bytes()
    for at in range(0, len(whole), 7):
        flip(file, at)
        assert verify(tmp_path / "s").faults, f"byte {at}"
        file.write_bytes(whole)


@pytest.mark.parametrize("step", ["write_atomic", "set_aside", "write_manifest", "write_meta"])
def test_a_repair_that_was_killed_is_finished_by_the_next(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch):
    made(tmp_path / "s")
    for shard, row in ((0, 1), (2, 6)):
        flip_in("obs.pixels", row)(tmp_path / "s" / "shards" / f"{shard:06d}.safetensors")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(mend, step, killed)
        repair(tmp_path / "s")
    with pytest.raises(UserError, match=r"a repair of .* was interrupted: finish it with"):
        Store.open(tmp_path / "s")
    repair(tmp_path / "s")
    store = Store.open(tmp_path / "s")
    assert store.numbers.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13] and not verify(tmp_path / "s").faults


def test_a_torn_manifest_is_rebuilt(tmp_path: Path):
    made(tmp_path / "s")
    file = tmp_path / "s" / "manifest.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b"{torn\n", lines[2]]))
    with pytest.raises(UserError, match=r"manifest\.jsonl is corrupt: line 2"):
        Store.open(tmp_path / "s")
    assert [fault.file for fault in verify(tmp_path / "s").faults] == ["manifest.jsonl"]
    assert repair(tmp_path / "s").episodes == 14
    assert len(Store.open(tmp_path / "s")) == 14 and file.read_bytes() == b"".join(lines)


def test_no_repair_while_somebody_writes(tmp_path: Path):
    with made(tmp_path / "s").writing(), pytest.raises(UserError, match="is being written by"):
        repair(tmp_path / "s")
