"""`innerworld import`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from innerworld.cli import main
from innerworld.data import Store


def _log(folder, bad=False):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        state = rng.normal(size=(6, 2)).astype(np.float32)
        if bad and i == 1:
            state[2, 0] = np.nan
        np.savez(folder / f"{i}.npz", action=rng.uniform(-4, 4, (5, 1)).astype(np.float32), state=state)
    return str(folder)


BOUNDS = ["action_low=-4", "action_high=4"]


def test_import_npz(tmp_path, capsys):
    out = str(tmp_path / "d")
    assert main(["import", "npz", _log(tmp_path / "log"), "--out", out, *BOUNDS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["episodes"], found["transitions"], found["skipped"]) == ("npz", 3, 15, [])
    about = Store.open(out).meta.about
    assert about.action_low == (-4.0,) and about.more["command"].startswith("innerworld import npz")


def test_import_finds_out_what_it_is_and_shows_progress(tmp_path, capsys):
    assert main(["import", "auto", _log(tmp_path / "log"), "--out", str(tmp_path / "d"), *BOUNDS, "limit=2"]) == 0
    out, err = capsys.readouterr()
    assert "was read as npz" in out and "2 episodes, 10 transitions" in out and "state 2; action 1" in out
    assert "import npz 2/2" in err


def test_import_stops_at_nan_or_skips_it(tmp_path, capsys):
    words = ["import", "npz", _log(tmp_path / "log", bad=True), "--out", str(tmp_path / "d"), *BOUNDS]
    assert main(words) == 2
    assert "1.npz" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
    assert main([*words, "--skip-bad"]) == 0
    assert "skipped 1.npz" in capsys.readouterr().out
    assert len(Store.open(tmp_path / "d")) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["npz", "nowhere"], "there is no nowhere"),
        (["auto", "nowhere"], "there is no nowhere"),
        (["auto", "."], "looks like no log that can be imported: say which of pusht, zarr"),
        (["npz", "."], "has no .npz files"),
        (["zip", "."], "unknown kind of log 'zip'"),
        (["npz", ".", "sise=32"], "unknown key 'sise'. Did you mean 'size'?"),
        (["pusht", ".", "choices=3"], "unknown key 'choices'"),
        (["npz", ".", "--action-low", "3"], "import has no flag --action-low"),
        (["npz", ".", "size=-3"], "greater than or equal to 1"),
    ],
)
def test_import_refuses(words, told, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["import", *words, "--out", "d"]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_help_lists_the_kinds_and_the_keys_of_one(capsys):
    assert main(["import", "--help"]) == 0
    out = capsys.readouterr().out
    assert "minari" in out and "rlds" in out and "--skip-bad" in out
    assert main(["import", "hdf5", "--help"]) == 0
    out = capsys.readouterr().out
    assert "episode_length" in out and "frame_skip" in out and "int|null" in out
    assert main(["import", "hdf4", "--help"]) == 2


def test_pictures_may_be_packed(tmp_path):
    pytest.importorskip("numcodecs")
    (tmp_path / "log").mkdir()
    eye = np.zeros((6, 32, 32, 3), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
    np.savez(tmp_path / "log" / "0.npz", action=np.zeros((5, 1)), eye=eye)
    words = ["import", "npz", str(tmp_path / "log"), "--quiet", "--out"]
    sizes = []
    for frames in ("raw", "zstd"):
        assert main([*words, str(tmp_path / frames), "--frames", frames]) == 0
        store = Store.open(tmp_path / frames)
        np.testing.assert_array_equal(store.episode(0).obs["eye"][0], eye)
        sizes.append(sum(file.stat().st_size for file in (tmp_path / frames).rglob("*") if file.is_file()))
    assert sizes[1] < sizes[0] / 2
