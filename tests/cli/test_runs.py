"""`innerworld runs`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from innerworld.cli import main, runs
from innerworld.cli.runs import RunsFlags
from innerworld.cli.verb import Call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, state, reason in (("up", "running", ""), ("with space/down", "failed", "the loss is not finite")):
        home = tmp_path / name
        (home / "checkpoints" / "step-00000040").mkdir(parents=True)
        (home / "checkpoints" / "step-00000040" / "manifest.json").write_text("{}")
        (home / "run.json").write_text(json.dumps({"lesson": {"family": "jepa", "train": {"steps": 100}}}))
        (home / "log.jsonl").write_text(json.dumps({"step": 49, "time": 1.0, "loss": 0.25, "effective_rank": 6}) + "\n")
        noted = {"state": state, "pid": os.getpid(), "host": socket.gethostname(), "step": 50, "reason": reason}
        (home / "state.json").write_text(json.dumps({**noted, "updated": time.time() - 30 * (state == "failed")}))
    return tmp_path


def test_a_table_in_a_pipe_says_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder)]) == 0
    head, up, down, advice = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["run", "model", "data", "state", "step"]
    assert up.split() == [
        "up",
        "jepa",
        "running",
        "50/100",
        "0.25",
        "effective_rank",
        "6",
        "0",
        "s",
        "ago",
        *up.split()[-2:],
    ]
    assert down.startswith("with space/down  jepa")
    assert "failed (the loss is not finite), goes on from step 40" in advice
    assert advice.endswith(f"innerworld train jepa --out '{folder}/with space/down' --resume")


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder), "--json"]) == 0
    up, down = json.loads(capsys.readouterr().out)["runs"]
    assert (up["state"], down["state"], down["resumable"]) == ("running", "failed", 40)
    assert up["metrics"]["loss"] == 0.25 and 25 < down["age_s"] < 90 and up["bytes"] > 0


@pytest.mark.parametrize(("width", "shown", "hidden"), [(80, "last word", "steps/s"), (160, "watch", "nothing")])
def test_a_terminal_shows_what_it_has_room_for(folder: Path, width: int, shown: str, hidden: str) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=width)
    runs._runs(RunsFlags(folder), Call([], frozenset(), False, "")).show(console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert shown in text and hidden not in text and "50/100" in text
    assert all(len(Text.from_ansi(line).plain) <= width for line in text.splitlines()[:4])


def test_no_runs_and_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert main(["runs", str(tmp_path), "--every", "0"]) == 2


def test_watch_needs_a_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder), "--watch"]) == 2
    assert "--watch draws on a terminal" in capsys.readouterr().err


def test_watch_draws_again_until_it_is_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(runs, "Console", lambda: console)
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        (folder / "up" / "log.jsonl").write_text(json.dumps({"step": 70, "time": 1.0, "loss": 0.125}) + "\n")
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(
        runs, "time", type("Clock", (), {"sleep": staticmethod(sleep), "time": staticmethod(time.time)})
    )
    answer = runs._runs(RunsFlags(folder, watch=True, every=0.5), Call([], frozenset(), False, ""))
    assert looks == [0.5] * 3
    assert {run["step"] for run in answer.values["runs"]} == {71, 50}
    assert isinstance(console.file, StringIO) and "71/100" in console.file.getvalue()


def test_it_needs_no_torch(folder: Path) -> None:
    code = f"import sys; from innerworld.cli import main; main(['runs', {str(folder)!r}]); assert 'torch' not in "
    code += "sys.modules"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
