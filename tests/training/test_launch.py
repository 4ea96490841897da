"""The launcher: what each process is told, whose exit status counts, and that none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from innerworld.training import launch


def run(code: str, processes: int = 2) -> int:
    return launch(
        [sys.executable, "-c", f"import os, sys, time, signal; rank = int(os.environ['RANK']); {code}"], processes
    )


def test_each_is_told_its_rank(tmp_path: Path) -> None:
    code = (
        f"open(f'{tmp_path}/{{rank}}', 'w').write(' '.join(os.environ[n] for n in"
        " ('LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'INNERWORLD_PARENT')))"
    )
    assert run(code, 3) == 0
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == [
        f"{rank} 3 127.0.0.1 {os.getpid()}" for rank in range(3)
    ]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("sys.exit(3 * rank)", 3),
        ("sys.exit(143)", 143),
    ],
)
def test_whose_exit_status_counts(code: str, status: int) -> None:
    assert run(code) == status


def test_of_two_at_once_the_one_that_was_killed_counts(
    monkeypatch: pytest.MonkeyPatch, begun: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: [child.wait() for child in begun])  # it looks when both have ended
    assert run("os.kill(os.getpid(), signal.SIGKILL) if rank else sys.exit(2)") == 137


def test_one_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, begun: list[subprocess.Popen[bytes]]) -> None:
    monkeypatch.setattr(sys.modules["innerworld.training.launch"], "GRACE_S", 0.5)
    began = time.monotonic()
    assert run("time.sleep(60) if rank else sys.exit(5)") == 5
    assert time.monotonic() - began < 30
    assert len(begun) == 2 and None not in [child.returncode for child in begun]


def test_signals_are_passed_on() -> None:
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    before = signal.getsignal(signal.SIGTERM)
    assert run("signal.signal(signal.SIGTERM, lambda *_: sys.exit(7 + rank)); time.sleep(60)") in (7, 8)
    assert signal.getsignal(signal.SIGTERM) is before
