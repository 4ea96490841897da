"""Archives come over exactly, whole, many in one or flat; lies about their size, pickles and damage are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerworld.data import Store, import_log
from innerworld.data.importers.npz import NpzConfig, read_npz
from innerworld.errors import UserError
from innerworld.types import Spec


def import_npz(path: Path, out: Path, on_bad: Any = "stop", **config: Any) -> tuple[Store, list[str]]:
    return import_log("npz", path, out, NpzConfig(**config), on_bad)


def save(folder: Path, name: str, t: int, **change: Any) -> None:
    rng = np.random.default_rng(t)
    arrays = {
        "action": rng.uniform(-1, 1, (t, 2)),
        "camera": rng.integers(0, 256, (t + 1, 4, 5, 3), np.uint8),
        "joints": rng.normal(size=(t + 1, 6)),
        "reward": np.arange(t, dtype=np.float64),
        "terminated": np.arange(t) == t - 1,
    }
    folder.mkdir(exist_ok=True)
    np.savez(folder / name, **{key: value for key, value in {**arrays, **change}.items() if value is not None})


def test_npz_come_over_in_the_order_of_their_names(tmp_path: Path):
    for name, t in (("b.npz", 3), ("a.npz", 5)):
        save(tmp_path / "in", name, t)
    store, skipped = import_npz(tmp_path / "in", tmp_path / "out", env="arm", fps=30)
    assert (
        not skipped and store.lengths.tolist() == [5, 3] and (store.meta.about.env, store.meta.about.fps) == ("arm", 30)
    )
    assert store.spec == Spec({"camera": (4, 5, 3), "joints": (6,)}, action=2)
    given, clip = np.load(tmp_path / "in" / "b.npz"), store.episode(1)
    np.testing.assert_array_equal(clip.obs["camera"][0], given["camera"])
    np.testing.assert_array_equal(clip.obs["joints"][0], given["joints"].astype(np.float32))
    np.testing.assert_array_equal(clip.action[0], given["action"].astype(np.float32))
    assert clip.reward.tolist() == [[0, 1, 2]] and clip.terminated.tolist() == [[False, False, True]]


def test_npz_without_reward_and_with_actions_in_other_units(tmp_path: Path):
    save(tmp_path / "in", "a.npz", 2, action=np.array([[0.0, 5.0], [4.0, 15.0]]), reward=None, terminated=None)
    store, _ = import_npz(tmp_path / "in", tmp_path / "out", action_low=(0, 5), action_high=(4, 15))
    assert store.episode(0).action.tolist() == [[[-1, -1], [1, 1]]]
    assert not store.episode(0).reward.any() and not store.episode(0).terminated.any()
    assert (store.meta.about.action_low, store.meta.about.action_high) == ((0, 5), (4, 15))


def test_npz_with_choices(tmp_path: Path):
    save(tmp_path / "in", "a.npz", 3, action=np.array([2, 0, 1]))
    store, _ = import_npz(tmp_path / "in", tmp_path / "out", choices=3)
    assert store.spec.discrete and store.episode(0).action.argmax(-1).tolist() == [[2, 0, 1]]
    with pytest.raises(UserError, match=r"a\.npz: 'action' lies between 0 and 2, expected 0 to 1"):
        import_npz(tmp_path / "in", tmp_path / "out2", choices=2)


OTHER = np.zeros((5, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": np.zeros((4, 6))}, r"b\.npz: sensor 'joints' has shape \(4, 6\), but action has length 4"),
        ({"reward": np.zeros(5)}, r"b\.npz: 'reward' has shape \(5,\), but action has length 4"),
        ({"action": None}, r"b\.npz: no key 'action'"),
        ({"action": np.zeros((4, 3))}, r"b\.npz: .*3 numbers, the spec says 2"),
        ({"action": np.full((4, 2), 3.0)}, r"b\.npz: .*leaves \[-1, 1\]"),
        ({"action": np.zeros(4)}, r"b\.npz: 'action' has shape \(4,\)"),
        ({"joints": np.full((5, 6), np.nan)}, r"b\.npz: .*'joints' is not finite"),
        ({"joints": None}, r"b\.npz: .*sensors are camera"),
        ({"camera": OTHER}, r"b\.npz: .*shape \(4, 4, 3\)"),
        ({"joints": np.array([{"a": 1}] * 5)}, r"b\.npz: cannot be read"),
        ({"joints": np.array([["a"] * 6] * 5)}, r"b\.npz: 'joints' is of type"),
    ],
)
def test_a_bad_npz_is_named_or_skipped(tmp_path: Path, change: dict[str, Any], message: str):
    save(tmp_path / "in", "a.npz", 4)
    save(tmp_path / "in", "b.npz", 4, **change)
    with pytest.raises(UserError, match=message):
        import_npz(tmp_path / "in", tmp_path / "out")
    store, skipped = import_npz(tmp_path / "in", tmp_path / "out", on_bad="skip")
    assert len(store) == 1 and len(skipped) == 1 and skipped[0].startswith("b.npz: ")


def test_a_torn_first_file_and_none_at_all(tmp_path: Path):
    save(tmp_path / "in", "b.npz", 4)
    (tmp_path / "in" / "a.npz").write_bytes((tmp_path / "in" / "b.npz").read_bytes()[:400])
    with pytest.raises(UserError, match=r"a\.npz: cannot be read"):
        import_npz(tmp_path / "in", tmp_path / "out")
    store, skipped = import_npz(tmp_path / "in", tmp_path / "out", on_bad="skip")
    assert len(store) == 1 and skipped[0].startswith("a.npz")
    with (tmp_path / "in" / "a.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"a\.npz: cannot be read: it holds a single array"):
        import_npz(tmp_path / "in", tmp_path / "out2")
    (tmp_path / "in" / "b.npz").unlink()
    with pytest.raises(UserError, match="none of the 1 episodes can be imported"):
        import_npz(tmp_path / "in", tmp_path / "out2", on_bad="skip")
    with pytest.raises(UserError, match=r"has no \.npz files"):
        import_npz(tmp_path, tmp_path / "out2")
    with pytest.raises(UserError, match="needed together"):
        import_npz(tmp_path / "in", tmp_path / "out2", action_low=(0.0,))


def test_many_episodes_in_one_file(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 5, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "all.npz", frames=frames, action=np.zeros((3, 4, 2)), kind=np.zeros((3, 5)))
    store, _ = import_npz(tmp_path / "all.npz", tmp_path / "out", many=True)
    assert len(store) == 3 and store.spec == Spec({"frames": (8, 8, 3), "kind": (1,)}, 2)
    np.testing.assert_array_equal(store.episode(2).obs["frames"][0], frames[2])
    store, _ = import_npz(tmp_path / "all.npz", tmp_path / "film", many=True, action=None, sensors=("frames",), limit=2)
    assert len(store) == 2 and store.spec.action == 0
    with pytest.raises(UserError, match=r"all\.npz has no key 'done'"):
        import_npz(tmp_path / "all.npz", tmp_path / "o", ends="done")


def test_as_many_actions_as_observations(tmp_path: Path):
    np.savez(tmp_path / "a.npz", action=np.arange(8).reshape(4, 2) / 8, state=np.arange(4.0), reward=np.arange(4))
    store, _ = import_npz(tmp_path / "a.npz", tmp_path / "out")
    clip = store.episode(0)
    assert clip.action.shape == (1, 3, 2) and clip.obs["state"].tolist() == [[[0], [1], [2], [3]]]
    assert clip.reward.tolist() == [[0, 1, 2]]


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header("(1000000000000,)") + bytes(80), "has 80 bytes, which is not"),
        (header("(-1, 4)") + bytes(80), "has shape"),
        (header("(10,)", "'|O'") + bytes(80), "pickled objects"),
        (header("(10,)") + bytes(8), "has 8 bytes, which is not"),
        (header("(2,)") + bytes(80), "has 80 bytes, which is not"),
        (header("__import__('os')") + bytes(80), "header of 'x.npy' is damaged"),
        (b"nonsense", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, content: bytes, told: str):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(UserError, match=told):
        read_npz(tmp_path / "a.npz", most=10**9)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path):
    inner = io.BytesIO()
    np.save(inner, np.zeros(400_000))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"{i}.npy", inner.getvalue())
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    with pytest.raises(UserError, match=r"key '3' says .* episode_gb=0.01"):
        read_npz(tmp_path / "a.npz", most=10_000_000)


def test_what_is_no_array_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("../../run.sh", "rm")
    with pytest.raises(UserError, match="which is no array"):
        read_npz(tmp_path / "a.npz", most=10**9)


def test_an_index_that_lost_an_array_is_noticed(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(3))
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    first = raw.index(b"PK\x01\x02")
    second = raw.index(b"PK\x01\x02", first + 4)
    raw[first + 32 : first + 34] = (raw.index(b"PK\x05\x06") - second).to_bytes(2, "little")  # the rest is a comment
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(UserError, match="1 of its 2 arrays are in its index"):
        read_npz(tmp_path / "a.npz", most=10**9)
