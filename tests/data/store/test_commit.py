"""`kill -9` of a writer at random moments and between any two of its steps loses the open episode at most."""

from __future__ import annotations

import os
import random
import signal
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerworld.data.store.examine import verify
from innerworld.data.store.store import Store

RANDOM_KILLS = int(os.environ.get("INNERWORLD_KILLS", "10"))
"""50 and more by hand: INNERWORLD_KILLS=50 pytest tests/data/store/test_commit.py"""

WRITER = """
import os, sys
import numpy as np
import torch
from pathlib import Path
from innerworld.data.store import commit, manifest, part, store as module
from innerworld.data.store.store import Store
from innerworld.data.store.writer import Writer
from innerworld.types import Clip, Spec
module.COMPACT_EPISODES = 5
def episode(i):
    t = 2 + i % 7
    frames = torch.full((1, t + 1, 16, 16, 3), i % 256, dtype=torch.uint8)
    return Clip({"pixels": frames}, torch.zeros(1, t, 1), torch.full((1, t), float(i)), torch.zeros(1, t) > 0)
path = Path(sys.argv[1])
store = Store.open(path) if path.exists() else Store.create(path, Spec({"pixels": (16, 16, 3)}, 1))
def die(*_, **__): os.kill(os.getpid(), 9)
"""
RUN = """
with Writer(store) as writer:
    for i in range(len(store), 100_000):
        writer.add(episode(i), seed=i)
        os.write(1, b"%d\\n" % (i + 1))
"""


@pytest.fixture
def start(begin: Callable[..., Any]) -> Callable[..., Any]:
    """`start(path, between)`: a writer of the store there, in a process of its own."""
    return lambda path, between="": begin(WRITER + textwrap.dedent(between) + RUN, path)


def check(path: Path, told: int) -> None:
    """Everything that was announced is there once, and at most one more; every checksum holds."""
    store = Store.open(path)
    assert told <= len(store) <= told + 1
    assert store.seeds.tolist() == store.numbers.tolist() == list(range(len(store)))
    for i in range(len(store)):
        clip = store.episode(i)
        assert clip.length == 2 + i % 7 and bool((clip.obs["pixels"] == i % 256).all()) and clip.reward[0, 0] == i
    found = verify(path)
    assert not found.faults and found.episodes == len(store)


@pytest.mark.slow
def test_kill_9_at_random_moments(tmp_path: Path, start: Callable[..., Any]):
    moments = random.Random(0)
    path, told = tmp_path / "s", 0
    for _ in range(RANDOM_KILLS):
        process = start(path)
        told = int(process.output.readline())
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        rest = process.end()[1].split(b"\n")[:-1]  # the last line may be torn
        told = int(rest[-1]) if rest else told
        check(path, told)
    assert told > RANDOM_KILLS * 2


BETWEEN = {
    "an episode is written, not renamed": """
        os.replace = lambda a, b: die() if '00000013' in str(a) else os.rename(a, b)""",
    "an episode is renamed": """
        done = commit.Desk.episode
        commit.Desk.episode = lambda self, record: (done(self, record), self.next_episode == 14 and die())[0]""",
    "a shard is written, not renamed": """
        os.replace = lambda a, b: die() if 'shards/000002' in str(a) else os.rename(a, b)""",
    "a shard is renamed, not in the manifest": """
        line = commit.append_manifest
        commit.append_manifest = lambda root, part: die() if part.first == 10 else line(root, part)""",
    "half of its line is in the manifest": """
        import innerworld.disk
        line = manifest.append_line
        def half(path, text):
            if text.count(b'"first":10,'):
                with path.open("ab") as file:
                    file.write(text[:30])
                die()
            line(path, text)
        manifest.append_line = half""",
    "it is in the manifest, and no loose file is gone": """
        gone = Path.unlink
        Path.unlink = lambda self, missing_ok=False: die() if '00000010' in self.name else gone(self, missing_ok)""",
    "some loose files are gone": """
        gone = Path.unlink
        Path.unlink = lambda self, missing_ok=False: die() if '00000012' in self.name else gone(self, missing_ok)""",
}


@pytest.mark.parametrize("moment", BETWEEN)
def test_kill_9_between_two_steps(tmp_path: Path, moment: str, start: Callable[..., Any]):
    code, said = start(tmp_path / "s", BETWEEN[moment]).end()
    told = said.split()
    assert code == -signal.SIGKILL and len(told) >= 13, said
    check(tmp_path / "s", len(told))
    store = Store.open(tmp_path / "s")
    with store.writing():
        store.compact()
    left = sorted(
        file.name for file in (tmp_path / "s").rglob("*") if file.parent.name == "episodes" or "tmp" in file.name
    )
    assert not left, "the next writer puts everything in order"
    check(tmp_path / "s", len(store))
