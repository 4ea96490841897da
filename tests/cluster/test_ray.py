"""Two machines of a Ray cluster, played by this one: what runs there is what would have run here, whatever dies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name, for Ray's sockets lie in it, and a socket's path has at most 107 letters."""
    folder = Path(tempfile.mkdtemp(prefix="iw"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")  # not imported here, for it takes long
def test_two_machines(tmp_path: Path, short: Path) -> None:
    """One test, for a cluster takes long to start."""
    home = tmp_path / "home"
    home.mkdir()
    mine = {"HOME": str(home), "RAY_TMPDIR": str(short), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
    begun = subprocess.Popen(
        [sys.executable, HERE / "two_machines.py", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **mine, "RAY_USAGE_STATS_ENABLED": "0"},
        start_new_session=True,
    )
    with begun as process:  # which leaves nothing open, or a later test would be blamed for it
        try:
            out, err = process.communicate(timeout=900)  # Ray's workers are nice, and starve on a busy machine
        finally:
            process.kill()
            _end(short)
    assert process.returncode == 0, err[-3000:]
    found = json.loads(out.splitlines()[-1])
    assert found["machines"] == 2, "only one of the machines worked"
    assert found["order"] == [0, 1, 2, 3] and found["picture"] == 3.0
    assert found["died"], "a killed worker's job was not done again"
    assert found["failures"][0] == "UserError: job 2: there is no such world"
    assert found["failures"][1].startswith("JobError: job 3: ValueError: a bug")
    assert found["store"] == found["store_local"] and len(found["store"]) == 3
    assert found["played"] == found["played_here"]
    assert found["done_again_elsewhere"] == [True] * 4, "a job that the lost machine had begun was not done again"
    assert not list(home.rglob("auth_token"))


def _end(session: Path) -> None:
    """Kill what still runs of this cluster: its processes name its folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
            if str(session).encode() in words:
                os.kill(int(entry.name), 9)
        except OSError:
            continue
