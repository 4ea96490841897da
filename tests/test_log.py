"""Logs: a file without duplicates after a resume, a bar that is lines when nobody watches."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from innerworld.errors import UserError
from innerworld.log import Bar, JsonLines, progress, silent, tee


def rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def pipe() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=40)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    with JsonLines(path) as log:
        log(0, {"loss": 1.5, "grad_norm": 2})
        assert [(row["step"], row["loss"], row["grad_norm"]) for row in rows(path)] == [(0, 1.5, 2)]
        assert rows(path)[0]["time"] > 1.6e9


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "log") as log:
        log(0, {"loss": float("nan"), "norm": float("-inf")})
    assert "NaN" not in (tmp_path / "log").read_text()
    assert rows(tmp_path / "log")[0]["loss"] is None


@pytest.mark.parametrize(("first", "kept"), [(0, []), (20, [0, 10]), (25, [0, 10, 20]), (99, [0, 10, 20, 30])])
def test_a_resumed_run_repeats_no_step(tmp_path: Path, first: int, kept: list[int]) -> None:
    path = tmp_path / "log"
    with JsonLines(path) as log:
        for step in (0, 10, 20, 30):
            log(step, {"run": 1})
    with JsonLines(path) as log:
        assert len(rows(path)) == 4  # nothing is lost before there is something new
        log(first, {"run": 2})
        log(first + 1, {"run": 2})
    assert [row["step"] for row in rows(path)] == [*kept, first, first + 1]
    assert [row["run"] for row in rows(path)] == [1] * len(kept) + [2, 2]


@pytest.mark.parametrize("torn", [b'{"step": 10, "lo', b'{"step": 10}', b"\xff\x00\n", b'{"loss": 1}\n', b"[]\n"])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"step": 0, "loss": 1.0}\n' + torn)
    with JsonLines(path) as log:
        log(20, {})
    assert [row["step"] for row in rows(path)] == [0, 20]


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write the log"):
        JsonLines(tmp_path)


def test_tee_and_silent() -> None:
    seen: list[tuple[str, int]] = []
    log = tee(lambda step, row: seen.append(("a", step)), silent, lambda step, row: seen.append(("b", step)))
    log(3, {"loss": 1.0})
    assert seen == [("a", 3), ("b", 3)]


def test_bar_is_lines_where_there_is_no_terminal() -> None:
    console = pipe()
    with Bar(1000, console=console, every_s=0) as bar:
        bar(0, {"loss": 1.23456})
        bar(499, {"effective_rank": 3.0})
    first, second = written(console).splitlines()
    assert first == "train 1/1000  loss 1.235"
    assert second.startswith("train 500/1000  loss 1.235  ")
    assert " steps/s  0:0" in second
    assert second.endswith(" left")
    assert "\x1b" not in written(console)


def test_lines_are_rare_but_the_last_one_comes() -> None:
    console = pipe()
    with Bar(10, console=console, every_s=60) as bar:
        for step in range(10):
            bar(step, {"loss": 1.0})
    assert [line.split()[1] for line in written(console).splitlines()] == ["1/10", "10/10"]


def test_bar_draws_on_a_terminal() -> None:
    console = terminal()
    with Bar(10, console=console) as bar:
        bar(4, {"loss": 0.5})
    assert "5/10" in written(console)
    assert "loss 0.5" in written(console)
    assert "\x1b" in written(console)


@pytest.mark.parametrize("console", [pipe(), terminal()])
def test_quiet_writes_nothing(console: Console) -> None:
    with Bar(2, quiet=True, console=console) as bar:
        bar(1, {"loss": 1.0})
    with progress("collect", 2, quiet=True, console=console) as done:
        done(2)
    assert written(console) == ""


def test_speed_after_a_resume_counts_this_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 110.0])
    monkeypatch.setattr("innerworld.log.time.monotonic", lambda: next(times))
    console = Console(file=io.StringIO(), width=100)
    with Bar(10_000, console=console, every_s=0) as bar:
        bar(4999, {"loss": 1.0})
        bar(5099, {"loss": 1.0})
    assert written(console).splitlines()[1] == "train 5100/10000  loss 1  10 steps/s  8:10 left"


def test_progress() -> None:
    console = pipe()
    with progress("collect", 3, console=console, every_s=0) as done:
        done(1)
        done(3)
    lines = written(console).splitlines()
    assert lines[0] == "collect 1/3"
    assert lines[1].startswith("collect 3/3  ")
    assert lines[1].endswith("/s  0:00 left")


def test_progress_closes_the_bar_on_an_error() -> None:
    console = terminal()
    with pytest.raises(RuntimeError), progress("collect", 3, console=console) as done:
        done(1)
        raise RuntimeError
    assert written(console).endswith("\x1b[?25h")  # the cursor is back
