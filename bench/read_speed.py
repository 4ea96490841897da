"""Shuffled clips of Push-T frames: `Clips.batch` beside plain reads, h5py and stable-worldmodel, cache warm and cold.

    OMP_NUM_THREADS=1 python bench/read_speed.py --peer-python PEER/bin/python

All readers get the same frames (a random policy's, made here with gym-pusht) and draw random clips, 128 in a batch, in
one process with one thread. "plain reads" reads the same bytes of one flat file into memory that is used again and
again: what the machine can do. Cold: before every batch all files are thrown out of the page cache (posix_fadvise;
below a virtual machine another cache may remain). Without `--peer-python` (an environment with
`stable-worldmodel==0.1.1`, see peer_swm_read.py) the peer is left out, without h5py that one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from innerworld.data import Clips, Smooth, Store, collect
from innerworld.envs import make, spec_of

BATCH, STEPS = 128, 100
SETTINGS = ((3, 5), (15, 1))  # (actions per clip, frame_skip): 4 observations x skip 5, and 16 x 1
Batches = Callable[[int], object]


class Speed(NamedTuple):
    cpu_s: float  # a batch
    wall_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="interpreter of the peer's virtual environment")
    parser.add_argument("--episodes", type=int, default=40, help=f"of {STEPS} steps each")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224], help="sides of the pictures, pixels")
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU seconds for each warm measurement")
    parser.add_argument("--cold", type=int, default=5, help="batches of each cold measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{args.episodes} episodes of {STEPS} steps, batch {BATCH}, one thread; frames per second, cpu and wall")
    print(
        f"{'size':>4} {'clip':>16} {'reader':>24} {'warm cpu':>10} {'warm wall':>10} {'cold cpu':>10} {'cold wall':>10}"
    )
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            frames = flat(folder, generate(folder / "store", args.episodes, size))
            store = Store.open(folder / "store")  # anew: what is mapped cannot be thrown out of the cache
            for length, skip in SETTINGS:
                title = f"{length + 1} obs x skip {skip}"
                for reader, batch in readers(folder, store, frames, length, skip):
                    warm, cold = measure_warm(batch, args.seconds), measure_cold(batch, folder, args.cold)
                    report(size, title, reader, length, warm, cold)
            if args.peer_python:
                peers(args.peer_python, folder, size, args.seconds, args.cold)


def generate(path: Path, episodes: int, size: int) -> Store:
    worlds = make("pusht", n=4, size=size, max_steps=STEPS)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(path, spec)
    collect(worlds, Smooth(spec), episodes, store, seed=0)
    worlds.close()
    return store


def flat(folder: Path, store: Store) -> np.ndarray:
    """All frames and actions one after another as .npy, which the others are made from; the frames."""
    episodes = [store.episode(i) for i in range(len(store))]
    frames = np.concatenate([clip.obs["pixels"][0].numpy() for clip in episodes])
    np.save(folder / "frames.npy", frames)
    np.save(folder / "actions.npy", np.concatenate([clip.action[0].numpy() for clip in episodes]))
    np.save(folder / "lengths.npy", store.lengths)
    if importlib.util.find_spec("h5py"):
        import h5py

        with h5py.File(folder / "frames.h5", "w") as file:
            file["pixels"] = frames
            file["action"] = np.load(folder / "actions.npy", allow_pickle=False)
    os.sync()  # what has not reached the disk cannot be thrown out of the cache
    return np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False)


def readers(folder: Path, store: Store, frames: np.ndarray, length: int, skip: int) -> Iterator[tuple[str, Batches]]:
    clips = Clips(store, None, length, BATCH, frame_skip=skip, sensors=["pixels"])
    yield "innerworld", clips.batch
    yield "plain reads", plain_reader(folder / "frames.npy", frames, store, length, skip)
    if (folder / "frames.h5").exists():
        yield "h5py, contiguous", hdf5_reader(folder / "frames.h5", store, length, skip)


def plain_reader(path: Path, frames: np.ndarray, store: Store, length: int, skip: int) -> Batches:
    """One pread for each stretch of bytes that is wanted, into a buffer that is made once."""
    number = os.open(path, os.O_RDONLY)
    row = frames[0].nbytes
    header = path.stat().st_size - len(frames) * row
    out = np.empty((BATCH, length + 1, row), np.uint8)

    def batch(step: int) -> object:
        for into, first in zip(out, starts(store, length * skip, step), strict=True):
            if skip == 1:
                os.preadv(number, [into.data], header + first * row)
            else:
                for t, frame in enumerate(into):
                    os.preadv(number, [frame.data], header + (first + t * skip) * row)
        return out

    return batch


def hdf5_reader(path: Path, store: Store, length: int, skip: int) -> Batches:
    """The same clips out of flat, uncompressed, contiguous HDF5 arrays: one slice per clip and array, nothing else."""
    import h5py

    file: Any = h5py.File(path, "r")
    pixels, action = file["pixels"], file["action"]
    span = length * skip

    def batch(step: int) -> object:
        out = np.empty((BATCH, length + 1, *pixels.shape[1:]), np.uint8)
        done = np.empty((BATCH, span, action.shape[1]), np.float32)
        for row, at in enumerate(starts(store, span, step)):
            pixels.read_direct(out, np.s_[at : at + span + 1 : skip], np.s_[row])
            first = min(at, len(action) - span)  # any place will do
            action.read_direct(done, np.s_[first : first + span], np.s_[row])
        return out, done

    return batch


def starts(store: Store, span: int, step: int) -> list[int]:
    """First rows, among all frames, of a batch of random clips."""
    rng = np.random.default_rng(step)
    episode = rng.integers(len(store), size=BATCH)
    begins = np.cumsum(store.lengths + 1) - store.lengths - 1
    return (begins[episode] + (rng.random(BATCH) * (store.lengths[episode] - span + 1)).astype(int)).tolist()


def measure_warm(batch: Batches, seconds: float) -> Speed:
    """After one pass that fills the page cache."""
    for step in range(40):
        batch(step)
    steps, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.process_time() < cpu + seconds:
        batch(1000 + steps)
        steps += 1
    return Speed((time.process_time() - cpu) / steps, (time.perf_counter() - wall) / steps)


def measure_cold(batch: Batches, folder: Path, batches: int) -> Speed:
    cpu, wall = 0.0, 0.0
    for step in range(batches):
        forget(folder)
        wall, cpu = wall - time.perf_counter(), cpu - time.process_time()
        batch(5000 + step)
        wall, cpu = wall + time.perf_counter(), cpu + time.process_time()
    return Speed(cpu / batches, wall / batches)


def forget(folder: Path) -> None:
    """Throw every file out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            number = os.open(path, os.O_RDONLY)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


def peers(python: Path, folder: Path, size: int, seconds: float, cold: int) -> None:
    script = Path(__file__).with_name("peer_swm_read.py")
    words = [python, script, folder, "--batch", BATCH, "--seconds", seconds, "--cold", cold]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script.name} failed:\n{done.stderr[-2000:]}")
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            title = f"{row['length'] + 1} obs x skip {row['skip']}"
            report(size, title, f"swm 0.1.1 {row['format']}", row["length"], Speed(*row["warm"]), Speed(*row["cold"]))


def report(size: int, title: str, reader: str, length: int, warm: Speed, cold: Speed) -> None:
    frames = BATCH * (length + 1)
    columns = [frames / value for value in (*warm, *cold)]
    print(f"{size:>4} {title:>16} {reader:>24} " + " ".join(f"{value:>10,.0f}" for value in columns), flush=True)


if __name__ == "__main__":
    main()
