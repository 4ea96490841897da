"""A run that is killed again and again, also in the middle of a save, ends as one that nobody killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "kill_training.py"
ELSEWHERE = Path("/dev/shm")


@pytest.mark.slow
def test_random_kills(tmp_path: Path) -> None:
    """On another file system than $TMPDIR's where there is one: what is written there cannot be moved here at once."""
    other = ELSEWHERE.is_dir() and os.stat(ELSEWHERE).st_dev != os.stat(tmp_path).st_dev
    with tempfile.TemporaryDirectory(dir=ELSEWHERE if other else tmp_path) as folder:
        words = [sys.executable, str(SCRIPT), "--kills", "10", "--folder", f"{folder}/kills", "--seed", "1"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["kills"], told["different"]) == (10, 0)
    assert told["newest_checkpoints"] >= 2  # or nothing was learnt between two kills
