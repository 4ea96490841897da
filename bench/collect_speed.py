"""How fast is experience collected into a store on disk? Frames of 64 x 64 per CPU-second, beside stable-worldmodel.

    OMP_NUM_THREADS=1 python bench/collect_speed.py --peer-python PEER/bin/python
    OMP_NUM_THREADS=1 python bench/collect_speed.py --worlds coinrun                      # any world, without a peer

Random actions, 8 worlds (the peer's number of worlds changes nothing for it; ours also with 64), episodes of 100 steps,
one thread, everything counted: stepping, drawing, encoding, writing. The sides take turns, `--repeats` times each; the
best run of each counts. The peer runs in its own virtual environment (`peer_swm_collect.py` says how to make it) and
writes each of its own formats; its fastest is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from innerworld import envs
from innerworld.data import About, Store, Uniform, collect

WORLDS = {"two_rooms": "swm/TwoRoom-v1", "pusht": "swm/PushT-v1"}
SIZE, STEPS = 64, 100
FORMATS = ("lance", "hdf5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="interpreter of the peer's virtual environment")
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), help="names of worlds")
    parser.add_argument("--episodes", type=int, default=24, help="episodes of the peer; ours are 4 times as many")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'world':10} {'side':32} {'frames/CPU s':>14}")
    for world in options.worlds:
        ours: dict[int, float] = {}
        peers: dict[str, float] = {}
        for _ in range(options.repeats):
            for worlds in (8, 64):
                ours[worlds] = max(ours.get(worlds, 0), rate(world, worlds, max(64, 4 * options.episodes)))
            for form in FORMATS if options.peer_python and world in WORLDS else ():
                found = peer_rate(options.peer_python, WORLDS[world], form, options.episodes)
                peers[form] = max(peers.get(form, 0), found)
        for worlds, speed in ours.items():
            print(f"{world:10} {f'innerworld, {worlds} worlds':32} {speed:14,.0f}")
        for form, speed in peers.items():
            print(f"{world:10} {f'stable-worldmodel, {form}':32} {speed:14,.0f}")
        if peers:
            print(f"{world:10} {'ratio, both 8 worlds':32} {ours[8] / max(peers.values()):14.1f}", flush=True)


def rate(world: str, worlds: int, episodes: int) -> float:
    """Frames per CPU-second of `collect` into a store that is new."""
    vector = envs.make(world, worlds, SIZE, max_steps=STEPS)
    spec = envs.spec_of(vector.single_observation_space, vector.single_action_space)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "store", spec, About(env=world, policy="uniform", seed=0))
        began = time.process_time()
        collect(vector, Uniform(spec), episodes, store, seed=0)
        seconds = time.process_time() - began
        frames = store.transitions + len(store)
    vector.close()
    return frames / seconds


def peer_rate(python: Path, world: str, form: str, episodes: int) -> float:
    """The same of the peer, as its own process measures it."""
    script = Path(__file__).with_name("peer_swm_collect.py")
    words = [str(python), str(script), world, form, str(episodes), str(SIZE), str(STEPS)]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(f"the peer failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found["frames"] / found["cpu_s"]


if __name__ == "__main__":
    main()
