"""Frames per CPU-second of `Clips.batch` on 64 x 64 pictures, beside h5py reading the same clips where it is installed.

OMP_NUM_THREADS=1 python bench/read_speed.py
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerworld.data import Clips, Store, Writer
from innerworld.types import Clip, Spec

EPISODES, STEPS, SIZE, BATCH, SECONDS = 200, 200, 64, 128, 4.0
SETTINGS = ((3, 5), (15, 1))  # (actions per clip, frame_skip): 4 observations x skip 5, and 16 x 1


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = generate(Path(folder) / "store")
        print(
            f"{len(store)} episodes of {STEPS} steps, {SIZE} x {SIZE} x 3, batch {BATCH}, one thread, page cache warm"
        )
        print(f"{'clip':>16} {'reader':>14} {'frames/CPU s':>14} {'ms/batch':>10}")
        for length, skip in SETTINGS:
            clips = Clips(store, range(len(store)), length, BATCH, frame_skip=skip)
            name = f"{length + 1} obs x skip {skip}"
            ours = measure(lambda step, clips=clips: clips.batch(step))
            report(name, "Clips.batch", ours, length)
            if importlib.util.find_spec("h5py") is None:
                print(f"{name:>16} {'h5py':>14} {'not installed':>14}")
                continue
            theirs = measure(hdf5_reader(Path(folder) / "peer.h5", store, length, skip))
            report(name, "h5py", theirs, length)
            print(f"{name:>16} {'ratio':>14} {theirs / ours:>13.1f}x")


def generate(path: Path) -> Store:
    store = Store.create(path, Spec({"pixels": (SIZE, SIZE, 3), "state": (2,)}, action=2))
    rng = np.random.default_rng(0)
    with Writer(store) as writer:
        for seed in range(EPISODES):
            pixels = torch.from_numpy(rng.integers(0, 256, (1, STEPS + 1, SIZE, SIZE, 3), np.uint8))
            state, action = torch.rand(1, STEPS + 1, 2), torch.rand(1, STEPS, 2)
            nothing = torch.zeros(1, STEPS)
            writer.add(Clip({"pixels": pixels, "state": state}, action, nothing, nothing.bool()), seed)
    return Store.open(path)


def hdf5_reader(path: Path, store: Store, length: int, skip: int) -> Callable[[int], object]:
    """The same clips out of flat, uncompressed, contiguous HDF5 arrays: one slice per clip and array, nothing else."""
    import h5py

    if not path.exists():
        with h5py.File(path, "w") as file:
            episodes = [store.episode(i) for i in range(len(store))]
            for sensor in store.spec.obs:
                file[sensor] = np.concatenate([clip.obs[sensor][0].numpy() for clip in episodes])
            file["action"] = np.concatenate([clip.action[0].numpy() for clip in episodes])
    file: Any = h5py.File(path, "r")
    arrays = {name: file[name] for name in (*store.spec.obs, "action")}
    span = length * skip

    def batch(step: int) -> list[np.ndarray]:
        rng = np.random.default_rng(step)
        episode = rng.integers(EPISODES, size=BATCH)
        start = rng.integers(STEPS - span + 1, size=BATCH)
        out = []
        for name, array in arrays.items():
            first = episode * (STEPS + (name != "action")) + start
            count, stride = (span, 1) if name == "action" else (span + 1, skip)
            rows = np.empty((BATCH, -(-count // stride), *array.shape[1:]), array.dtype)
            for row, at in enumerate(first.tolist()):
                array.read_direct(rows, np.s_[at : at + count : stride], np.s_[row])
            out.append(rows)
        return out

    return batch


def measure(batch: Callable[[int], object]) -> float:
    """CPU seconds per batch, after one pass that warms the page cache."""
    for step in range(60):
        batch(step)
    steps, began, until = 0, time.process_time(), time.process_time() + SECONDS
    while time.process_time() < until:
        batch(1000 + steps)
        steps += 1
    return (time.process_time() - began) / steps


def report(name: str, reader: str, seconds: float, length: int) -> None:
    print(f"{name:>16} {reader:>14} {BATCH * (length + 1) / seconds:>14,.0f} {seconds * 1e3:>10.2f}")


if __name__ == "__main__":
    main()
