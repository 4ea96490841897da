"""Imports are exact, aligned, all or nothing, and name the file or episode that is bad."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numcodecs import Blosc

from innerworld.data import About, import_npz, import_pusht
from innerworld.data.zarr import ZarrArray
from innerworld.errors import UserError
from innerworld.types import Spec

ENDS = [7, 9, 20]


def write(folder: Path, array: np.ndarray, rows: int) -> None:
    """A Zarr v2 array in chunks of some rows."""
    codec = Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)
    folder.mkdir(parents=True)
    chunks = [rows, *array.shape[1:]]
    about = {"zarr_format": 2, "shape": array.shape, "chunks": chunks, "dtype": array.dtype.str, "order": "C"}
    (folder / ".zarray").write_text(
        json.dumps({**about, "compressor": codec.get_config(), "fill_value": 0, "filters": None})
    )
    for i in range(-(-len(array) // rows)):
        whole = np.zeros(chunks, array.dtype)
        part = array[i * rows : (i + 1) * rows]
        whole[: len(part)] = part
        (folder / ".".join([str(i), *"0" * (array.ndim - 1)])).write_bytes(codec.encode(whole.tobytes()))


def demonstrations(folder: Path, change: dict[str, np.ndarray] | None = None) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "img": np.rint(rng.uniform(0, 255, (20, 96, 96, 3))).astype(np.float32),
        "state": rng.uniform(0, 512, (20, 5)).astype(np.float32),
        "action": np.stack([np.arange(20), 512 - np.arange(20)], -1).astype(np.float32),
        **(change or {}),
    }
    for name, array in arrays.items():
        write(folder / "data" / name, array, rows=6)
    write(folder / "meta" / "episode_ends", np.array(ENDS, np.int64), rows=2)
    return folder


def raw(folder: Path, name: str) -> np.ndarray:
    array = ZarrArray(folder / "data" / name)
    return array.read(0, len(array))


def test_pusht_comes_over_exactly(tmp_path: Path):
    log = demonstrations(tmp_path / "log.zarr")
    store, skipped = import_pusht(log, tmp_path / "out", size=96)
    assert (
        not skipped
        and store.path == tmp_path / "out"
        and store.spec == Spec({"pixels": (96, 96, 3), "state": (5,)}, action=2)
    )
    assert store.lengths.tolist() == [6, 1, 10]  # one less than the frames
    for i, (start, stop) in enumerate(zip([0, *ENDS], ENDS, strict=False)):
        clip = store.episode(i)
        np.testing.assert_array_equal(clip.obs["pixels"][0], raw(log, "img")[start:stop])
        np.testing.assert_array_equal(clip.obs["state"][0], raw(log, "state")[start:stop])
        np.testing.assert_allclose((clip.action[0] + 1) / 2 * 512, raw(log, "action")[start : stop - 1], atol=1e-4)
        assert not clip.reward.any() and not clip.terminated.any()
    about = store.meta.about
    assert (about.env, about.fps, about.action_low, about.action_high) == ("pusht", 10, (0, 0), (512, 512))


def test_pusht_frames_shrink_by_area(tmp_path: Path):
    log = demonstrations(tmp_path / "log.zarr")
    store, _ = import_pusht(log, tmp_path / "out", size=48)
    exact = raw(log, "img")[:7].reshape(7, 48, 2, 48, 2, 3).mean((2, 4))
    assert np.abs(store.episode(0).obs["pixels"][0].numpy() - exact).max() <= 0.51
    flat = np.full((20, 96, 96, 3), 77, np.float32)
    store, _ = import_pusht(demonstrations(tmp_path / "flat.zarr", {"img": flat}), tmp_path / "out2")
    assert store.spec.obs["pixels"] == (64, 64, 3) and bool((store.episode(2).obs["pixels"] == 77).all())


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("state", (8, 2), np.nan, "episode 1: .*state.*not finite at time step 1"),
        ("action", (8, 0), np.nan, None),  # the last action of an episode is dropped, good or bad
        ("action", (7, 0), np.nan, "episode 1: .*action is not finite"),
        ("action", (7, 0), 600.0, "episode 1: .*leaves"),
        ("img", (7, 3, 3, 0), np.nan, "episode 1: pixels are not all between"),
        ("img", (7, 3, 3, 0), 256.0, "episode 1: pixels are not all between"),
    ],
)
def test_a_bad_episode_is_named_or_skipped(
    tmp_path: Path, name: str, place: tuple[int, ...], value: float, message: str | None
):
    array = raw(demonstrations(tmp_path / "good.zarr"), name)
    array[place] = value
    log = demonstrations(tmp_path / "bad.zarr", {name: array})
    store, skipped = import_pusht(log, tmp_path / "skip", size=16, on_bad="skip")
    assert len(store) == (3 if message is None else 2) and len(skipped) == (message is not None)
    if message is not None:
        with pytest.raises(UserError, match=message):
            import_pusht(log, tmp_path / "stop", size=16)
        assert "episode 1" in skipped[0]
        assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.zarr", "good.zarr", "skip"]


def test_a_damaged_log_is_named_and_nothing_is_left(tmp_path: Path):
    log = demonstrations(tmp_path / "log.zarr")
    file = log / "data" / "img" / "2.0.0.0"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(UserError, match=r"2\.0\.0\.0 is truncated"):
        import_pusht(log, tmp_path / "out")
    with pytest.raises(UserError, match="not a Zarr v2 array"):
        import_pusht(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="size must be between 1 and the log's own 96"):
        import_pusht(log, tmp_path / "out", size=97)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(UserError, match="exists already"):
        import_pusht(log, tmp_path / "notes")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.zarr", "notes"]


def test_a_log_whose_arrays_do_not_fit_together(tmp_path: Path):
    log = demonstrations(tmp_path / "a.zarr", {"state": np.zeros((19, 5), np.float32)})
    with pytest.raises(UserError, match=r"data/state has 19 steps, the episodes end at 20"):
        import_pusht(log, tmp_path / "out")
    log = demonstrations(tmp_path / "b.zarr", {"action": np.zeros((20, 3), np.float32)})
    with pytest.raises(UserError, match=r"data/action has shape \(20, 3\), expected \(steps, 2\)"):
        import_pusht(log, tmp_path / "out")


if "INNERWORLD_PUSHT" in os.environ:

    @pytest.mark.slow
    def test_the_real_demonstrations(tmp_path: Path):
        store, skipped = import_pusht(os.environ["INNERWORLD_PUSHT"], tmp_path / "out", size=96)
        assert not skipped and len(store) == 206 and store.frames == 25_650
        # Where the block covers its mark at the end, as these people were asked to: 45 degrees at the middle.
        final = np.array([store.episode(i).obs["state"][0, -1].numpy() for i in range(206)])
        off = np.abs(np.median(final[:, 2:], axis=0) - [256, 256, np.pi / 4])
        assert np.all(off < [8, 8, 0.1])


# ---------------------------------------------------------------------- .npz


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
    store, skipped = import_npz(tmp_path / "in", tmp_path / "out", about=About(env="arm", fps=30))
    assert not skipped and store.lengths.tolist() == [5, 3] and store.meta.about == About(env="arm", fps=30)
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
    with pytest.raises(UserError, match="none of the 1 files can be read"):
        import_npz(tmp_path / "in", tmp_path / "out2", on_bad="skip")
    with pytest.raises(UserError, match=r"has no \.npz files"):
        import_npz(tmp_path, tmp_path / "out2")
    with pytest.raises(UserError, match="needed together"):
        import_npz(tmp_path / "in", tmp_path / "out2", action_low=(0.0,))
