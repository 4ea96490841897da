"""`innerworld data …` from the command line: what it says, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from innerworld.cli import main
from innerworld.data.store.store import About, Store
from innerworld.types import Clip, Spec


def made(path: Path, count: int = 5) -> str:
    store = Store.create(path, Spec({"pixels": (8, 8, 3), "state": (2,)}, 1), About(env="a"))
    for i in range(count):
        t = 2 + i
        seen = {"pixels": torch.full((1, t + 1, 8, 8, 3), i, dtype=torch.uint8), "state": torch.zeros(1, t + 1, 2)}
        store.add(Clip(seen, torch.zeros(1, t, 1), torch.zeros(1, t), torch.zeros(1, t) > 0), seed=i)
    store.compact()
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["data", *words, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def test_info_says_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = made(tmp_path / "s")
    values = told(capsys, "info", path)
    assert (values["episodes"], values["transitions"], values["frames"]) == (5, 20, "raw")
    assert values["lengths"]["median"] == 4 and values["about"]["env"] == "a" and values["made"]["created"]
    assert values["statistics"]["obs.pixels"]["max"] == [4, 4, 4]
    assert main(["data", "info", path, "--quiet"]) == 0
    assert "5 episodes, 20 transitions" in capsys.readouterr().out


def test_verify_fails_on_a_fault_and_repair_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = made(tmp_path / "s")
    assert told(capsys, "verify", path)["faults"] == []
    shard = tmp_path / "s" / "shards" / "000000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert main(["data", "verify", path, "--quiet"]) == 1
    out = capsys.readouterr().out
    assert "shards/000000.safetensors: episode 4 is not what was written" in out and f"data repair {path}" in out
    values = told(capsys, "repair", path)
    assert values["episodes"] == 4 and values["moved"] == ["damaged/000000.safetensors"]
    assert told(capsys, "verify", path)["episodes"] == 4


def test_new_stores_out_of_old_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, a, b, c, d = made(tmp_path / "s"), *(str(tmp_path / name) for name in "abcd")
    told(capsys, "split", path, "--out", a, b, "--episodes", "0-2,4", "3")
    assert Store.open(a).seeds.tolist() == [0, 1, 2, 4]
    assert told(capsys, "merge", b, a, "--out", c)["stores"][0]["episodes"] == 5
    told(capsys, "trim", c, "--out", d, "--shorter", "4", "--episodes", "0")
    assert Store.open(d).seeds.tolist() == [2, 4]
    told(capsys, "convert", d, "--out", str(tmp_path / "j"), "--frames", "jpeg")
    assert Store.open(tmp_path / "j").meta.frames == "jpeg"


@pytest.mark.parametrize(
    ("kind", "settings", "files"),
    [
        ("npz", ["episodes=[1,3]", 'sensors=["pixels"]'], ["000000.npz", "000001.npz"]),
        ("lerobot", ["codec=lossless", "episodes=[1,3]"], ["info.json", "episode"]),
        ("video", ["codec=lossless", "episodes=[1,3]"], ["000000.mp4", "000001.mp4"]),
    ],
)
def test_export_takes_its_settings_and_can_be_imported_again(
    kind: str, settings: list[str], files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if kind != "npz":
        pytest.importorskip("pyarrow")
        pytest.importorskip("av")
    path, out = made(tmp_path / "s"), str(tmp_path / "out")
    values = told(capsys, "export", path, "--format", kind, "--out", out, *settings)
    assert values == {"out": out, "format": kind, "episodes": 2}
    there = [file.as_posix() for file in (tmp_path / "out").rglob("*")]
    assert all(any(name in file for file in there) for name in files), there
    assert main(["import", kind, out, "--out", str(tmp_path / "again"), "--json", "--quiet"]) == 0
    again, whole = Store.open(tmp_path / "again"), Store.open(path)
    assert again.lengths.tolist() == [3, 5]
    for i, e in enumerate((1, 3)):
        shown = [store.episode(n).obs["pixels"] for store, n in ((again, i), (whole, e))]
        assert shown[0].equal(shown[1]) and again.episode(i).action.equal(whole.episode(e).action)
    assert main(["data", "export", path, "--format", kind, "--out", out, "--quiet"]) == 2  # another export is there


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "s", "--out", "x"], "say what to export with --format: lerobot, npz, video"),
        (["export", "s", "--out", "x", "--format", "lerobt"], "Did you mean 'lerobot'"),
        (["export", "s", "--out", "x", "--format", "npz", "codec=h264"], "unknown key 'codec'"),
        (["export", "s", "--out", "x", "--format", "npz", "episodes=[9]"], "has no episode 9: it has 5"),
        (["info", "s", "codec=h264"], "data info takes flags only"),
        (["info", "s", "--shares", "1"], "--shares is for split, not info"),
        (["merge", "s"], "data merge makes a new folder: name it with --out"),
        (["info", "s", "s"], "data info takes one store"),
        (["split", "s", "--out", "x"], "data split takes either"),
        (["split", "s", "--out", "x", "--shares", "1", "1"], "2 parts need as many folders"),
        (["split", "s", "--out", "x", "--episodes", "0-9"], "there is no episode 5: the store has 5"),
        (["trim", "s", "--out", "x", "--episodes", "a-b"], "write episodes as 0-99,120"),
        (["convert", "s", "--out", "s"], "s exists already"),
        (["verify", "nothing"], "nothing is no store of experience"),
    ],
)
def test_mistakes_are_a_sentence(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    made(tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words, "--quiet"]) == 2
    assert message in capsys.readouterr().err
