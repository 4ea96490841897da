"""Kill a training run with SIGKILL at random moments, also while it saves, resume it each time, and compare the end.

    python bench/kill_training.py --kills 50 --folder /dev/shm/kills

Prints how many kills there were, how many of them in the middle of a save, how many different checkpoints were then
the newest (a few only would mean that the kills came before anything was learnt), and whether weights, average and
optimiser's memory are those of a run that nobody killed, bit for bit. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from innerworld import checkpoint
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.training import TrainConfig, train
from innerworld.types import Clip, Spec

SPEC = Spec({"state": (6,)}, action=2)
MODEL = JEPAConfig(
    latent=64, hidden=512, slices=32, predictor="transformer", heads=2, head_dim=8, history=2, dropout=0.2
)
CONFIG = TrainConfig(
    steps=400, lr=1e-3, warmup=20, final_lr_fraction=0.1, save_every=2, keep=2, ema=0.99, device="cpu", threads=1
)


class Noise:
    def batch(self, step: int) -> Clip:
        rng = torch.Generator().manual_seed(step)
        state, action = torch.randn(8, 4, 6, generator=rng), torch.rand(8, 3, 2, generator=rng)
        return Clip({"state": state}, action, torch.zeros(8, 3), torch.zeros(8, 3).bool())


def learn(folder: Path, config: TrainConfig = CONFIG) -> None:
    torch.manual_seed(0)
    train(JEPA(MODEL, SPEC), Noise(), config, folder, resume=folder.exists())


def run(folder: Path, kills: int, longest_s: float, rng: random.Random) -> tuple[int, int, set[int]]:
    """Train to the end, killing up to so many times: how often that was, how often in a save, and after which steps."""
    fork = multiprocessing.get_context("fork")  # torch is imported once, so that most of the time is training
    done = while_saving = 0
    reached: set[int] = set()
    while True:
        child = fork.Process(target=learn, args=(folder,))
        child.start()
        child.join(rng.uniform(0, longest_s) if done < kills else None)
        if child.exitcode is not None:
            assert child.exitcode == 0, f"the run failed with {child.exitcode}: {state(folder)}"
            return done, while_saving, reached
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        done += 1
        while_saving += any((folder / "checkpoints").glob(".tmp-*"))
        reached |= {checkpoint.read_header(folder).step} if checkpoint.exists(folder) else {-1}


def state(folder: Path) -> str:
    path = folder / "state.json"
    return json.loads(path.read_text())["reason"] if path.exists() else "it left no state.json"


def same(one: Path, other: Path) -> bool:
    names = ("weights.safetensors", "average.safetensors", "optimiser.safetensors")
    ends = [folder / "checkpoints" / f"step-{CONFIG.steps:08d}" for folder in (one, other)]
    assert all(checkpoint.read_header(end).step == CONFIG.steps for end in ends)
    return all((ends[0] / name).read_bytes() == (ends[1] / name).read_bytes() for name in names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--longest", type=float, default=0.8, help="seconds between two kills, at most")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "innerworld-kills")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    rng, began = random.Random(args.seed), time.monotonic()
    learn(args.folder / "warm", CONFIG.model_copy(update={"steps": 1}))  # loads what torch loads at the first step
    run(args.folder / "whole", 0, args.longest, rng)
    kills = while_saving = runs = different = places = 0
    while kills < args.kills:
        folder = args.folder / f"killed-{runs}"
        done, hit, reached = run(folder, args.kills - kills, args.longest, rng)
        kills, while_saving, runs = kills + done, while_saving + hit, runs + 1
        places += len(reached)
        different += not same(args.folder / "whole", folder)
    shutil.rmtree(args.folder)
    seconds = round(time.monotonic() - began, 1)
    values = {"kills": kills, "while_saving": while_saving, "newest_checkpoints": places, "runs": runs}
    print(json.dumps({**values, "different": different, "seconds": seconds}))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
