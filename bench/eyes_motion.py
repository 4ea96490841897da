"""Do V-JEPA 2's tokens tell motions that no single frame gives away? Trained here on generated films, then frozen.

For each seed: train a V-JEPA 2 (64 wide, 4 blocks) without labels on films of all four questions (16 frames of 32²
pixels; in a `night` film two things move in the dark, under strong noise), freeze it, train an attentive probe for each
question on labelled films, and judge it on others. Beside it the same probe on the same architecture with random
weights, and on the trained eyes shown only the middle frame, standing still. The probe's learning rate is chosen for
each of these on films set aside from those to learn from.

    python bench/eyes_motion.py --seeds 0 1 2

The last table pools the test films of all seeds, and says how far the seeds lie apart. `--save FOLDER` keeps the
results of each seed, and takes them from there when they are there already.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch.optim import AdamW

from innerworld.data.films import BUSY, CLASSES, NIGHT, PLAIN, Films, Scene, films
from innerworld.evaluate.collapse import effective_rank
from innerworld.evaluate.control import wilson
from innerworld.evaluate.understanding import See, UnderstandingConfig, one_frame, tokens_of, understand
from innerworld.nn.schedules import warmup_cosine
from innerworld.nn.vision import ViTConfig
from innerworld.perception import VJEPA2
from innerworld.perception.masks import TubesConfig
from innerworld.perception.predictor import PredictorConfig
from innerworld.perception.vjepa2 import VJEPA2Config
from innerworld.types import Clip, Spec

FRAMES, SIZE = 16, 32
POOL = 1_000  # films of each question to learn from, without labels
BATCH, LR, DECAY, WARMUP, CLIP = 16, 5e-4, 0.04, 100, 1.0
BOXES = TubesConfig(blocks=6, scale=(0.3, 0.3), duration=(0.5, 0.5))  # the published leave 4 × 4 patches no context
SCENES = {"night": NIGHT, "busy": BUSY, "plain": PLAIN}
LEARN, TEST = 1_000, 500  # labelled films of each question: for the probe, and to judge it
PROBE = UnderstandingConfig(epochs=30, lr=(3e-3, 1e-3), weight_decay=(0.05,))
WAYS = ("trained", "random weights", "trained, one frame")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of weights, masks, films and probes")
    parser.add_argument("--steps", type=int, default=800, help="of training")
    parser.add_argument("--scene", choices=SCENES, default="night", help="what the films show besides the motion")
    parser.add_argument("--questions", nargs="+", choices=CLASSES, default=list(CLASSES), help="to ask")
    parser.add_argument("--save", type=Path, help="folder for the results of each seed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = [_once(seed, args.steps, args.scene, args.questions, args.save) for seed in args.seeds]
    print(f"\nall {len(found)} seeds: right of {TEST * len(found)} test films, 95 % interval; least and most of a seed")
    for question in args.questions:
        cells = []
        for way in WAYS:
            each = [one[question][way] for one in found]
            low, high = wilson(round(sum(each) * TEST), TEST * len(found))
            cells.append(f"{np.mean(each):5.1%} ({low:.1%} to {high:.1%}; {min(each):.1%} to {max(each):.1%})")
        chance = np.mean([one[question]["chance"] for one in found])
        print(f"| {question:10} | {' | '.join(cells)} | {chance:5.1%} |")


def run(seed: int, steps: int, scene: Scene, questions: list[str]) -> dict[str, dict[str, float]]:
    """Top-1 of each question in each way, and of the commonest label."""
    config = configuration(steps)
    torch.manual_seed(seed)
    naive = _frozen(VJEPA2(config, _spec()))
    eyes = train(config, seed, steps, scene)
    found = {}
    for question in questions:
        learn, test = (
            films(question, n, FRAMES, SIZE, 1000 * seed + part, scene) for n, part in ((LEARN, 2), (TEST, 3))
        )
        sees: dict[str, See] = {WAYS[0]: _frozen(eyes), WAYS[1]: naive, WAYS[2]: one_frame(_frozen(eyes))}
        judged = {way: _judge(see, learn, test, seed) for way, see in sees.items()}
        found[question] = {way: top1 for way, (top1, _) in judged.items()} | {"chance": judged[WAYS[0]][1]}
        print(
            f"  {question:10} " + "   ".join(f"{way} {top1:5.1%}" for way, top1 in found[question].items()), flush=True
        )
    return found


def configuration(steps: int) -> VJEPA2Config:
    """Of the encoder that is trained for so many steps."""
    return VJEPA2Config(
        vit=ViTConfig(dim=64, depth=4, heads=4, mlp=256, patch=8, tubelet=2),
        predictor=PredictorConfig(dim=48, depth=2, heads=4, mlp=192, zero_tokens=True),
        masks=(BOXES,),
        mask_index=(0,),
        crop=None,  # left and right matter
        momentum=(0.998, 0.998),  # slow: a quicker one, tried without the dense loss, lost rank
        momentum_steps=steps,
        dense=1.0,
        dense_ramp=(0, 0),
    )


def train(config: VJEPA2Config, seed: int, steps: int, scene: Scene) -> VJEPA2:
    """AdamW with warm-up and cosine; says now and then whether the tokens are alive."""
    pool = np.concatenate([films(question, POOL, FRAMES, SIZE, 1000 * seed + 1, scene).frames for question in CLASSES])
    watched = np.concatenate([films(question, 64, FRAMES, SIZE, 1000 * seed + 4, scene).frames for question in CLASSES])
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    eyes = VJEPA2(config, _spec())
    weights = [p for p in eyes.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = AdamW(groups, lr=LR)
    began = time.process_time()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = warmup_cosine(step, steps, LR, WARMUP, final=LR / 100)
        shown = pool[rng.integers(len(pool), size=BATCH)]
        loss, _ = eyes.loss(_clip(shown))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimiser.step()
        eyes.after_step()
        if (step + 1) % 100 == 0 or step == 0:
            took = time.process_time() - began
            print(f"  step {step + 1:5}  loss {loss:.3f}  {_alive(eyes, watched)}  {took:5.0f} CPU s", flush=True)
    return eyes


def _once(seed: int, steps: int, scene: str, questions: list[str], save: Path | None) -> dict[str, dict[str, float]]:
    file = save / f"motion-{seed}-{steps}-{scene}.json" if save else None
    found = json.loads(file.read_text()) if file and file.exists() else {}
    if not set(questions) <= set(found):
        print(f"seed {seed}, {steps} steps of {BATCH} {scene} films", flush=True)
        found = run(seed, steps, SCENES[scene], questions)
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found))
    return found


def _alive(eyes: VJEPA2, watched: np.ndarray) -> str:
    """Spread and rank of films' mean tokens: near 0 and 1 when the encoder has collapsed."""
    pooled = tokens_of(_frozen(eyes), watched, 64).mean(dim=1)
    pooled = pooled - pooled.mean(dim=0)
    return f"spread {pooled.std(dim=0).mean():.3f}  rank {effective_rank(pooled):.1f}"


def _judge(see: See, learn: Films, test: Films, seed: int) -> tuple[float, float]:
    probe = PROBE.model_copy(update={"seed": seed})
    found = understand(see, (learn.frames, learn.label), (test.frames, test.label), probe)
    return found["top1"], found["chance"]


def _frozen(eyes: VJEPA2) -> See:
    return lambda shown: eyes.encode({"pixels": shown})


def _clip(frames: np.ndarray) -> Clip:
    b, t = frames.shape[:2]
    nothing = torch.zeros(b, t - 1)
    return Clip({"pixels": torch.from_numpy(frames)}, torch.zeros(b, t - 1, 1), nothing, nothing)


def _spec() -> Spec:
    return Spec({"pixels": (SIZE, SIZE, 3)}, action=1)


if __name__ == "__main__":
    main()
