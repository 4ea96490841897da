"""A store gives back what it was given, refuses what does not fit, and survives kills, full disks and damaged files."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import innerworld.disk
from innerworld.data import About, Store, Writer
from innerworld.data.store.commit import Desk
from innerworld.data.store.part import Part
from innerworld.data.store.record import Record
from innerworld.data.store.shard import write_shard
from innerworld.errors import UserError
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (4, 5, 3), "state": (2,)}, action=2)
CHOICES = Spec({"state": (2,)}, action=3, discrete=True)


def episode(t: int, seed: int = 0, spec: Spec = SPEC) -> Clip:
    rng = torch.Generator().manual_seed(seed)
    obs = {
        name: torch.randint(0, 256, (1, t + 1, *shape), dtype=torch.uint8, generator=rng)
        if len(shape) == 3
        else torch.randn(1, t + 1, *shape, generator=rng)
        for name, shape in spec.obs.items()
    }
    action = torch.rand(1, t, spec.action, generator=rng) * 2 - 1
    if spec.discrete:
        action = torch.nn.functional.one_hot(action.argmax(-1), spec.action).float()
    ends = torch.zeros(1, t, dtype=torch.bool)
    ends[0, -1] = seed % 2 == 0
    return Clip(obs, action, torch.randn(1, t, generator=rng), ends)


def same(a: Clip, b: Clip) -> bool:
    pairs = [(a.action, b.action), (a.reward, b.reward), (a.terminated, b.terminated)]
    pairs += [(a.obs[name], b.obs[name]) for name in a.obs]
    return a.obs.keys() == b.obs.keys() and all(torch.equal(x, y) for x, y in pairs)


def filled(path: Path, shards: int = 3, each: int = 2) -> Store:
    store = Store.create(path, SPEC)
    for i in range(shards):
        store.add_all([episode(3 + j, seed=10 * i + j) for j in range(each)])
    return store


@pytest.mark.parametrize("spec", [SPEC, CHOICES])
def test_episodes_come_back_as_they_were(tmp_path: Path, spec: Spec):
    given = [episode(t, seed=t, spec=spec) for t in (3, 1, 7, 2)]
    store = Store.create(tmp_path / "s", spec, About(env="x", action_low=(-2.0, 0.0), more={"who": ["me"]}))
    store.add(given[0], seed=11)
    store.add_all(given[1:], [12, None, 14])
    for reader in (store, Store.open(tmp_path / "s")):
        assert len(reader) == 4 and reader.spec == spec
        assert reader.lengths.tolist() == [3, 1, 7, 2] and reader.seeds.tolist() == [11, 12, -1, 14]
        assert (reader.transitions, reader.frames) == (13, 17)
        assert all(same(reader.episode(i), clip) for i, clip in enumerate(given))
        assert reader.meta.about == About(env="x", action_low=(-2.0, 0.0), more={"who": ["me"]})
        assert reader.meta.created and reader.meta.format == 2


def test_adding_goes_on_after_opening(tmp_path: Path):
    filled(tmp_path / "s")
    store = Store.open(tmp_path / "s")
    store.add(episode(9, seed=5))
    again = Store.open(tmp_path / "s")
    assert len(again) == 7 and same(again.episode(6), episode(9, seed=5))


def test_an_episode_may_be_changed_without_changing_the_store(tmp_path: Path):
    store = filled(tmp_path / "s")
    store.episode(0).obs["pixels"].zero_()
    assert same(store.episode(0), episode(3, seed=0))


def test_more_shards_than_open_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("innerworld.data.store.maps.LARGEST", 2)
    store = filled(tmp_path / "s", shards=5, each=1)
    for _ in range(2):
        assert all(same(store.episode(i), episode(3, seed=10 * i)) for i in range(5))
    assert len(store._shelf._maps._open) == 2


def test_create_refuses_a_folder_with_content_and_open_one_without(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        Store.create(tmp_path, SPEC)
    with pytest.raises(UserError, match="exists already"):
        Store.create(tmp_path / "notes.txt", SPEC)
    with pytest.raises(UserError, match="no store"):
        Store.open(tmp_path)
    with pytest.raises(UserError, match=r"has no episode 6: it has 6"):
        filled(tmp_path / "s").episode(6)


@pytest.mark.parametrize(
    ("name", "step", "message"),
    [
        ("state", 2, r"sensor 'state' is not finite at time step 2"),
        ("reward", 1, r"reward is not finite at time step 1"),
        ("action", 3, r"action is not finite at time step 3"),
    ],
)
def test_not_a_number_is_refused(tmp_path: Path, name: str, step: int, message: str):
    store, clip = Store.create(tmp_path / "s", SPEC), episode(4)
    {"state": clip.obs["state"], "reward": clip.reward, "action": clip.action}[name][0, step] = float("nan")
    with pytest.raises(UserError, match=message):
        store.add(clip)
    assert len(store) == 0


def test_what_does_not_fit_the_spec_is_refused(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    other = Spec({"pixels": (4, 4, 3), "state": (2,)}, action=2)
    with pytest.raises(UserError, match=r"sensor 'pixels' has shape \(4, 4, 3\), the spec says \(4, 5, 3\)"):
        store.add(episode(3, spec=other))
    with pytest.raises(UserError, match=r"actions have 3 numbers, the spec says 2"):
        store.add(episode(3, spec=Spec(SPEC.obs, action=3)))
    with pytest.raises(UserError, match="sensors are state; the spec says pixels, state"):
        store.add(episode(3, spec=SPEC.only("state")))
    floats = episode(3)
    floats.obs["pixels"] = floats.obs["pixels"].float()
    with pytest.raises(UserError, match="is an image, which is uint8"):
        store.add(floats)
    with pytest.raises(UserError, match="b = 1"):
        store.add(episode(4).rows(torch.tensor([0, 0])))
    with pytest.raises(UserError, match="at least one action"):
        store.add(episode(4).cut(0, 0))
    with pytest.raises(UserError, match="2 episodes came with 1 seeds"):
        store.add_all([episode(1), episode(2)], [3])
    assert len(store) == 0 and not list(store.path.glob("shards/*"))


def test_actions_out_of_bounds_are_refused_and_rounding_is_not(tmp_path: Path):
    store, clip = Store.create(tmp_path / "s", SPEC), episode(4)
    clip.action[0, 1, 0] = -1 - 5e-7
    store.add(clip)
    clip.action[0, 2, 1] = 1.01
    with pytest.raises(UserError, match=r"action at time step 2 leaves \[-1, 1\]"):
        store.add(clip)


@pytest.mark.parametrize("wrong", [[1, 1, 0], [0, 0, 0], [0.5, 0.5, 0]])
def test_choices_must_be_one_hot(tmp_path: Path, wrong: list[float]):
    store, clip = Store.create(tmp_path / "s", CHOICES), episode(4, spec=CHOICES)
    clip.action[0, 1] = torch.tensor(wrong)
    with pytest.raises(UserError, match="action at time step 1 is not one-hot"):
        store.add(clip)


def test_one_bad_episode_keeps_the_whole_shard_out(tmp_path: Path):
    store, bad = Store.create(tmp_path / "s", SPEC), episode(4)
    bad.reward[0, 0] = float("inf")
    with pytest.raises(UserError, match="episode 1 of 2: reward"):
        store.add_all([episode(3), bad])
    assert len(Store.open(tmp_path / "s")) == 0


# ---------------------------------------------------------------------- damage


def damage(file: Path, how: str) -> None:
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        os.truncate(file, file.stat().st_size - 1)
    elif how == "empty":
        file.write_bytes(b"")
    else:
        file.write_bytes(b"\xff" * file.stat().st_size)


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "garbage"])
def test_a_damaged_shard_is_named_or_left_out(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture):
    filled(tmp_path / "s")
    damage(tmp_path / "s" / "shards" / "000001.safetensors", how)
    with pytest.raises(UserError, match=r"000001\.safetensors"):
        Store.open(tmp_path / "s")
    with caplog.at_level(logging.WARNING):
        store = Store.open(tmp_path / "s", skip_corrupt=True)
    assert len(caplog.records) == 1 and "000001.safetensors" in caplog.text
    assert len(store) == 4 and same(store.episode(2), episode(3, seed=20))
    for t in (5, 6, 7):
        store.add(episode(t, seed=t))
    reopened = Store.open(tmp_path / "s", skip_corrupt=True)
    assert len(reopened) == 7 and all(same(reopened.episode(t - 1), episode(t, seed=t)) for t in (5, 6, 7))


def test_a_shard_of_another_world_is_corrupt(tmp_path: Path):
    filled(tmp_path / "s")
    other = Store.create(tmp_path / "o", SPEC.only("state"))
    other.add(episode(3, spec=SPEC.only("state")))
    (tmp_path / "o" / "episodes" / "00000000.safetensors").replace(tmp_path / "s" / "shards" / "000001.safetensors")
    with pytest.raises(UserError, match=r"000001\.safetensors is corrupt: obs\.pixels does not fit"):
        Store.open(tmp_path / "s")


def test_lengths_that_do_not_add_up_are_corrupt(tmp_path: Path):
    file = tmp_path / "s" / "shards" / "000000.safetensors"
    filled(tmp_path / "s", shards=1)
    content = bytearray(file.read_bytes())
    at = 8 + int.from_bytes(content[:8], "little")  # 'length' comes first, being the widest
    content[at] += 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"000000\.safetensors is corrupt: its header or its index"):
        Store.open(tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "has format 99, this version reads up to 2: update innerworld"),
        ({"format": None}, "names no format"),
        ({"colour": 1}, "unknown key"),
        ({"spec": {"obs": {}, "action": 1}}, "at least one sensor"),
    ],
)
def test_meta_that_is_not_understood(tmp_path: Path, change: dict, message: str):
    filled(tmp_path / "s")
    file = tmp_path / "s" / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        Store.open(tmp_path / "s")
    file.write_text("{")
    with pytest.raises(UserError, match=r"meta\.json is corrupt"):
        Store.open(tmp_path / "s")


def test_what_a_killed_writer_left_is_ignored_by_readers_and_swept_by_the_next_writer(tmp_path: Path):
    filled(tmp_path / "s")
    leftover = tmp_path / "s" / "shards" / "000003.safetensors.tmp"
    leftover.write_bytes(b"half")
    store = Store.open(tmp_path / "s")
    assert len(store) == 6 and leftover.exists()
    store.add(episode(3))
    assert not leftover.exists() and len(Store.open(tmp_path / "s")) == 7


def test_two_writers_by_turns_see_what_the_other_wrote(tmp_path: Path):
    first = filled(tmp_path / "s")
    second = Store.open(tmp_path / "s")
    second.add(episode(5))
    first.add(episode(4))
    second.add(episode(2))
    assert [len(first), len(second)] == [8, 9]
    assert Store.open(tmp_path / "s").lengths.tolist() == [3, 4] * 3 + [5, 4, 2]


def test_a_second_writer_is_refused_with_the_name_of_the_first(tmp_path: Path):
    store = filled(tmp_path / "s")
    with Writer(store):
        with pytest.raises(UserError, match=r"the store .* is being written by another part of this program"):
            Store.open(tmp_path / "s").add(episode(3))
        store.add(episode(3))
    with Writer(Store.open(tmp_path / "s")) as writer:
        writer.add(episode(3))
    assert len(Store.open(tmp_path / "s")) == 8


WORLD = """
import torch
from innerworld.data import Store
from innerworld.types import Clip, Spec
def episode(t):
    frames = torch.full((1, t + 1, 64, 64, 3), t, dtype=torch.uint8)
    return Clip({"pixels": frames}, torch.zeros(1, t, 1), torch.zeros(1, t), torch.zeros(1, t, dtype=torch.bool))
