"""Seconds of a training step of a JEPA without prefetching and with 0, 1 and 2 threads, page cache cold and warm.

    OMP_NUM_THREADS=1 python bench/prefetch_speed.py

The model (default settings) learns from Push-T clips of 4 frames, skip 5; a measurement begins with all files thrown
out of the page cache, or in it. What a thread can hide is the smaller of reading and learning, and it needs a core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from read_speed import forget, generate

from innerworld.data import Clips, Store
from innerworld.data.clips.prefetch import Prefetched
from innerworld.models import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pretend", type=float, help="seconds to sleep in place of learning, as if on an accelerator")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "store", args.episodes, args.size)
        print(f"{'cache':>6} {'workers':>8} {'s/step':>8} {'waiting':>8}")
        for cache in ("cold", "warm"):
            for workers in (None, 0, 1, 2):
                clips = Clips(Store.open(folder / "store"), None, 3, args.batch, frame_skip=5, sensors=["pixels"])
                if cache == "cold":
                    forget(folder)
                else:
                    for step in range(args.steps):
                        clips.batch(step)
                seconds, waiting = learn(clips, workers, args.steps, args.pretend)
                title = "without" if workers is None else str(workers)
                print(f"{cache:>6} {title:>8} {seconds:>8.3f} {waiting:>8.3f}", flush=True)


def learn(clips: Clips, workers: int | None, steps: int, pretend: float | None) -> tuple[float, float]:
    """Seconds of a step, and those of them in which it waited for its batch."""
    torch.manual_seed(0)
    model = build("jepa", {}, clips.spec)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ready = clips if workers is None else Prefetched(clips, ahead=2, workers=workers)
    waited, began = 0.0, time.perf_counter()
    for step in range(steps):
        asked = time.perf_counter()
        clip = ready.batch(step)
        waited += time.perf_counter() - asked
        if pretend is not None:
            time.sleep(pretend)
            continue
        optimiser.zero_grad()
        model.loss(clip)[0].backward()
        optimiser.step()
    seconds = time.perf_counter() - began
    if isinstance(ready, Prefetched):
        ready.close()
    return seconds / steps, waited / steps


if __name__ == "__main__":
    main()
