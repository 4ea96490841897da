"""stable-worldmodel's side of read_speed.py, run by it with the peer's own interpreter; prints JSON lines.

The environment: `pip install torch==2.13.0`, then `pip install --no-deps stable-worldmodel==0.1.1 torchvision==0.28.0`,
then what importing it asks for (lancedb, pylance, pyarrow, h5py, hdf5plugin, gymnasium, opencv-python-headless, ...).
Its Lance writer stores frames as JPEG of quality 95, its HDF5 writer stores them raw, one frame to a chunk.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import numpy as np  # noqa: E402
import stable_worldmodel as swm  # noqa: E402  # pyright: ignore[reportMissingImports]
import torch  # noqa: E402
from stable_worldmodel.data.format import get_format  # noqa: E402  # pyright: ignore[reportMissingImports]

SETTINGS = ((3, 5), (15, 1))
FORMATS = {"lance": ".lance", "hdf5": ".h5"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--cold", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, end in FORMATS.items():
        path = args.folder / f"peer{end}"
        with get_format(name).open_writer(str(path)) as writer:
            writer.write_episodes(episodes(args.folder))
        os.sync()
        for length, skip in SETTINGS:
            data = swm.data.load_dataset(
                str(path), num_steps=length + 1, frameskip=skip, keys_to_load=["pixels", "action"]
            )
            batches = Shuffled(data, args.batch)
            warm = measure_warm(batches, args.seconds)
            cold = measure_cold(batches, args.folder, args.cold)
            print(json.dumps({"format": name, "length": length, "skip": skip, "warm": warm, "cold": cold}), flush=True)


def episodes(folder: Path) -> Any:
    """Its rows: an action beside every frame; the last frame of an episode gets the last action once more."""
    frames = np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False)
    actions = np.load(folder / "actions.npy", allow_pickle=False)
    at = done = 0
    for length in np.load(folder / "lengths.npy", allow_pickle=False).tolist():
        taken = actions[done : done + length]
        yield {
            "pixels": [np.array(frame) for frame in frames[at : at + length + 1]],
            "action": [*taken, taken[-1]],
        }
        at, done = at + length + 1, done + length


class Shuffled:
    """An endless shuffled DataLoader without workers."""

    def __init__(self, data: Any, batch: int) -> None:
        rng = torch.Generator().manual_seed(0)
        self._loader = torch.utils.data.DataLoader(data, batch, shuffle=True, drop_last=True, generator=rng)
        self._left = iter(self._loader)

    def __call__(self) -> object:
        try:
            return next(self._left)
        except StopIteration:
            self._left = iter(self._loader)
            return next(self._left)


def measure_warm(batch: Shuffled, seconds: float) -> tuple[float, float]:
    """CPU and wall seconds of a batch, after some that fill the page cache."""
    for _ in range(10):
        batch()
    steps, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.process_time() < cpu + seconds:
        batch()
        steps += 1
    return (time.process_time() - cpu) / steps, (time.perf_counter() - wall) / steps


def measure_cold(batch: Shuffled, folder: Path, batches: int) -> tuple[float, float]:
    cpu, wall = 0.0, 0.0
    for _ in range(batches):
        forget(folder)
        wall, cpu = wall - time.perf_counter(), cpu - time.process_time()
        batch()
        wall, cpu = wall + time.perf_counter(), cpu + time.process_time()
    return cpu / batches, wall / batches


def forget(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            number = os.open(path, os.O_RDONLY)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


if __name__ == "__main__":
    main()
