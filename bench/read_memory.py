"""Memory in use while clips are drawn from a store that is larger than it should ever become.

    OMP_NUM_THREADS=1 python bench/read_memory.py --gb 6 --batches 3000 --folder FOLDER

Writes a store of `--gb` into FOLDER (needed: it must lie on a disk that has the room), draws batches of 32 clips of 4
frames of 224 x 224 through `Prefetched`, and prints the resident memory of the process, and what of it are pages of
files. Deletes the store.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from innerworld.data import Clips, Store
from innerworld.data.clips.prefetch import Prefetched
from innerworld.types import Clip, Spec

SIZE, STEPS, EPISODES = 224, 100, 4  # of a picture, of an episode, of a shard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--gb", type=float, default=6.0)
    parser.add_argument("--batches", type=int, default=3000)
    parser.add_argument("--packing", choices=("raw", "zstd", "jpeg"), default="raw", help="of the frames in the store")
    parser.add_argument("--resident", type=int, default=None, help="shards to draw from at a time; default: all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.folder / "read_memory_store"
    try:
        generate(path, args.gb, args.packing)
        watch(path, args.batches, args.resident)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def generate(path: Path, gb: float, packing: str) -> None:
    store = Store.create(path, Spec({"pixels": (SIZE, SIZE, 3), "state": (5,)}, action=2), frames=packing)
    rng = np.random.default_rng(0)
    clips = [noise(rng) for _ in range(EPISODES)]
    size = EPISODES * (STEPS + 1) * SIZE * SIZE * 3 / 1e9
    for _ in range(max(1, round(gb / size))):
        store.add_all(clips)
    total = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{len(store)} episodes, {store.frames} frames, {total / 1e9:.1f} GB ({packing})", flush=True)


def noise(rng: np.random.Generator) -> Clip:
    pixels = torch.from_numpy(rng.integers(0, 256, (1, STEPS + 1, SIZE, SIZE, 3), np.uint8))
    nothing = torch.zeros(1, STEPS)
    return Clip({"pixels": pixels, "state": torch.rand(1, STEPS + 1, 5)}, torch.rand(1, STEPS, 2), nothing, nothing > 0)


def watch(path: Path, batches: int, resident: int | None) -> None:
    clips = Clips(Store.open(path), None, length=3, batch=32, frame_skip=5, resident=resident)
    print(f"{'batches':>8} {'resident MB':>12} {'of files MB':>12} {'frames/s wall':>14}")
    began = time.perf_counter()
    with Prefetched(clips, ahead=2, workers=1) as ready:
        for step in range(batches):
            ready.batch(step)
            if step in (0, 9, 99) or (step + 1) % max(1, batches // 10) == 0:
                all_mb, file_mb = memory()
                speed = (step + 1) * clips.size * 4 / (time.perf_counter() - began)
                print(f"{step + 1:>8} {all_mb:>12,.0f} {file_mb:>12,.0f} {speed:>14,.0f}", flush=True)


def memory() -> tuple[float, float]:
    """Resident MB of this process, and the part that are pages of files (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kb = {line.partition(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "RssFile"))}
    return kb["VmRSS"] / 1e3, kb["RssFile"] / 1e3


if __name__ == "__main__":
    main()