"""


def test_kill_9_loses_only_the_shard_that_was_open(tmp_path: Path, begin: Callable[..., Any]):
    process = begin(
        WORLD
        + f"""
store = Store.create({str(tmp_path / "s")!r}, Spec({{"pixels": (64, 64, 3)}}, 1))
while True:
    store.add_all([episode(t) for t in range(20, 40)])
    print(len(store), flush=True)
"""
    )
    told = 0
    while told < 100:
        told = int(process.output.readline())
    process.kill()
    _, rest = process.end()
    told = int(rest.split()[-1]) if rest.split() else told
    store = Store.open(tmp_path / "s")
    assert told <= len(store) <= told + 20  # the last may have been committed but not yet announced
    for i in range(len(store)):
        clip = store.episode(i)
        assert clip.length == 20 + i % 20 and bool((clip.obs["pixels"] == clip.length).all())


def test_a_file_that_may_not_grow_is_reported_and_what_was_written_is_safe(tmp_path: Path, begin: Callable[..., Any]):
    process = begin(
        WORLD
        + f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
store = Store.create({str(tmp_path / "s")!r}, Spec({{"pixels": (64, 64, 3)}}, 1))
store.add(episode(3))
store.add(episode(4))
store.add(episode(50))
"""
    )
    errors = process.end()[1].decode()
    assert "no space left" in errors and "the 2 episodes written before are safe" in errors
    assert [len(Store.open(tmp_path / "s")), len(list((tmp_path / "s" / "episodes").iterdir()))] == [2, 2]


