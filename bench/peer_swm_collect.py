"""stable-worldmodel's side of `collect_speed.py`, run by it with the peer's own interpreter; prints one JSON object.

The peer: a virtual environment with `torch==2.13.0`, then `pip install stable-worldmodel==0.1.1` and its worlds'
packages (pygame, pymunk, shapely, opencv-python-headless). It needs torchvision, which has no CPU build for that torch
on PyPI: stubs in the place of torchvision's compiled operators, which it does not call here, will do.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
warnings.filterwarnings("ignore")


def main() -> None:
    import stable_worldmodel
    import torch

    torch.set_num_threads(1)
    world, form, episodes, size, steps = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    made = stable_worldmodel.World(world, num_envs=8, image_shape=(size, size), max_episode_steps=steps)
    made.set_policy(stable_worldmodel.policy.RandomPolicy(seed=0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("data.lance" if form == "lance" else "data.h5")
        began = time.process_time()
        made.collect(str(path), episodes=episodes, seed=0, format=form, progress=False)
        seconds = time.process_time() - began
    # Counted whole, although it stores one frame fewer and some episodes end earlier: in its favour.
    print(json.dumps({"frames": episodes * (steps + 1), "cpu_s": seconds}))


if __name__ == "__main__":
    main()
