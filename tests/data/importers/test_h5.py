"""HDF5 files that point elsewhere, hold themselves, or say that they are larger than they may be are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from innerworld.data import import_log
from innerworld.data.importers.h5 import leaves, open_h5, rows
from innerworld.data.importers.hdf5 import Hdf5Config
from innerworld.data.importers.minari import MinariConfig
from innerworld.errors import UserError


def flat(file: Path, change: Callable[[Any], None] = lambda root: None) -> Path:
    """A D4RL-style file of two episodes of 4 steps, the first of which ends the world."""
    with h5py.File(file, "w") as root:
        root["observations"] = np.arange(16, dtype=np.float32).reshape(8, 2)
        root["actions"] = np.linspace(-1, 1, 16).reshape(8, 2)
        root["rewards"] = np.arange(8.0)
        root["terminals"] = np.arange(8) == 3
        root["timeouts"] = np.arange(8) == 7
        change(root)
    return file


def replaced(name: str, **how: Any) -> Callable[[Any], None]:
    def change(root: Any) -> None:
        del root[name]
        root.create_dataset(name, **how)

    return change


def elsewhere(link: Any) -> Callable[[Any], None]:
    def change(root: Any) -> None:
        del root["observations"]
        root["observations"] = link

    return change


def virtual(root: Any) -> None:
    del root["observations"]
    layout = h5py.VirtualLayout((8, 2), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (8, 2))
    root.create_virtual_dataset("observations", layout)


def outside(root: Any) -> None:
    del root["observations"]
    root.create_dataset("observations", (8, 2), "f4", external=[("/etc/hostname", 0, 64)])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (elsewhere(h5py.ExternalLink("other.h5", "/x")), "log.hdf5:/observations is a link to elsewhere"),
        (elsewhere(h5py.SoftLink("/actions")), "is a link to elsewhere"),
        (virtual, "keeps its numbers in another file"),
        (outside, "keeps its numbers in another file"),
        (replaced("observations", shape=(8, 2**50), dtype="f4", chunks=(1, 16)), "GB: damaged"),
        (
            replaced("observations", shape=(8, 40_000), dtype="f4", chunks=(8000, 40_000), maxshape=(None, 40_000)),
            "chunk",
        ),
        (replaced("observations", data=np.array([b"text"] * 8)), "is of type |S4, expected numbers"),
        (replaced("observations", data=["text"] * 8), "is of type object, expected numbers"),
        (replaced("observations", data=h5py.Empty("f4")), "has no rows"),
        (replaced("observations", data=np.zeros((7, 2))), "has 7 rows, expected 8"),
        (replaced("rewards", data=np.zeros(3)), "has 3 rows, expected"),
        (replaced("actions", data=np.zeros((0, 2))), "says that it has 0 steps"),
        (replaced("terminals", data=np.zeros(5)), "has 5 rows, expected 8"),
        (lambda root: root.__delitem__("actions"), "has no 'actions' or 'action'; there are: observations"),
        (lambda root: root.__delitem__("observations"), "no 'observations'"),
        (lambda root: (root.__delitem__("terminals"), root.__delitem__("timeouts")), "give episode_length"),
    ],
)
def test_what_a_file_may_not_do(tmp_path: Path, change: Callable[[Any], None], told: str) -> None:
    flat(tmp_path / "log.hdf5", change)
    with pytest.raises(UserError) as caught:
        import_log("hdf5", tmp_path, tmp_path / "out", Hdf5Config(episode_gb=0.1))
    assert told in str(caught.value) and "log.hdf5" in str(caught.value) and "\n" not in str(caught.value)


def test_a_group_that_holds_itself(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as root:
        root["observations/x"] = np.zeros(3)
        root["observations/again"] = root["observations"]
    with pytest.raises(UserError, match="deeper than 16 groups"), open_h5(tmp_path / "a.h5") as root:
        leaves(root, "observations")


def test_an_unknown_compressor_is_named(tmp_path: Path) -> None:
    file = flat(tmp_path / "log.hdf5", replaced("rewards", data=np.arange(8.0), compression="lzf", chunks=(8,)))
    raw = file.read_bytes()
    at = raw.index(b"lzf\0") - 8  # number, length of the name, flags, count of values, each of 2 bytes
    assert raw[at : at + 2] == (32000).to_bytes(2, "little")
    file.write_bytes(raw[:at] + (32015).to_bytes(2, "little") + raw[at + 2 :])
    with pytest.raises(UserError, match=r"is compressed with .* hdf5plugin"), open_h5(file) as root:
        rows(root["rewards"], 0, 8, 10**9)


def test_d4rl_without_what_came_after(tmp_path: Path) -> None:
    flat(tmp_path / "log.hdf5")
    store, _ = import_log("hdf5", tmp_path / "log.hdf5", tmp_path / "out")
    assert store.lengths.tolist() == [3, 3]
    clip = store.episode(1)
    assert clip.obs["observations"][0, :, 0].tolist() == [8, 10, 12, 14] and clip.reward.tolist() == [[4, 5, 6]]


def test_d4rl_without_ends_is_cut_by_length(tmp_path: Path) -> None:
    flat(tmp_path / "log.hdf5", lambda root: root.__delitem__("timeouts"))
    store, _ = import_log("hdf5", tmp_path / "log.hdf5", tmp_path / "out", Hdf5Config(episode_length=2))
    assert store.lengths.tolist() == [1, 1, 1, 1]


def test_choices_and_bounds_of_actions(tmp_path: Path) -> None:
    flat(tmp_path / "a.hdf5", replaced("actions", data=np.arange(8) % 3))
    store, _ = import_log("hdf5", tmp_path / "a.hdf5", tmp_path / "a", Hdf5Config(choices=3))
    assert store.spec.discrete and store.spec.action == 3
    assert store.episode(1).action.argmax(-1).tolist() == [[1, 2, 0]]
    with pytest.raises(UserError, match="choices do not allow"):
        import_log("hdf5", tmp_path / "a.hdf5", tmp_path / "b", Hdf5Config(choices=3, frame_skip=2))
    flat(tmp_path / "b.hdf5", replaced("actions", data=np.stack([np.arange(8.0), np.full(8, 7.0)], 1)))
    store, _ = import_log("hdf5", tmp_path / "b.hdf5", tmp_path / "c")
    about = store.meta.about  # of the actions that are used; an axis that stands still lies in the middle
    assert (about.action_low, about.action_high) == ((0, 6), (6, 8))
    assert store.episode(0).action[0, :, 1].tolist() == [0, 0, 0]


def test_wrong_lengths_of_stable_worldmodel(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as root:
        root["action"], root["state"] = np.zeros((6, 2)), np.zeros((6, 3))
        root["ep_len"], root["ep_offset"] = np.array([3, 3]), np.array([0, 2])
    with pytest.raises(UserError, match=r"a\.h5: ep_offset does not follow from ep_len"):
        import_log("hdf5", tmp_path / "a.h5", tmp_path / "out")


# ---------------------------------------------------------------------- Minari


def minari(folder: Path, space: str, action: np.ndarray, **other: str) -> Path:
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as root:
        for i in range(12):
            root[f"episode_{i}/observations/arm/joints"] = np.full((5, 2), i, np.float64)
            root[f"episode_{i}/observations/_index_1"] = np.zeros((5, 8, 8, 3), np.uint8)
            root[f"episode_{i}/observations/told"] = ["go"] * 5
            root[f"episode_{i}/actions"] = action
    (folder / "data" / "metadata.json").write_text(json.dumps({"action_space": space, **other}))
    return folder


def test_minari_nested_and_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    box = '{"type": "Box", "low": [0, -2], "high": [4, 2], "shape": [2]}'
    path = minari(tmp_path / "set", box, np.tile([1.0, 2.0], (4, 1)), dataset_id="a/b-v1", algorithm_name="SAC")
    store, _ = import_log("minari", path, tmp_path / "out")
    assert store.spec.obs == {"1": (8, 8, 3), "arm.joints": (2,)}
    assert [store.episode(i).obs["arm.joints"][0, 0, 0].item() for i in range(12)] == list(range(12))
    assert store.episode(0).action.tolist() == [[[-0.5, 1.0]] * 4]
    assert (store.meta.about.policy, store.meta.about.more["source"]) == ("SAC", "a/b-v1")


def test_minari_choices_that_start_anywhere(tmp_path: Path) -> None:
    path = minari(tmp_path / "set", '{"type": "Discrete", "n": 3, "start": 5}', np.array([5, 7, 6, 5]))
    store, _ = import_log("minari", path, tmp_path / "out")
    assert store.spec.discrete and store.episode(3).action.argmax(-1).tolist() == [[0, 2, 1, 0]]


def test_minari_that_cannot_be_read(tmp_path: Path) -> None:
    path = minari(tmp_path / "a", '{"type": "Discrete", "n": -3}', np.zeros(4, np.int64))
    with pytest.raises(UserError, match="action_space has -3 choices"):
        import_log("minari", path, tmp_path / "out")
    path = minari(tmp_path / "b", "{}", np.zeros((4, 2)), data_format="arrow")
    with pytest.raises(UserError, match="data_format 'arrow'"):
        import_log("minari", path, tmp_path / "out")
    (path / "data" / "metadata.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"metadata\.json is corrupt"):
        import_log("minari", path, tmp_path / "out", MinariConfig())


def test_a_file_that_another_process_writes_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as root:
        root["x"] = np.zeros(3)
    hold = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('held', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", hold, str(tmp_path / "a.hdf5")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=r"a\.hdf5 is being written by another process"),
            open_h5(tmp_path / "a.hdf5"),
        ):
            pass
        writer.communicate("")
    with open_h5(tmp_path / "a.hdf5") as root:
        assert len(root["x"]) == 3
