"""Zarr replays come over exactly, aligned, all or nothing, and name the file or episode that is bad."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numcodecs import Blosc

from innerworld.data import Store, import_log
from innerworld.data.importers.replay import PushTConfig, ReplayConfig
from innerworld.data.importers.zarr import ZarrArray
from innerworld.errors import UserError
from innerworld.types import Spec

ENDS = [7, 9, 20]


def import_pusht(path: str | Path, out: Path, size: int | None = 64, on_bad: Any = "stop") -> tuple[Store, list[str]]:
    return import_log("pusht", path, out, PushTConfig(size=size), on_bad)


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


def test_any_replay_with_other_names(tmp_path: Path):
    log = demonstrations(tmp_path / "log.zarr", {"reward": np.arange(20, dtype=np.float64)})
    config = ReplayConfig(reward="reward", frame_skip=2, sensors=("keypoint", "state"), fps=10)
    with pytest.raises(UserError, match=r"log\.zarr episode 0: no sensor 'keypoint' here"):
        import_log("zarr", log, tmp_path / "out", config)
    config = config.model_copy(update={"sensors": ("state",)})
    store, skipped = import_log("zarr", log, tmp_path / "out", config, "skip")
    assert skipped == ["log.zarr episode 1: it has 1 actions: frame_skip=2 needs at least 2"]
    assert store.spec == Spec({"state": (5,)}, 4) and store.lengths.tolist() == [3, 5]
    assert store.episode(0).reward.tolist() == [[0 + 1, 2 + 3, 4 + 5]]
    about = store.meta.about
    assert about.fps == 5 and about.more["frame_skip"] == 2
    # The bounds are those of the actions that are used, twice because two are joined.
    assert about.action_low == (0, 494, 0, 494) and about.action_high == (18, 512, 18, 512)
    with pytest.raises(UserError, match="has no array data/acts; there are: action, img"):
        import_log("zarr", log, tmp_path / "b", ReplayConfig(action="acts"))
    with pytest.raises(UserError, match="zarr takes a ReplayConfig, not a PushTConfig"):
        import_log("zarr", log, tmp_path / "b", PushTConfig())
    with pytest.raises(UserError, match=r"unknown kind of log 'zar'\. Did you mean 'zarr'"):
        import_log("zar", log, tmp_path / "b")


def test_a_replay_without_actions(tmp_path: Path):
    log = demonstrations(tmp_path / "log.zarr")
    store, _ = import_log("zarr", log, tmp_path / "out", ReplayConfig(action=None, sensors=("img",), size=16))
    assert store.spec == Spec({"img": (16, 16, 3)}, 0) and store.episode(2).action.shape == (1, 10, 0)
