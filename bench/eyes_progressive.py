"""Small and short clips first: what does V-JEPA 2's recipe save on the motion films, and is as much learnt?

The encoder of `eyes_motion.py` is trained twice on its films, without labels, for as many steps and by the same
schedule (warm-up, constant, cool-down): once on whole clips, once on short clips of small pictures until the cool-down
begins. On the way and at the end an attentive probe judges its tokens of whole films. Beside it the probe on random
weights. CPU seconds are those of the training alone.

    python bench/eyes_progressive.py --seeds 0 --steps 800

`--save FOLDER` keeps the runs, and takes them from there when they are there already.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from eyes_motion import BATCH, CLIP, DECAY, FRAMES, LEARN, LR, POOL, PROBE, SCENES, SIZE, TEST, WARMUP, configuration
from torch import Tensor

from innerworld import checkpoint
from innerworld.data import Clips, Shrunk, Staged, Store
from innerworld.data.clips.sampler import Sampler
from innerworld.data.films import CLASSES, films
from innerworld.evaluate.understanding import understand
from innerworld.perception import VJEPA2, Encoder
from innerworld.recipes.cost import cost
from innerworld.training import TrainConfig, train
from innerworld.types import Clip, Spec

SHORT, SMALL = 8, 16  # frames and side of a clip before the cool-down
COOLDOWN = 0.15  # share of the steps
DRAWS = 64  # of masks, over which the arithmetic of a step is averaged
SCENE = SCENES["night"]


@dataclass(frozen=True)
class Found:
    """A run at each step at which it was judged: what it had cost, and the share of test films named right."""

    cpu_s: dict[int, float]
    gflop: dict[int, float]
    right: dict[int, dict[str, float]]

    def mean(self, step: int) -> float:
        return float(np.mean(list(self.right[step].values())))

    def reached(self, level: float) -> int:
        """The first of those steps at which it was as good as that, as it was at the last."""
        return next(step for step in self.right if self.mean(step) >= level)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of weights, masks, films and probes")
    parser.add_argument("--steps", type=int, default=800, help="of each training")
    parser.add_argument("--looks", type=int, default=4, help="how often a run is judged, the last time at its end")
    parser.add_argument("--questions", nargs="+", default=["direction", "collisions"], choices=CLASSES, help="to ask")
    parser.add_argument("--save", type=Path, help="folder for the films and the runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        for seed in args.seeds:
            compare(args.save or Path(temporary), seed, args.steps, args.looks, args.questions)


def compare(folder: Path, seed: int, steps: int, looks: int, questions: list[str]) -> None:
    """Train and judge both, print what each cost to be as good as the other."""
    store = pool(folder / f"films-{seed}", seed)
    whole = Clips(store, None, FRAMES - 1, BATCH, seed)
    short = Shrunk(Clips(store, None, SHORT - 1, BATCH, seed), SMALL)
    cooldown = round(steps * COOLDOWN)
    config = TrainConfig(
        steps=steps, lr=LR, weight_decay=DECAY, clip_grad=CLIP, schedule="cooldown", warmup=min(WARMUP, steps // 4),
        cooldown=cooldown, final_lr_fraction=0.01, save_every=steps // looks, keep=looks + 1, log_every=1,
        device="cpu", seed=seed,
    )  # fmt: skip
    naive = judge(encoder(seed, steps), questions, seed)
    print(f"seed {seed}  random weights: {_told(naive)}", flush=True)
    ways: dict[str, Sampler] = {"whole": whole, "progressive": Staged({0: short, steps - cooldown: whole})}
    found = {}
    for way, clips in ways.items():
        found[way] = run(clips, config, folder / f"{way}-{seed}-{steps}", questions)
        for step, right in found[way].right.items():
            spent = f"{found[way].cpu_s[step]:6.1f} CPU s  {found[way].gflop[step] / 1000:6.2f} TFLOP"
            print(f"{way:11}  step {step:5}  {spent}  {_told(right)}", flush=True)
    _show(found["whole"], found["progressive"], float(np.mean(list(naive.values()))), steps)


def run(clips: Sampler, config: TrainConfig, folder: Path, questions: list[str]) -> Found:
    """Train, or take what is there, and judge every checkpoint but the first."""
    eyes = encoder(config.seed, config.steps)
    spent: dict[int, float] = {}
    began = time.process_time()

    def log(step: int, row: Mapping[str, float]) -> None:
        spent[step + 1] = time.process_time() - began
        if (step + 1) % 100 == 0:
            told = f"loss {row['loss']:.3f}  spread {row['spread']:.3f}  {spent[step + 1]:.0f} CPU s"
            print(f"  step {step + 1:5}  {told}", flush=True)

    times = folder / "cpu_s.json"
    if not times.exists():
        train(eyes, clips, config, folder, log)
        times.write_text(json.dumps(spent))
    spent = {int(step): seconds for step, seconds in json.loads(times.read_text()).items()}
    gflop = np.cumsum(gflop_of_steps(eyes, clips, config.steps))
    looks = range(config.save_every, config.steps + 1, config.save_every)
    right = {}
    for step in looks:
        trained = checkpoint.load(folder / "checkpoints" / f"step-{step:08d}", kind=Encoder)
        right[step] = judge(trained, questions, config.seed)
    return Found({step: spent[step] for step in looks}, {step: float(gflop[step - 1]) for step in looks}, right)


def pool(path: Path, seed: int) -> Store:
    """A store of films of all questions."""
    if (path / "meta.json").exists():
        return Store.open(path)
    store = Store.create(path, Spec({"pixels": (SIZE, SIZE, 3)}, 0))
    for question in CLASSES:
        shown = films(question, POOL, FRAMES, SIZE, 1000 * seed + 1, SCENE).frames
        store.add_all([_clip(film) for film in shown])
    return store


def encoder(seed: int, steps: int) -> VJEPA2:
    torch.manual_seed(seed)
    return VJEPA2(configuration(steps), Spec({"pixels": (SIZE, SIZE, 3)}, 0))


def judge(eyes: Encoder, questions: list[str], seed: int) -> dict[str, float]:
    """Top-1 of a probe for each question, on whole films."""
    found = {}

    def see(shown: Tensor) -> Tensor:
        return eyes.encode({"pixels": shown})

    for question in questions:
        learn, test = (
            films(question, n, FRAMES, SIZE, 1000 * seed + part, SCENE) for n, part in ((LEARN, 2), (TEST, 3))
        )
        probe = PROBE.model_copy(update={"seed": seed})
        found[question] = understand(see, (learn.frames, learn.label), (test.frames, test.label), probe)["top1"]
    return found


def gflop_of_steps(eyes: VJEPA2, clips: Sampler, steps: int) -> list[float]:
    """Of every step, as counted on some of each stage: masks differ in size from step to step."""

    def mean(part: Sampler) -> float:
        t = part.cutters[0].length + 1
        return float(np.mean([cost("vjepa2", eyes.config, part.spec, BATCH, t).flops for _ in range(DRAWS)])) / 1e9

    torch.manual_seed(0)
    each = [mean(part) for part in (clips.parts if isinstance(clips, Staged) else [clips])]
    return [each[clips.stage(step) if isinstance(clips, Staged) else 0] for step in range(steps)]


def _show(whole: Found, grown: Found, naive: float, steps: int) -> None:
    first = min(whole.cpu_s)
    print(f"after the first {first} steps", end="")
    _ratio(whole, first, grown, first)
    print(f"after all {steps} steps, whole {whole.mean(steps):.1%}, progressive {grown.mean(steps):.1%}", end="")
    _ratio(whole, steps, grown, steps)
    level = min(whole.mean(steps), grown.mean(steps))
    if level <= naive:
        print(f"random weights are no worse ({naive:.1%}): that both reach {level:.1%} says nothing")
        return
    a, b = whole.reached(level), grown.reached(level)
    print(f"to reach {level:.1%}, whole {a} steps, progressive {b}", end="")
    _ratio(whole, a, grown, b)


def _ratio(whole: Found, a: int, grown: Found, b: int) -> None:
    print(f": {whole.cpu_s[a] / grown.cpu_s[b]:.1f} × the CPU s, {whole.gflop[a] / grown.gflop[b]:.1f} × the FLOP")


def _told(right: Mapping[str, float]) -> str:
    return "  ".join(f"{question} {share:.1%}" for question, share in right.items())


def _clip(film: np.ndarray) -> Clip:
    t = len(film) - 1
    frames = torch.from_numpy(film)[None]
    return Clip({"pixels": frames}, torch.zeros(1, t, 0), torch.zeros(1, t), torch.zeros(1, t, dtype=torch.bool))


if __name__ == "__main__":
    main()
