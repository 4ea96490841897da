"""How fast is Two Rooms experience made? Transitions with pictures per CPU-second, beside eb_jepa's generator.

    python bench/two_rooms_speed.py                     # ours alone
    python bench/two_rooms_speed.py --peer eb_jepa      # both in one process, and the ratio (see peer_eb_jepa.py)

Both make batches of 64 trajectories of 16 transitions, each trajectory in a room of its own (wall and door drawn anew).
Ours: random actions, 64 x 64 x 3 bytes. The peer's: 65 x 65 x 2 floats, at the settings of its repository, which walk
91 steps to keep 17 frames; that is its own cost of making a batch, so it is counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from innerworld.envs.two_rooms import TwoRoomsConfig, TwoRoomsVector

BATCH, STEPS = 64, 16


def generator() -> Callable[[], int]:
    """Each call begins new worlds, acts at random, and returns the number of transitions."""
    worlds = TwoRoomsVector(BATCH, TwoRoomsConfig(variation=("wall", "door")))
    worlds.reset(seed=0)
    worlds.action_space.seed(0)

    def make() -> int:
        worlds.reset()
        for _ in range(STEPS):
            worlds.step(worlds.action_space.sample())
        return BATCH * STEPS

    return make


def rate(make: Callable[[], int], seconds: float) -> float:
    """Median transitions per CPU-second over at least three batches and at least `seconds` of CPU time."""
    make()  # the first pays for imports and caches
    rates: list[float] = []
    begin = time.process_time()
    while len(rates) < 3 or time.process_time() - begin < seconds:
        start = time.process_time()
        transitions = make()
        rates.append(transitions / (time.process_time() - start))
    return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="checkout of facebookresearch/eb_jepa")
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU time to measure each for, seconds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ours = rate(generator(), options.seconds)
    print(f"innerworld: {ours:,.0f} transitions per CPU-second")
    if options.peer:
        import peer_eb_jepa

        peer = rate(peer_eb_jepa.generator(options.peer, BATCH), options.seconds)
        print(f"eb_jepa:    {peer:,.0f} transitions per CPU-second")
        print(f"ratio:      {ours / peer:.1f}")


if __name__ == "__main__":
    main()
