"""The system refuses memory while clips are read: one line with what to lower, no hang, the last checkpoint whole."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerworld import checkpoint

RUN = """
import resource, sys
from pathlib import Path
import torch
from innerworld.cli import main
folder, workers = sys.argv[1:]
data, out = f"{folder}/data", f"{folder}/run"
assert main(["collect", "two_rooms", "--out", data, "--episodes", "20", "--envs", "4", "--size", "64", "--quiet"]) == 0
train = ["train", "jepa", "--data", data, "--length", "8", "--workers", workers, "--quiet"]
train += ["model.channels=4", "model.latent=8", "model.hidden=16", "model.rollout=2", "train.device=cpu"]
assert main([*train, "--out", out, "--batch", "4", "train.steps=2"]) == 0
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 600_000_000, resource.RLIM_INFINITY))
out += "-large"
sys.exit(main([*train, "--out", out, "--batch", "20000", "train.steps=4"]))  # 2 GB of frames a batch
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_batch_that_does_not_fit(workers: str, tmp_path: Path, begin: Callable[..., Any]) -> None:
    code, output = begin(RUN, tmp_path, workers).end()
    said = output.decode()
    assert code not in (0, -6, -9, -11), said[-2000:]
    last = said.splitlines()[-1]
    assert "memory" in last and "batch" in last and "Traceback" not in said, said[-2000:]
    assert checkpoint.read_header(tmp_path / "run").step == 2
