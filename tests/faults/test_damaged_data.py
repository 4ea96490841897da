"""Damage: `data verify` lists each fault, training refuses or skips, and no episode shows another's frames."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from innerworld.cli import main
from innerworld.data import Clips, Store
from innerworld.data.store.examine import verify
from innerworld.data.store.mend import repair
from innerworld.data.store.shard import read_columns
from innerworld.errors import UserError
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (8, 8, 3), "state": (1,)}, 1)
LOOSE = ("episodes/00000024", "episodes/00000025")


def episode(i: int) -> Clip:
    """Every frame and every number of it says i."""
    return Clip(
        {"pixels": torch.full((1, 5, 8, 8, 3), i, dtype=torch.uint8), "state": torch.full((1, 5, 1), float(i))},
        torch.full((1, 4, 1), i / 100),
        torch.full((1, 4), float(i)),
        torch.zeros(1, 4, dtype=torch.bool),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Six shards of four episodes and two loose ones, with their numbers for seeds."""
    store = Store.create(tmp_path / "s", SPEC)
    for shard in range(6):
        numbers = range(4 * shard, 4 * shard + 4)
        store.add_all([episode(i) for i in numbers], list(numbers))
    for i in (24, 25):
        store.add(episode(i), i)
    return tmp_path / "s"


def file(path: Path, name: str) -> Path:
    return path / f"{name}.safetensors"


def flip(path: Path, column: str, row: int) -> None:
    place = read_columns(path)[column]
    content = bytearray(path.read_bytes())
    content[place.offset + row * place.bytes // place.shape[0]] ^= 4
    path.write_bytes(content)


def test_each_of_many_faults_is_listed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(file(path, "shards/000000"), "obs.pixels", 7)  # episode 1
    file(path, "shards/000001").write_bytes(b"")
    file(path, "shards/000002").unlink()
    raw = file(path, "shards/000003").read_bytes()
    file(path, "shards/000003").write_bytes(raw[: len(raw) // 2])
    file(path, "shards/000004").write_bytes(b"\x89PNG\r\n\x1a\n" + raw[8:])
    shutil.copy(file(path, "shards/000005"), file(path, "shards/000009"))
    file(path, LOOSE[0]).write_bytes(b"")
    file(path, LOOSE[1]).rename(file(path, "episodes/00000040"))

    assert main(["data", "verify", str(path), "--json", "--quiet"]) == 1
    told = json.loads(capsys.readouterr().out)["faults"]
    by_file: dict[str, list[str]] = {}
    for fault in told:
        by_file.setdefault(fault["file"], []).append(f"{fault['episode']}: {fault['what']}")
    expected = {
        "shards/000000": "1: is not what was written",
        "shards/000001": "truncated or not a shard: 0 bytes",
        "shards/000002": "is missing with 4 episodes",
        "shards/000003": "truncated",
        "shards/000004": "not a shard",
        "shards/000009": "holds episode 20, which shards/000005.safetensors holds",
        LOOSE[0]: "truncated or not a shard: 0 bytes",
        "episodes/00000040": "is not episode 40",
    }
    assert by_file.keys() == {f"{name}.safetensors" for name in expected}
    for name, what in expected.items():
        assert any(what in each for each in by_file[f"{name}.safetensors"]), (name, by_file)

    with pytest.raises(UserError, match="shards/000001"):
        Store.open(path)
    repair(path)
    store = Store.open(path)
    assert {0, 2, 3, 20, 21, 22, 23, 25} <= set(store.numbers.tolist()) and not verify(path).faults
    says_itself(store)


def says_itself(store: Store) -> None:
    """Every episode shows its own frames, under its own number and seed."""
    assert store.numbers.tolist() == store.seeds.tolist()
    for i, number in enumerate(store.numbers.tolist()):
        clip = store.episode(i)
        assert (clip.obs["pixels"] == number).all() and (clip.obs["state"] == number).all()
        assert (clip.reward == number).all()
    batch = Clips(store, None, length=2, batch=64).batch(0)
    who = batch.obs["state"][:, :1]
    assert torch.equal(batch.obs["pixels"][..., 0, 0, :1].float(), who.expand(-1, 3, 1))
    assert torch.equal(batch.reward, who[..., 0].expand(-1, 2))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a shard of no bytes": lambda path: file(path, "shards/000001").write_bytes(b""),
    "a missing shard": lambda path: file(path, "shards/000001").unlink(),
    "two shards exchanged": lambda path: exchange(path, "shards/000001", "shards/000002"),
    "a shard there twice": lambda path: shutil.copy(file(path, "shards/000002"), file(path, "shards/000007")),
    "a length changed": lambda path: flip(file(path, "shards/000001"), "length", 1),
}


def exchange(path: Path, one: str, other: str) -> None:
    file(path, one).rename(path / "kept")
    file(path, other).rename(file(path, one))
    (path / "kept").rename(file(path, other))


@pytest.mark.parametrize("what", DAMAGE)
def test_training_refuses_or_skips_and_never_mixes_episodes_up(what: str, path: Path) -> None:
    DAMAGE[what](path)
    with pytest.raises(UserError, match="shards/00000"):
        Store.open(path)
    store = Store.open(path, skip_corrupt=True)
    assert 18 <= len(store) <= 26
    says_itself(store)
    assert verify(path).faults


def test_a_loose_episode_under_a_wrong_name_is_left_out_and_mended(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file(path, LOOSE[1]).rename(file(path, "episodes/00000030"))
    assert Store.open(path).numbers.tolist() == list(range(25)) and "it is not episode 30" in caplog.text
    assert [str(fault) for fault in verify(path).faults] == ["episodes/00000030.safetensors: is not episode 30"]
    repair(path)
    store = Store.open(path)
    assert store.numbers.tolist() == list(range(26))
    says_itself(store)


def test_a_good_copy_of_a_damaged_episode_is_used(path: Path) -> None:
    """Killed between a shard and the deletion of the loose files in it, and then the shard rots."""
    kept = file(path, LOOSE[0]).read_bytes()
    Store.open(path).compact()
    file(path, LOOSE[0]).write_bytes(kept)
    shard = max((path / "shards").iterdir())
    flip(shard, "obs.pixels", 2)
    assert [fault.episode for fault in verify(path).faults] == [24]
    repair(path)
    store = Store.open(path)
    assert store.numbers.tolist() == list(range(26)) and not verify(path).faults
    says_itself(store)


@pytest.mark.parametrize("name", ["meta.json", "manifest.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"null\n", b'{"format": 1e999}\n'])
def test_descriptions_that_are_none(name: str, content: bytes, path: Path) -> None:
    (path / name).write_bytes(content)
    if name == "manifest.jsonl" and content == b"":  # as a kill may leave it: the shards tell all the same
        assert len(Store.open(path)) == 26
        return
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        Store.open(path)
    if name == "manifest.jsonl":
        repair(path)
        assert len(Store.open(path)) == 26


def test_statistics_that_are_damaged_are_counted_anew(path: Path) -> None:
    store = Store.open(path)
    known = store.statistics()
    for content in (b"", b"[" * 100_000, b"null", b'{"episodes": 26, "columns": {"action": {"mean": "x"}}}'):
        (path / "statistics.json").write_bytes(content)
        assert store.statistics() == known