def test_a_full_disk_says_what_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = filled(tmp_path / "s")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(innerworld.disk.os, "fsync", full)
        with pytest.raises(UserError, match=r"no space left.*the 6 episodes written before are safe in .*s$"):
            store.add_all([episode(3)])
    assert len(list((tmp_path / "s" / "shards").iterdir())) == 3
    store.add(episode(3))
    assert len(Store.open(tmp_path / "s")) == 7


# ---------------------------------------------------------------------- the writer


def files(store: Path, folder: str) -> list[str]:
    return sorted(file.name for file in (store / folder).iterdir())


def test_a_writer_makes_shards_of_64_episodes_and_packs_the_rest_when_something_fails(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    with pytest.raises(ZeroDivisionError), Writer(store) as writer:
        for i in range(70):
            writer.add(episode(2, seed=i), seed=i)
            assert len(store) == i + 1
            assert len(files(tmp_path / "s", "episodes")) == (i + 1) % 64
        raise ZeroDivisionError
    reopened = Store.open(tmp_path / "s")
    assert [len(files(tmp_path / "s", folder)) for folder in ("shards", "episodes")] == [2, 0]
    np.testing.assert_array_equal(reopened.seeds, np.arange(70))
    assert all(same(reopened.episode(i), episode(2, seed=i)) for i in range(70))


def test_a_writer_closes_a_shard_that_has_become_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("innerworld.data.store.store.COMPACT_BYTES", 500)
    store = Store.create(tmp_path / "s", SPEC)
    with Writer(store) as writer:
        for _ in range(3):
            writer.add(episode(4))  # 5 frames x 60 bytes, and 5 x 8 of state
    assert len(files(tmp_path / "s", "shards")) == 2


def test_episodes_that_end_together_are_packed_at_once_when_they_are_many(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    with Writer(store) as writer:
        writer.add_all([episode(2, seed=i) for i in range(3)], [0, 1, 2])
        assert len(files(tmp_path / "s", "episodes")) == 3
        writer.add_all([episode(2, seed=i) for i in range(3, 40)], list(range(3, 40)))
        assert [len(files(tmp_path / "s", name)) for name in ("episodes", "shards")] == [0, 2]
    assert Store.open(tmp_path / "s").seeds.tolist() == list(range(40))


def test_ctrl_c_right_after_a_commit_neither_loses_nor_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store.create(tmp_path / "s", SPEC)
    commit = Desk.episode

    def interrupted(self: Desk, record: Record) -> Part:
        commit(self, record)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch, Writer(store) as writer:
        patch.setattr(Desk, "episode", interrupted)
        writer.add(episode(3, seed=1))
    store.add(episode(4, seed=2))
    assert store.lengths.tolist() == Store.open(tmp_path / "s").lengths.tolist() == [3, 4]


def test_episodes_without_actions_to_choose(tmp_path: Path):
    """A film that nobody acted in."""
    spec = Spec({"pixels": (4, 5, 3)}, action=0)
    seen = {"pixels": torch.ones(1, 4, 4, 5, 3, dtype=torch.uint8)}
    film = Clip(seen, torch.zeros(1, 3, 0), torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))
    store = Store.create(tmp_path / "s", spec)
    store.add(film)
    store.compact()
    assert same(Store.open(tmp_path / "s").episode(0), film)


# ---------------------------------------------------------------------- readers while one writes


def test_a_reader_goes_on_while_a_writer_packs(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    for i in range(3):
        store.add(episode(2 + i, seed=i))
    reader = Store.open(tmp_path / "s")
    held, numbers = reader.arrays(int(reader.shard_of[0])), reader.shard_of.tolist()
    store.compact()
    store.add(episode(9, seed=9))
    assert len(reader) == 3 and all(same(reader.episode(i), episode(2 + i, seed=i)) for i in range(3))
    assert held["action"].shape == (2, 2)
    path, columns = reader.place(numbers[1])
    rows = columns["obs.pixels"]
    assert path.parent.name == "shards" and rows.shape == (4, 4, 5, 3)
    assert path.read_bytes()[rows.offset :][: rows.bytes] == episode(3, seed=1).obs["pixels"].numpy().tobytes()
    assert reader.refresh() == 1 and reader.lengths.tolist() == [2, 3, 4, 9]
    assert reader.arrays(numbers[2])["reward"].shape == (4,)  # a number from before
    assert same(reader.episode(3), episode(9, seed=9))


def test_a_store_is_pickled_by_what_it_reads(tmp_path: Path):
    store = filled(tmp_path / "s")
    store.add(episode(8))
    store.episode(0)
    copy = copy_by_pickle(store)
    store.compact()
    assert copy.lengths.tolist() == store.lengths.tolist() and same(copy.episode(6), episode(8))
    copy.add(episode(2))
    assert store.refresh() == 1


def test_format_1_is_read_and_becomes_2_when_added_to(tmp_path: Path):
    given = old_store(tmp_path / "s")
    store = Store.open(tmp_path / "s")
    assert store.meta.format == 1 and all(same(store.episode(i), clip) for i, clip in enumerate(given))
    assert not (tmp_path / "s" / "manifest.jsonl").exists()
    store.add(episode(9))
    again = Store.open(tmp_path / "s")
    assert again.meta.format == 2 and same(again.episode(4), episode(9)) and same(again.episode(3), given[3])
    (tmp_path / "s" / "shards" / "000001.safetensors").unlink()
    with pytest.raises(UserError, match=r"000001\.safetensors is missing"):
        Store.open(tmp_path / "s")


def test_a_missing_shard_of_format_1_is_noticed_in_the_row(tmp_path: Path):
    old_store(tmp_path / "s")
    (tmp_path / "s" / "shards" / "000000.safetensors").unlink()
    with pytest.raises(UserError, match=r"000000\.safetensors is missing"):
        Store.open(tmp_path / "s")


def test_a_torn_loose_episode_is_left_out_and_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """What a power cut may do to files that are not yet packed."""
    store = filled(tmp_path / "s", shards=1)
    store.add(episode(5))
    store.add(episode(6))
    os.truncate(tmp_path / "s" / "episodes" / "00000002.safetensors", 0)
    with caplog.at_level(logging.WARNING):
        store = Store.open(tmp_path / "s")
    assert store.lengths.tolist() == [3, 4, 6] and "00000002.safetensors" in caplog.text
    store.add(episode(7))
    store.compact()
    again = Store.open(tmp_path / "s")
    assert again.lengths.tolist() == [3, 4, 6, 7] and again.numbers.tolist() == [0, 1, 3, 4]
    assert files(tmp_path / "s", "damaged") == ["00000002.safetensors"]


@pytest.mark.parametrize("name", ["mit Leerzeichen é 日本", "x" * 200])
def test_any_path_will_do_and_a_link_to_it(tmp_path: Path, name: str):
    filled(tmp_path / name).add(episode(4))
    (tmp_path / "link").symlink_to(tmp_path / name, target_is_directory=True)
    store = Store.open(tmp_path / "link")
    store.add(episode(5))
    store.compact()
    assert Store.open(tmp_path / name).lengths.tolist() == [3, 4] * 3 + [4, 5]


def copy_by_pickle(store: Store) -> Store:
    """As a worker process gets it."""
    return pickle.loads(pickle.dumps(store))


def old_store(path: Path) -> list[Clip]:
    """As version 0.1 wrote it: no manifest, no checksums, shards that do not know their number."""
    given = [episode(3 + i, seed=i) for i in range(4)]
    (path / "shards").mkdir(parents=True)
    for number, clips in enumerate((given[:2], given[2:])):
        columns = {f"obs.{name}": [clip.obs[name][0].numpy() for clip in clips] for name in SPEC.obs}
        columns |= {
            name: [getattr(clip, name)[0].numpy() for clip in clips] for name in ("action", "reward", "terminated")
        }
        columns["length"] = [np.array([clip.length for clip in clips])]
        write_shard(path / "shards" / f"{number:06d}.safetensors", columns)
    spec = {"obs": {name: list(shape) for name, shape in SPEC.obs.items()}, "action": 2, "discrete": False}
    (path / "meta.json").write_text(json.dumps({"format": 1, "spec": spec}))
    return given
