"""Bytes per frame and frames per CPU-second of a store's three packings, beside h5py where it is installed.

    OMP_NUM_THREADS=1 python bench/store_formats.py [--sizes 64 224]

Pictures of `two_rooms` at 64 and of a drawn Push-T-like scene (a block T on white, turning) at each size. Writing is
`Store.add` with everything (checks, checksum, rename, packing into shards); reading is `Store.arrays(i)[start:stop]` of
16 frames at random, page cache warm. h5py writes and reads the same frames alone. `checksum` is CRC-32 by itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from innerworld.data.store.meta import Frames
from innerworld.data.store.store import Store
from innerworld.data.store.writer import Writer
from innerworld.types import Clip, Spec

STEPS, READ = 100, 16


def block(count: int, size: int) -> np.ndarray:
    """A grey T that turns and wanders on white, and a blue dot: `t y x c`."""
    y, x = np.mgrid[:size, :size] / size
    frames = np.full((count, size, size, 3), 255, np.uint8)
    for t, frame in enumerate(frames):
        angle, cx, cy = t / 20, 0.5 + 0.2 * np.sin(t / 31), 0.5 + 0.2 * np.cos(t / 23)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        frame[((abs(u) < 0.2) & (abs(v) < 0.05)) | ((abs(u) < 0.05) & (v > 0) & (v < 0.25))] = (119, 136, 153)
        frame[(x - 0.5 + 0.3 * np.sin(t / 9)) ** 2 + (y - 0.4) ** 2 < 0.001] = (65, 105, 225)
    return frames


def rooms(count: int) -> np.ndarray:
    """Trajectories of `two_rooms`, one after another, 50 steps between two beginnings: `t y x c`."""
    from innerworld.envs.two_rooms import TwoRoomsConfig, TwoRoomsVector

    worlds = TwoRoomsVector(-(-count // 51), TwoRoomsConfig())
    worlds.action_space.seed(0)
    seen = [worlds.reset(seed=0)[0]["pixels"].copy()]
    seen += [worlds.step(worlds.action_space.sample())[0]["pixels"].copy() for _ in range(50)]
    return np.stack(seen, 1).reshape(-1, *seen[0].shape[1:])[:count]


def store_row(folder: Path, frames: np.ndarray, packing: Frames) -> tuple[float, float, float]:
    """Bytes a frame, frames a CPU-second written, and read."""
    store = Store.create(folder, Spec({"pixels": frames.shape[1:]}, 1), frames=packing)
    episodes = len(frames) // (STEPS + 1)

    def write() -> None:
        with Writer(store) as writer:
            for i in range(episodes):
                pixels = torch.from_numpy(frames[i * (STEPS + 1) : (i + 1) * (STEPS + 1)])[None]
                nothing = torch.zeros(1, STEPS)
                writer.add(Clip({"pixels": pixels}, nothing[..., None], nothing, nothing.bool()))

    seconds = cpu(write)
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    rng = np.random.default_rng(0)

    def read() -> None:
        for i in rng.integers(len(store), size=100).tolist():
            start = int(store.obs_row[i]) + int(rng.integers(STEPS + 1 - READ))
            np.array(store.arrays(int(store.shard_of[i]))["obs.pixels"][start : start + READ])

    read()
    return size / store.frames, store.frames / seconds, 100 * READ / cpu(read)


def h5_row(file: Path, frames: np.ndarray, chunk: int | None) -> tuple[float, float, float]:
    import h5py

    def write() -> None:
        with h5py.File(file, "w") as opened:
            shape = None if chunk is None else (chunk, *frames.shape[1:])
            opened.create_dataset("pixels", data=frames, chunks=shape)

    seconds = cpu(write)
    rng = np.random.default_rng(0)
    with h5py.File(file, "r") as opened:
        rows = opened["pixels"]

        def read() -> None:
            for start in rng.integers(len(frames) - READ, size=100).tolist():
                rows[start : start + READ]  # type: ignore[index]

        read()
        return file.stat().st_size / len(frames), len(frames) / seconds, 100 * READ / cpu(read)


def cpu(work: Callable[[], None]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--megabytes", type=int, default=150, help="of raw frames for each row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenes = {f"block {size}": block(options.megabytes * 10**6 // (3 * size**2), size) for size in options.sizes}
    scenes = {"two_rooms 64": rooms(options.megabytes * 10**6 // (3 * 64**2)), **scenes}
    print(f"{'pictures':>14} {'format':>18} {'bytes/frame':>12} {'written/CPU s':>14} {'read/CPU s':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for name, frames in scenes.items():
            rows = {f"store {p}": store_row(Path(folder) / f"{name}-{p}", frames, p) for p in ("raw", "zstd", "jpeg")}
            if importlib.util.find_spec("h5py"):
                rows["h5py contiguous"] = h5_row(Path(folder) / f"{name}.h5", frames, None)
                rows["h5py chunks of 16"] = h5_row(Path(folder) / f"{name}-16.h5", frames, 16)
            for label, (size, written, read) in rows.items():
                print(f"{name:>14} {label:>18} {size:>12,.0f} {written:>14,.0f} {read:>12,.0f}")
            print(f"{name:>14} {'checksum':>18} {'':>12} {len(frames) / cpu(lambda f=frames: zlib.crc32(f)):>14,.0f}")


if __name__ == "__main__":
    main()
