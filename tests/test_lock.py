"""One holder at a time, named to the second; nothing is left of a holder that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from innerworld.errors import UserError
from innerworld.lock import lock

HOLD = """
import sys, time
from pathlib import Path
from innerworld.lock import lock
with lock(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_process_is_told_who_holds_it_and_a_killed_one_does_not_block(tmp_path: Path):
    process = holder(tmp_path)
    try:
        with (
            pytest.raises(UserError, match=rf"the run .* is being written by process {process.pid}: wait"),
            lock(tmp_path, "run"),
        ):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with lock(tmp_path, "run"):
        pass


def test_one_process_cannot_hold_it_twice_but_again_later(tmp_path: Path):
    for _ in range(2):
        with (
            lock(tmp_path, "store"),
            pytest.raises(UserError, match="by another part of this program"),
            lock(tmp_path, "store"),
        ):
            pass


def test_it_is_let_go_when_the_block_fails(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), lock(tmp_path, "run"):
        raise ZeroDivisionError
    with lock(tmp_path, "run"):
        pass


def test_the_owner_of_another_machine_is_named_with_it(tmp_path: Path):
    with lock(tmp_path, "run"):
        (tmp_path / ".lock.json").write_text('{"pid": 7, "host": "elsewhere"}')
        with pytest.raises(UserError, match="by process 7 on elsewhere"), lock(tmp_path, "run"):
            pass
        (tmp_path / ".lock.json").write_text("torn")
        with pytest.raises(UserError, match="by another process"), lock(tmp_path, "run"):
            pass


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot lock the run .*file"), lock(tmp_path / "file", "run"):
        pass
