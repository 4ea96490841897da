"""A bar on a terminal, lines in a pipe, nothing when quiet; and a word when nothing seems to happen."""

from __future__ import annotations

import io
import threading
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from innerworld.activity import doing
from innerworld.log import Bar, meter, progress


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def pipe() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=40)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


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
    now = [100.0]
    monkeypatch.setattr("innerworld.log.meter.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=100)
    with Bar(10_000, console=console, every_s=0) as bar:
        bar(4999, {"loss": 1.0})
        now[0] = 110.0
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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "TICK_S", 0.01)
    monkeypatch.setattr(meter, "FIRST_S", 0.01)
    monkeypatch.setattr(meter, "PATIENCE_S", 0.05)


def until(console: Console, text: str) -> bool:
    """Wait for it, at most 5 seconds."""
    end = time.monotonic() + 5
    while text not in written(console) and time.monotonic() < end:
        time.sleep(0.01)
    return text in written(console)


@pytest.mark.parametrize("console", [pipe(), terminal()])
def test_a_wait_for_the_first_step_is_told(console: Console, impatient: None) -> None:
    with Bar(10, console=console, every_s=0.05):
        assert until(console, " at the first step for 0:00")


@pytest.mark.parametrize("console", [pipe(), terminal()])
def test_silence_after_a_report_is_told(console: Console, impatient: None) -> None:
    with Bar(10, console=console, every_s=0.05) as bar:
        bar(2, {"loss": 1.0})
        assert until(console, " loss 1  no news for 0:00")


def test_what_is_being_done_is_told_with_its_seconds(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    console = terminal()
    monkeypatch.setattr("innerworld.activity.time", SimpleNamespace(monotonic=lambda: time.monotonic() - 12))
    with progress("collect", 10, console=console) as done:
        done(1)
        with doing("opening 70 shards"):
            assert until(console, "opening 70 shards for 0:12")


def test_lines_of_a_wait_become_rare(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    console = pipe()
    with Bar(10, console=console, every_s=0.05):
        time.sleep(1.0)
    assert 2 <= len(written(console).splitlines()) <= 6  # after 0.05, 0.1, 0.2, 0.4 s and so on


def test_a_long_row_of_metrics_shows_the_few_that_matter() -> None:
    console = pipe()
    with Bar(10, console=console, every_s=0) as bar:
        bar(0, {"loss": 1.0, "grad_norm": 2.0, "probe_r2": 0.5, "effective_rank": 12.34})
        bar(1, {})
    assert written(console).splitlines()[0] == "train 1/10  loss 1  effective_rank 12.34  probe_r2 0.5"
    assert "2/10  loss 1" in written(console)


def test_speed_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("innerworld.log.meter.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=100)
    with Bar(100_000, console=console, every_s=0) as bar:
        for step in range(1000, 5000, 1000):  # 1000 steps in 10 s
            bar(step, {})
            now[0] += 10
        for step in range(5000, 5200):  # then one step a second
            bar(step, {})
            now[0] += 1
    assert "1 steps/s" in written(console).splitlines()[-1]


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    with Bar(10, console=pipe()), progress("collect", 3, console=terminal()):
        assert threading.active_count() == before + 2
    assert threading.active_count() == before
    with Bar(10, quiet=True):
        assert threading.active_count() == before


def test_what_fails_at_once_draws_nothing() -> None:
    console = terminal()
    with pytest.raises(RuntimeError), Bar(10, console=console):
        raise RuntimeError
    assert written(console) == ""


def test_a_reader_who_has_gone_away_stops_nothing(impatient: None) -> None:
    console = pipe()
    with Bar(10, console=console, every_s=0.01):
        console.file.close()
        time.sleep(0.2)


def test_a_step_costs_next_to_nothing() -> None:
    with Bar(10**6, console=terminal()) as bar:
        began = time.process_time()
        for step in range(20_000):
            bar(step, {"loss": 1.0, "lr": 1e-3})
        assert (time.process_time() - began) / 20_000 < 20e-6
