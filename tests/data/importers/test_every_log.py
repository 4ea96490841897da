"""Every kind of log comes over exactly, by its name and by being guessed; damage and foreign files are refused."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from innerworld.config import build
from innerworld.data import Store, import_log
from innerworld.data.importers import IMPORTERS, guess
from innerworld.errors import UserError

NEEDS_AV = pytest.mark.skipif(find_spec("av") is None, reason="no decoder")
KINDS = [
    *("npz", "ogbench", "zarr", "pusht", "minari", "d4rl", "robomimic", "swm", "rlds", "pictures"),
    pytest.param("video", marks=NEEDS_AV),
    pytest.param("lerobot", marks=NEEDS_AV),
]


def bring(log, path: Path, out: Path, on_bad="stop", **more) -> tuple[Store, list[str]]:
    config = build(IMPORTERS[log.kind].config, {**log.config, **more})
    return import_log(log.kind, path, out, config, on_bad)


@pytest.mark.parametrize("name", KINDS)
def test_a_log_comes_over_exactly(name: str, logs: ModuleType, tmp_path: Path) -> None:
    log, known = logs.LOGS[name], logs.episodes()
    (tmp_path / "in").mkdir()
    path = log.write(tmp_path / "in", known)
    assert guess(path) == log.kind
    store, skipped = bring(log, path, tmp_path / "out")
    assert not skipped and len(store) == len(known)
    for i, each in enumerate(known):
        clip = store.episode(i)
        assert clip.obs.keys() == each.obs.keys()
        np.testing.assert_allclose(clip.action[0], each.action, atol=1e-6)
        np.testing.assert_array_equal(clip.obs["state"][0], each.obs["state"])
        if log.exact:
            np.testing.assert_array_equal(clip.obs["pixels"][0], each.obs["pixels"])
        else:  # each frame tells its number
            grey = clip.obs["pixels"][0, :, 16, 16, 0].numpy().astype(int)
            assert np.abs(grey - (20 * np.arange(len(grey)) + 20)).max() < 5
        if name not in ("pusht", "ogbench"):  # which have none
            np.testing.assert_allclose(clip.reward[0], each.reward, atol=1e-6)
        if name not in ("pusht", "ogbench", "zarr"):
            np.testing.assert_array_equal(clip.terminated[0], each.terminated)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("damage", ["truncated", "wrong magic", "empty"])
def test_a_damaged_file_is_named_or_skipped(name: str, damage: str, logs: ModuleType, tmp_path: Path) -> None:
    log = logs.LOGS[name]
    (tmp_path / "in").mkdir()
    path = log.write(tmp_path / "in", logs.episodes())
    file = max((each for each in (tmp_path / "in").rglob("*") if each.is_file()), key=lambda each: each.stat().st_size)
    raw = file.read_bytes()
    change = {"truncated": raw[: len(raw) // 2], "wrong magic": b"nonsense" * 4 + raw[32:], "empty": b""}
    file.write_bytes(change[damage])
    with pytest.raises(UserError) as caught:
        bring(log, path, tmp_path / "out")
    told = str(caught.value)
    assert "\n" not in told and any(part in told for part in (file.name, path.name, "record", "episode_", "take_"))
    assert not (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == 1
    try:
        store, skipped = bring(log, path, tmp_path / "out", on_bad="skip")
    except UserError:
        return  # nothing is left of a log in one file
    assert len(store) + len(skipped) >= 2 and skipped and len(store)


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_refuses_the_logs_of_others(name: str, logs: ModuleType, tmp_path: Path) -> None:
    log = logs.LOGS[name]
    (tmp_path / "in").mkdir()
    path = log.write(tmp_path / "in", logs.episodes())
    for kind, importer in IMPORTERS.items():
        if kind != log.kind and {kind, log.kind} not in ({"pusht", "zarr"}, {"minari", "hdf5"}):
            with pytest.raises(UserError):
                import_log(kind, path, tmp_path / kind, importer.config())
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError):
        import_log(log.kind, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(UserError, match="looks like no log"):
        guess(tmp_path / "nothing")


@pytest.mark.parametrize("name", KINDS)
def test_nan_in_a_sensor_is_named_or_skipped(name: str, logs: ModuleType, tmp_path: Path) -> None:
    log, known = logs.LOGS[name], logs.episodes()
    known[1].obs["state"][2, 0] = np.nan
    (tmp_path / "in").mkdir()
    path = log.write(tmp_path / "in", known)
    with pytest.raises(UserError, match=r"1.*'state' is not finite at time step 2"):
        bring(log, path, tmp_path / "out")
    store, skipped = bring(log, path, tmp_path / "out", on_bad="skip")
    assert len(store) == 2 and len(skipped) == 1 and "not finite" in skipped[0]


@pytest.mark.parametrize("name", KINDS)
def test_an_episode_may_not_take_more_than_it_should(name: str, logs: ModuleType, tmp_path: Path) -> None:
    log = logs.LOGS[name]
    (tmp_path / "in").mkdir()
    path = log.write(tmp_path / "in", logs.episodes())
    with pytest.raises(UserError, match="GB"):
        bring(log, path, tmp_path / "out", episode_gb=1e-6)


@pytest.mark.parametrize("name", ["npz", "zarr", "minari", "rlds", "pictures"])
def test_links_out_of_the_log_are_refused(name: str, logs: ModuleType, tmp_path: Path) -> None:
    log = logs.LOGS[name]
    (tmp_path / "in").mkdir()
    path = log.write(tmp_path / "in", logs.episodes())
    files = (each for each in (tmp_path / "in").rglob("*") if each.is_file() and each.suffix not in (".json", ".csv"))
    file = max(files, key=lambda each: each.stat().st_size)
    shutil.move(file, tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="outside"):
        bring(log, path, tmp_path / "out")
    store, _ = bring(log, path, tmp_path / "out", follow_links=True)
    assert len(store) == 3
