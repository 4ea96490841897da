"""The system refuses memory while clips are read: one line with what to lower, no hang, the last checkpoint whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from innerworld import checkpoint

SOURCE = Path(__file__).parents[2] / "src"
RUN = """
import resource, sys
import torch
from innerworld.cli import main
folder, workers = sys.argv[1:]
data, out = f"{folder}/data", f"{folder}/run"
assert main(["collect", "two_rooms", "--out", data, "--episodes", "20", "--envs", "4", "--size", "64", "--quiet"]) == 0
train = ["train", "jepa", "--data", data, "--length", "8", "--workers", workers, "--quiet"]
train += ["model.channels=4", "model.latent=8", "model.hidden=16", "model.rollout=2", "train.device=cpu"]
assert main([*train, "--out", out, "--batch", "4", "train.steps=2"]) == 0
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 600_000_000, resource.RLIM_INFINITY))
out += "-large"
sys.exit(main([*train, "--out", out, "--batch", "20000", "train.steps=4"]))  # 2 GB of frames a batch
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_batch_that_does_not_fit(workers: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", RUN, str(tmp_path), workers]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode not in (0, -6, -9, -11), done.stderr[-2000:]
    last = done.stderr.splitlines()[-1]
    assert "memory" in last and "batch" in last and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert checkpoint.read_header(tmp_path / "run").step == 2
