"""How runs stand, told from their files: alive, done, killed, unknown; and files that are torn, missing or strange."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from innerworld.errors import UserError
from innerworld.recipes import runs
from innerworld.recipes.runs import find_runs, read_state

HERE = socket.gethostname()


def make(folder: Path, steps: int = 100, rows: int = 5, saved: tuple[int, ...] = (), **state: Any) -> Path:
    """A run as training leaves it: a row of the log every 10 steps, one a second."""
    folder.mkdir(parents=True)
    lesson = {"family": "jepa", "data": "../data", "train": {"steps": steps}}
    (folder / "run.json").write_text(json.dumps({"lesson": lesson}))
    lines = [{"step": 10 * i, "time": 1000.0 + i, "loss": 5.0 - i, "grad_norm": 1.0, "lr": 0.1} for i in range(rows)]
    if lines:
        lines[0]["effective_rank"] = 7.0
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in saved:
        home = folder / "checkpoints" / f"step-{step:08d}"
        home.mkdir(parents=True)
        (home / "manifest.json").write_text("{}")
    if state:
        (folder / "state.json").write_text(json.dumps({"pid": os.getpid(), "host": HERE, **state}))
    return folder


def test_a_run_that_is_alive(tmp_path: Path) -> None:
    now = time.time()
    run = read_state(make(tmp_path / "a", saved=(0, 20), state="running", step=45, updated=now))
    assert (run.family, run.state, run.step, run.steps, run.resumable) == ("jepa", "running", 45, 100, None)
    assert run.data == str(tmp_path / "data") and run.updated == now
    assert run.metrics == {"loss": 1.0, "grad_norm": 1.0, "lr": 0.1, "effective_rank": 7.0}
    assert run.steps_per_s == pytest.approx(10.0)
    assert run.bytes == sum(file.stat().st_size for file in (tmp_path / "a").rglob("*") if file.is_file())


def test_one_whose_process_is_gone_was_killed_and_can_go_on(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    run = read_state(make(tmp_path / "a", saved=(0, 30, 20), state="running", pid=dead.pid, updated=time.time()))
    assert (run.state, run.resumable) == ("killed", 30) and str(dead.pid) in run.reason


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_that_is_dead_and_not_buried_is_killed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    folder = make(tmp_path / "a", state="running", pid=dead.pid, updated=time.time())
    assert read_state(folder).state == "running"
    dead.kill()
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    assert read_state(folder).state == "killed"
    dead.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
def test_another_process_with_the_same_number_is_not_the_run(tmp_path: Path) -> None:
    run = read_state(make(tmp_path / "a", state="running", updated=1000.0))  # in 1970
    assert run.state == "killed"


def test_another_machine(tmp_path: Path) -> None:
    there = {"state": "running", "host": "elsewhere", "pid": 1}
    assert read_state(make(tmp_path / "a", **there, updated=time.time())).state == "running"
    lost = read_state(make(tmp_path / "b", saved=(30,), **there, updated=time.time() - 3600))
    assert (lost.state, lost.resumable) == ("lost", 30) and "elsewhere" in lost.reason


@pytest.mark.parametrize("state", ["done", "interrupted", "failed"])
def test_what_training_says_of_itself(tmp_path: Path, state: str) -> None:
    run = read_state(make(tmp_path / "a", saved=(50,), state=state, step=50, updated=5.0, reason="because\nof that"))
    assert (run.state, run.reason) == (state, "because of that")
    assert run.resumable == (None if state == "done" else 50)


def test_without_a_note_the_checkpoints_tell(tmp_path: Path) -> None:
    assert read_state(make(tmp_path / "a", saved=(50, 100))).state == "done"
    stopped = read_state(make(tmp_path / "b", saved=(50,)))
    assert (stopped.state, stopped.step, stopped.resumable) == ("stopped", 50, 50)
    assert read_state(make(tmp_path / "c", rows=0)).step == 0


def test_a_checkpoint_without_a_manifest_does_not_count(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", saved=(50,))
    (folder / "checkpoints" / "step-00000070").mkdir()
    assert read_state(folder).resumable == 50


def test_files_that_are_torn_or_strange(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", saved=(20,))
    (folder / "state.json").write_text("{torn")
    with (folder / "log.jsonl").open("ab") as log:
        log.write(b'\xff\n[1]\n{"step": "x"}\n{"step": 50, "time": null, "loss": null}\n{"step": 60, "lo')
    run = read_state(folder)
    assert (run.state, run.step, run.metrics["loss"]) == ("stopped", 51, 1.0)
    (folder / "run.json").write_text("[]")
    assert read_state(folder).family == ""


def test_a_clock_that_jumped_back_and_a_pause_do_not_change_the_speed(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", rows=0)
    times = [0, 1, 2, 3, -500, -499, -498, 90_000, 90_001, 90_002]
    rows = [{"step": 10 * i, "time": 1e6 + at, "loss": 1.0} for i, at in enumerate(times)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_state(folder).steps_per_s == pytest.approx(10.0)


def test_a_long_log_is_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "TAIL", 300)
    run = read_state(make(tmp_path / "a", steps=10_000, rows=500))
    assert run.step == 4991 and "effective_rank" not in run.metrics


def test_runs_are_found_below_a_folder_newest_first(tmp_path: Path) -> None:
    make(tmp_path / "old", state="done", updated=10_000.0)
    make(tmp_path / "sweep" / "Läufe mit Leerzeichen" / ("x" * 200), state="done", updated=20_000.0)
    make(tmp_path / "data" / "run", state="done", updated=1.0)
    (tmp_path / "data" / "meta.json").write_text("{}")  # a store: whatever lies in it is no run of ours
    make(tmp_path / ".hidden" / "run")
    make(tmp_path / "old" / "inner", state="done", updated=5000.0)
    names = [run.folder.name for run in find_runs(tmp_path)]
    assert names == ["x" * 200, "old"]
    assert [run.folder for run in find_runs(tmp_path / "old")] == [tmp_path / "old"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    real = make(tmp_path / "disk" / "run", saved=(50,))
    home = tmp_path / "home"
    home.mkdir()
    (home / "runs").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "round").symlink_to(home)
    found = find_runs(home)
    assert [run.folder for run in found] == [home / "runs" / "run"] and found[0].resumable == 50
    assert real.exists()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        find_runs(tmp_path / "nowhere")
    assert find_runs(tmp_path) == []
