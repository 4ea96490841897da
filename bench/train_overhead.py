"""What the training loop costs beside the model's own work, and how long a checkpoint makes training pause.

    python bench/train_overhead.py

The JEPA's small preset on random clips in memory, on one CPU thread: CPU seconds a step of `innerworld.train` and of
twelve lines of plain torch that do the same arithmetic, in turns; the median over the turns. Then the longest step at
which a checkpoint is saved, when training waits for it and when it is written meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from innerworld.models.jepa import JEPA
from innerworld.training import TrainConfig, train
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (64, 64, 3)}, action=2)
CONFIG = TrainConfig(device="cpu", threads=1, log_every=20, check_every=10**9, save_every=10**9)


class Same:
    """One clip again and again: reading is measured elsewhere (bench/read_speed.py)."""

    def __init__(self, batch: int) -> None:
        rng = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (batch, 13, 64, 64, 3), dtype=torch.uint8, generator=rng)
        action = torch.rand(batch, 12, 2, generator=rng)
        self.clip = Clip({"pixels": pixels}, action, torch.zeros(batch, 12), torch.zeros(batch, 12).bool())
        self.at: list[float] = []

    def batch(self, step: int) -> Clip:
        self.at.append(time.perf_counter())
        return self.clip


def build() -> JEPA:
    torch.manual_seed(0)
    return JEPA(JEPA.presets["small"], SPEC)  # type: ignore[arg-type]


def plain(model: JEPA, clips: Same, steps: int) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0)
    for step in range(steps):
        optimiser.zero_grad()
        loss, _ = model.loss(clips.batch(step))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not torch.isfinite(loss.detach() + norm):
            raise RuntimeError("not finite")
        optimiser.step()
        model.after_step()


def ours(model: JEPA, clips: Same, steps: int) -> None:
    train(model, clips, CONFIG.model_copy(update={"steps": steps}))


def per_step(loop: object, clips: Same, steps: int) -> float:
    model = build()
    began = time.process_time()
    loop(model, clips, steps)  # type: ignore[operator]
    return (time.process_time() - began) / steps


def longest_pause(background: bool, clips: Same, steps: int) -> tuple[float, float]:
    """Median seconds of a step without a save, and of one with: in between lies one save."""
    config = CONFIG.model_copy(update={"steps": steps, "save_every": 5, "background": background})
    clips.at.clear()
    with tempfile.TemporaryDirectory() as folder:
        train(build(), clips, config, Path(folder))
    took = [b - a for a, b in zip(clips.at, clips.at[1:], strict=False)]
    saving = [s for i, s in enumerate(took) if (i + 1) % 5 == 0]
    rest = [s for i, s in enumerate(took) if (i + 1) % 5]
    return statistics.median(rest), statistics.median(saving)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = Same(args.batch)
    for loop in (plain, ours):
        per_step(loop, clips, 3)  # what is loaded at the first step
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(args.turns):
        times["plain"].append(per_step(plain, clips, args.steps))
        times["ours"].append(per_step(ours, clips, args.steps))
    found = {name: statistics.median(values) for name, values in times.items()}
    told = {f"cpu_ms_a_step_{name}": round(1000 * value, 3) for name, value in found.items()}
    ratios = [a / b for a, b in zip(times["ours"], times["plain"], strict=True)]
    told["ratio"] = round(statistics.median(ratios), 4)
    for name, background in (("waiting", False), ("meanwhile", True)):
        rest, saving = longest_pause(background, clips, 31)
        told[f"pause_ms_{name}"] = round(1000 * (saving - rest), 2)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
