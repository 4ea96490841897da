"""Does training leak? Trains for some minutes with saving, watching and logging, and prints memory, files and threads.

    OMP_NUM_THREADS=1 python bench/soak.py --minutes 10

The run is repeated in one process, resumed each time, so that what opens and closes at a run's start and end is seen as
well. RSS in MB (of this process), open files and threads are read from /proc, so this is for Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from innerworld import envs, models
from innerworld.data import About, Store, Uniform, collect
from innerworld.recipes.lesson import Lesson, teach
from innerworld.training import TrainConfig

STEPS = 50  # of one piece; then the run is resumed for as many more


@dataclass(frozen=True)
class Sample:
    """What this process holds now."""

    seconds: float
    steps: int
    rss_mb: float
    files: int
    threads: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--json", type=Path, help="file for the samples")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'seconds':>8} {'steps':>8} {'RSS MB':>8} {'files':>6} {'threads':>8}")
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        for sample in soak(Path(folder), 60 * options.minutes):
            samples.append(sample)
            print(
                f"{sample.seconds:8.0f} {sample.steps:8} {sample.rss_mb:8.1f} {sample.files:6} {sample.threads:8}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps([vars(sample) for sample in samples]))
    middle, last = samples[len(samples) // 2], samples[-1]
    grown = (last.rss_mb - middle.rss_mb) / max(1e-9, last.seconds - middle.seconds) * 3600
    print(f"in the second half RSS grew by {last.rss_mb - middle.rss_mb:.1f} MB ({grown:.0f} MB an hour)")


def soak(folder: Path, seconds: float, least: int = 2) -> Iterator[Sample]:
    """Train a small JEPA in pieces until the time is over, and at least so many; a sample after each piece."""
    store = folder / "data"
    gather(store)
    began, steps = time.monotonic(), 0
    while time.monotonic() - began < seconds or steps < least * STEPS:
        steps += STEPS
        train = TrainConfig(
            steps=steps, log_every=1, check_every=25, save_every=10, keep=2, threads=1, device="cpu", seed=0
        )
        model = models.config("jepa", "small", ["channels=4", "latent=16", "hidden=32", "rollout=2"])
        lesson = Lesson(
            family="jepa", data=str(store), batch=8, length=4, model=model.model_dump(mode="json"), train=train
        )
        teach(lesson, folder / "run", quiet=True, resume=steps > STEPS)
        yield Sample(time.monotonic() - began, steps, rss_mb(), open_files(), threads())


def gather(path: Path) -> None:
    """A small store of Two Rooms."""
    worlds = envs.make("two_rooms", 8, 32, max_steps=20)
    spec = envs.spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(path, spec, About(env="two_rooms", policy="uniform", seed=0))
    collect(worlds, Uniform(spec), 64, store, seed=0)


def rss_mb() -> float:
    """Memory that this process holds, without files that are only mapped."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


if __name__ == "__main__":
    main()
