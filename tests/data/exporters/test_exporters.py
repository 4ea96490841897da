"""What is exported can be imported again, by what the format can hold; a killed export is gone on with."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from innerworld.data.exporters import EXPORTERS, ExportConfig, export_store
from innerworld.data.exporters.lerobot import LeRobotExport
from innerworld.data.exporters.video import VideoExport
from innerworld.data.importers import IMPORTERS, import_log
from innerworld.data.importers.bring import bring_in
from innerworld.data.importers.lerobot import LeRobotConfig, open_lerobot
from innerworld.data.store.store import About, Store
from innerworld.data.video import Video
from innerworld.errors import UserError
from innerworld.types import Clip, Spec

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("av")

Make = Callable[..., Store]
SPEC = Spec({"pixels": (64, 64, 3), "state": (4,), "speed": (1,)}, 2)
ABOUT = About(env="toy", fps=15, action_low=(-3, 0), action_high=(7, 512))


def episode(number: int, t: int, spec: Spec) -> Clip:
    generator = torch.Generator().manual_seed(number)
    obs: dict[str, torch.Tensor] = {}
    for name, shape in spec.obs.items():
        if len(shape) == 3:
            y, x, i = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), torch.arange(t + 1), indexing="ij")
            planes = [(y * 2 + i * 3) % 256, (x * 2 + 40 * number) % 256, (x + y + i) % 256, x % 256]
            obs[name] = torch.stack(planes[: shape[2]], -1).permute(2, 0, 1, 3).to(torch.uint8)[None]
        else:
            obs[name] = torch.randn(1, t + 1, *shape, generator=generator)
    action = torch.rand(1, t, spec.action, generator=generator) * 2 - 1
    if spec.discrete:
        action = torch.eye(spec.action)[action.argmax(2)]
    ended = torch.zeros(1, t, dtype=torch.bool)
    ended[0, -1] = number % 2 == 0
    return Clip(obs, action, torch.randn(1, t, generator=generator), ended)


@pytest.fixture
def make_store(tmp_path: Path) -> Make:
    def make(spec: Spec = SPEC, about: About = ABOUT, episodes: int = 3, name: str = "store") -> Store:
        store = Store.create(tmp_path / name, spec, about)
        for number in range(episodes):
            store.add(episode(number, 5 + number, spec), seed=100 + number)
        return store

    return make


def back(folder: Path, out: Path) -> Store:
    return bring_in(open_lerobot(folder, LeRobotConfig()), out, LeRobotConfig())[0]


@pytest.mark.parametrize(("codec", "worst"), [("h264", 3.0), ("lossless", 0.0), ("av1", 6.0)])
def test_lerobot_comes_back(make_store: Make, tmp_path: Path, codec: Any, worst: float) -> None:
    store = make_store()
    export_store("lerobot", store, tmp_path / "out", LeRobotExport(codec=codec))
    again = back(tmp_path / "out", tmp_path / "again")
    assert again.spec == store.spec and again.lengths.tolist() == [5, 6, 7] and again.seeds.tolist() == [100, 101, 102]
    assert again.meta.about.fps == 15 and again.meta.about.action_high == (7, 512) and again.meta.about.env == "toy"
    for i in range(3):
        one, other = store.episode(i), again.episode(i)
        assert torch.allclose(one.action, other.action, atol=1e-6)
        assert torch.equal(one.reward, other.reward) and torch.equal(one.terminated, other.terminated)
        assert torch.equal(one.obs["state"], other.obs["state"]) and torch.equal(one.obs["speed"], other.obs["speed"])
        difference = (one.obs["pixels"].int() - other.obs["pixels"].int()).abs().float().mean()
        assert difference <= worst


def test_lerobot_holds_original_units_and_what_readers_need(make_store: Make, tmp_path: Path) -> None:
    store, out = make_store(), tmp_path / "out"
    export_store("lerobot", store, out)
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v3.0", 3, 21)
    assert (info["fps"], info["chunks_size"], info["splits"]) == (15, 1000, {"train": "0:3"})
    assert list(info["features"]) == [
        *("observation.images.pixels", "observation.state", "observation.speed", "action", "next.reward", "next.done"),
        *("timestamp", "frame_index", "episode_index", "index", "task_index"),
    ]
    table = pq.read_table(out / info["data_path"].format(chunk_index=0, file_index=1)).to_pydict()
    low, high = np.array([-3, 0]), np.array([7, 512])
    unit = store.episode(1).action[0].numpy().astype(np.float64)
    assert np.array_equal(np.float32(table["action"])[:-1], (low + (unit + 1) / 2 * (high - low)).astype(np.float32))
    assert table["action"][-1] == table["action"][-2]
    assert table["next.done"] == [False] * 6 + [True] and table["index"] == list(range(6, 13))
    assert table["episode_index"] == [1] * 7 and np.allclose(table["timestamp"], np.arange(7) / 15)
    row = pq.read_table(out / "meta/episodes/chunk-000/file-001.parquet").to_pylist()[0]
    key = "observation.images.pixels"
    assert (row["dataset_from_index"], row["dataset_to_index"], row["length"], row["tasks"]) == (6, 13, 7, ["toy"])
    assert (row[f"videos/{key}/from_timestamp"], row[f"videos/{key}/to_timestamp"]) == (0, 7 / 15)
    assert len(Video(out / f"videos/{key}/chunk-000/file-001.mp4", "av")) == 7
    tasks = pq.read_table(out / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "task": "toy"}] and b"pandas" in tasks.schema.metadata


def test_lerobot_statistics_are_those_of_all_rows(make_store: Make, tmp_path: Path) -> None:
    store, out = make_store(), tmp_path / "out"
    export_store("lerobot", store, out)
    stats = json.loads((out / "meta/stats.json").read_text())
    state = np.concatenate([store.episode(i).obs["state"][0].numpy() for i in range(3)]).astype(np.float64)
    for name, expected in (
        ("min", state.min(0)),
        ("max", state.max(0)),
        ("mean", state.mean(0)),
        ("std", state.std(0)),
    ):
        assert np.allclose(stats["observation.state"][name], expected)
    frames = np.concatenate([store.episode(i).obs["pixels"][0].numpy() for i in range(3)]) / 255
    camera = stats["observation.images.pixels"]
    assert np.allclose(np.array(camera["mean"]), frames.mean((0, 1, 2))[:, None, None])
    assert np.allclose(np.array(camera["std"]), frames.std((0, 1, 2))[:, None, None])
    assert stats["observation.state"]["count"] == camera["count"] == [21]


def test_lerobot_choices_and_tasks_and_several_cameras(make_store: Make, tmp_path: Path) -> None:
    spec = Spec({"left": (64, 64, 3), "right": (64, 64, 1), "task": (1,)}, 3, discrete=True)
    store = Store.create(tmp_path / "store", spec, About(more={"tasks": ["push", "pull"]}))
    for number in range(2):
        clip = episode(number, 5, spec)
        clip.obs["task"][:] = number
        store.add(clip)
    export_store("lerobot", store, tmp_path / "out", LeRobotExport(codec="lossless"))
    again = back(tmp_path / "out", tmp_path / "again")
    assert again.spec.discrete and again.spec.action == 3 and again.meta.about.more["tasks"] == ["push", "pull"]
    for i in range(2):
        one, other = store.episode(i), again.episode(i)
        assert torch.equal(one.action, other.action) and torch.equal(one.obs["task"], other.obs["task"])
        assert torch.equal(one.obs["left"], other.obs["left"])
        assert torch.equal(one.obs["right"].expand(-1, -1, -1, -1, 3), other.obs["right"])


@pytest.mark.parametrize("kind", ["npz", "video"])
def test_other_formats_come_back(make_store: Make, tmp_path: Path, kind: str) -> None:
    store = make_store()
    config = VideoExport(codec="lossless") if kind == "video" else None
    export_store(kind, store, tmp_path / "out", config)
    how = IMPORTERS[kind].config(action_low=(-3.0, 0.0), action_high=(7.0, 512.0))
    again, skipped = import_log(kind, tmp_path / "out", tmp_path / "again", how)
    assert not skipped and len(again) == 3
    for i in range(3):
        one, other = store.episode(i), again.episode(i)
        assert torch.allclose(one.action, other.action, atol=1e-6) and torch.equal(one.terminated, other.terminated)
        assert torch.equal(one.reward, other.reward)
        assert all(torch.equal(value, other.obs[name]) for name, value in one.obs.items())


KILLED = """
import os, signal, sys
from pathlib import Path
from innerworld.data.exporters import export_store
from innerworld.data.store.store import Store
left = int(sys.argv[4])
replace = os.replace
def counted(*names, **how):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    replace(*names, **how)
os.replace = counted
export_store(sys.argv[1], Store.open(sys.argv[2]), sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_lerobot_is_legal_whenever_it_is_killed_and_goes_on(
    make_store: Make, tmp_path: Path, begin: Callable[..., Any]
) -> None:
    """Killed before each of its renames in turn."""
    store = make_store(episodes=2)
    whole = tmp_path / "whole"
    export_store("lerobot", store, whole)
    contents = _contents(whole)
    for renames in range(14):
        out = tmp_path / f"out{renames}"
        code, _ = begin(KILLED, "lerobot", store.path, out, renames).end()
        if code == 0:
            assert renames >= 12
            break
        assert code == -signal.SIGKILL
        if (out / "meta/info.json").exists():
            info = json.loads((out / "meta/info.json").read_text())
            recording = open_lerobot(out, LeRobotConfig())
            for each in recording.episodes[: info["total_episodes"]]:
                assert len(each.read().obs["pixels"])
        export_store("lerobot", store, out)
        assert _contents(out) == contents
    else:
        pytest.fail("it was never left alone")


def _contents(folder: Path) -> dict[str, bytes]:
    files = [f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")]
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


@pytest.mark.parametrize("kind", EXPORTERS)
def test_a_second_export_changes_nothing_and_another_is_refused(make_store: Make, tmp_path: Path, kind: str) -> None:
    store, out = make_store(), tmp_path / "out"
    export_store(kind, store, out)
    before = _contents(out)
    export_store(kind, store, out)
    assert _contents(out) == before
    with pytest.raises(UserError, match="another export"):
        export_store(kind, make_store(episodes=2, name="other"), out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_store(kind, store, tmp_path / "full")


def test_some_episodes_and_sensors(make_store: Make, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    store = make_store()
    config = ExportConfig(episodes=(2, 0), sensors=("state",))
    export_store("npz", store, tmp_path / "out", config, lambda *done: seen.append(done))
    with np.load(tmp_path / "out/000000.npz") as first:
        assert set(first.files) == {"action", "reward", "terminated", "state"} and len(first["action"]) == 7
    assert seen == [(1, 2), (2, 2)] and not (tmp_path / "out/000002.npz").exists()


def test_what_a_format_cannot_hold(make_store: Make, tmp_path: Path) -> None:
    alpha = make_store(Spec({"pixels": (64, 64, 4)}, 2), name="alpha")
    for kind in ("lerobot", "video"):
        with pytest.raises(UserError, match="4 channels"):
            export_store(kind, alpha, tmp_path / kind)
    blind = make_store(Spec({"state": (3,)}, 2), name="blind")
    with pytest.raises(UserError, match="no images"):
        export_store("video", blind, tmp_path / "video")
    export_store("lerobot", blind, tmp_path / "blind lerobot")
    assert back(tmp_path / "blind lerobot", tmp_path / "again").spec.obs == {"state": (3,)}
    for config, message in ((ExportConfig(episodes=(7,)), "no episode 7"), (ExportConfig(sensors=("x",)), "no sensor")):
        with pytest.raises(UserError, match=message):
            export_store("npz", blind, tmp_path / "npz", config)
    with pytest.raises(UserError, match="no episodes to export"):
        export_store("npz", make_store(episodes=0, name="empty"), tmp_path / "npz")
    with pytest.raises(UserError, match="unknown format 'lerobt'"):
        export_store("lerobt", blind, tmp_path / "npz")
