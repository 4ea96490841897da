"""How fast are worlds? Steps, with random actions, per CPU second, beginning anew included.

    python bench/world_speed.py                                    # those that are installed
    python bench/world_speed.py --worlds dmc:walker-walk:state atari:pong:pixels --seconds 5
    python bench/world_speed.py --worlds coinrun:pixels two_rooms_noise:pixels --together 16  # of worlds stepped as one

A world is written `id:sensor`. CPU seconds of the whole process are counted, for a picture may be drawn by several
threads. A step of an Atari game is four frames.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

from innerworld.envs import ENVS, make, make_one
from innerworld.errors import UserError

WORLDS = [
    "CartPole-v1:state",
    "CartPole-v1:pixels",
    "LunarLander-v3:state",
    "LunarLander-v3:pixels",
    "CarRacing-v3:pixels",
    "HalfCheetah-v5:state",
    "HalfCheetah-v5:pixels",
    "dmc:walker-walk:state",
    "dmc:walker-walk:pixels",
    "dmc:cartpole-swingup:state",
    "dmc:cartpole-swingup:pixels",
    "atari:pong:pixels",
    "atari:breakout:pixels",
    "minigrid:MiniGrid-DoorKey-5x5-v0:state",
    "minigrid:MiniGrid-DoorKey-5x5-v0:pixels",
    "crafter:reward:pixels",
    "minatar:breakout:state",
    "minatar:breakout:pixels",
    "coinrun:pixels",
    "two_rooms_noise:pixels",
    "two_rooms_blobs:pixels",
]


def rate(id: str, sensor: str, seconds: float) -> tuple[float, int]:
    """Steps per CPU second over at least `seconds` of them, and the frames that a step takes."""
    env = make_one(id, size=64, sensors=None if id in ENVS else [sensor], seed=0)
    env.step(env.action_space.sample())  # the first pays for imports and the making of contexts
    env.reset(seed=0)
    steps, begin = 0, time.process_time()
    while time.process_time() - begin < seconds:
        for _ in range(20):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        steps += 20
    found = steps / (time.process_time() - begin)
    env.close()
    return found, env.metadata["frames_per_step"]


def rate_together(id: str, sensor: str, seconds: float, n: int) -> tuple[float, int]:
    """The same of `n` worlds that are stepped as one: the steps of all of them."""
    envs = make(id, n, size=64, sensors=None if id in ENVS else [sensor], seed=0)
    envs.step(envs.action_space.sample())
    envs.reset(seed=0)
    steps, begin = 0, time.process_time()
    while time.process_time() - begin < seconds:
        for _ in range(20):
            _, _, terminated, truncated, _ = envs.step(envs.action_space.sample())
            if np.any(over := terminated | truncated):
                envs.reset(options={"reset_mask": over})
        steps += 20 * n
    found = steps / (time.process_time() - begin)
    envs.close()
    return found, envs.metadata["frames_per_step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=WORLDS, help="id:sensor of each")
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU time to measure each for, seconds")
    parser.add_argument("--together", type=int, default=1, help="worlds that are stepped as one")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of packages about themselves
    print("| world | sensor | steps per CPU second | frames per step |\n|---|---|--:|--:|")
    for world in options.worlds:
        id, _, sensor = world.rpartition(":")
        try:
            if options.together > 1:
                steps, frames = rate_together(id, sensor, options.seconds, options.together)
            else:
                steps, frames = rate(id, sensor, options.seconds)
        except UserError as error:
            print(f"| `{id}` | `{sensor}` | {error} | |")
            continue
        print(f"| `{id}` | `{sensor}` | {steps:,.0f} | {frames} |", flush=True)


if __name__ == "__main__":
    main()
