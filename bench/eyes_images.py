"""What do picture encoders learn in a fixed CPU time? LeJEPA, VICReg and I-JEPA, trained here on generated pictures.

Every method trains the same ViT (64 wide, 4 blocks, patches of 8 pixels) without labels on the same pictures of 32² for
the same CPU seconds of one thread. It is then frozen: a linear probe on the mean of a picture's tokens names shape (8)
and texture (5), fitted on labelled pictures and judged on others. Beside it the same probe on the ViT with random
weights and on raw pixels.

    python bench/eyes_images.py --seeds 0 1 2 --seconds 30 --save runs/images --plot docs/eyes-pictures.svg

The settings of each method were chosen on seeds from 100 up. The CPU time of probing, by which the curves are drawn, is
not counted. `--save FOLDER` keeps the results of each training, and takes them from there when they are there already;
`--plot` needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from innerworld import losses
from innerworld.data.pictures import SHAPES, TEXTURES, Pictures, pictures
from innerworld.evaluate.probing import linear_probe
from innerworld.nn.schedules import warmup_cosine
from innerworld.nn.vision import ViTConfig
from innerworld.perception import IJEPA, Encoder, LeJEPA
from innerworld.perception.ijepa import IJEPAConfig
from innerworld.perception.lejepa import LeJEPAConfig
from innerworld.perception.masks import BlocksConfig
from innerworld.perception.predictor import PredictorConfig
from innerworld.types import Clip, Spec

SIZE = 32
POOL = 12_000  # pictures to learn from, without labels
LEARN, TEST = 3_000, 3_000  # labelled pictures: for the probe, and to judge it
DECAY, CLIP = 0.05, 1.0
WARMUP = 0.05  # of the CPU time
LOOKS = 4  # times that a training is probed, after its beginning
RIDGES = (1e-3, 1e-2, 1e-1)
VIT = ViTConfig(dim=64, depth=4, heads=2, mlp=256, patch=8, positions="sincos_2d")
SPEC = Spec({"pixels": (SIZE, SIZE, 3)}, action=1)
LABELS = {"shape": len(SHAPES), "texture": len(TEXTURES)}

Curve = list[dict[str, float]]
"""A training probed again and again: `seconds` of CPU time, `steps`, and the share named right of each label."""


class VICReg(LeJEPA):
    """VICReg (arXiv 2105.04906) on LeJEPA's large windows, with its projector as expander."""

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        one, two = (z.float() for z in self._project(self._views(clip)[0]))
        return losses.vicreg(one, two, cov=one.shape[-1] - 1)  # the paper divides by d, ours by d (d - 1)


def _windows(projector: tuple[int, ...]) -> LeJEPAConfig:
    """Two large windows a picture, most of them gray: colours are random here and would tell pictures apart."""
    return LeJEPAConfig(
        vit=VIT, projector=projector, global_size=SIZE, global_scale=(0.4, 1.0), local_views=0, gray=0.8, slices=256
    )


METHODS: dict[str, tuple[Callable[[], Encoder], float, int]] = {
    "lejepa": (lambda: LeJEPA(_windows((256, 256, 64)), SPEC), 2e-3, 64),
    "vicreg": (lambda: VICReg(_windows((256, 256, 256)), SPEC), 1e-3, 64),
    "ijepa": (
        lambda: IJEPA(
            IJEPAConfig(
                vit=VIT,
                predictor=PredictorConfig(dim=48, depth=2, heads=4, mlp=192),
                masks=BlocksConfig(min_keep=0),
                momentum=(0.99, 1.0),
                momentum_steps=2_000,
            ),
            SPEC,
        ),
        2e-3,
        128,
    ),
}
"""Each method's encoder, learning rate and batch, chosen on seeds from 100 up."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of weights, windows and pictures")
    parser.add_argument("--seconds", type=float, default=30, help="CPU time of a training")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--save", type=Path, help="folder for the results of each training")
    parser.add_argument("--plot", type=Path, help="file for the curves as SVG")
    args = parser.parse_args()
    torch.set_num_threads(1)
    curves: dict[str, list[Curve]] = {method: [] for method in args.methods}
    raw: Curve = []
    for seed in args.seeds:
        raw.append(_kept(args.save, f"raw-{seed}", lambda seed=seed: raw_pixels(seed)))
        for method in args.methods:
            name = f"{method}-{seed}-{args.seconds:g}"
            curve = _kept(args.save, name, lambda method=method, seed=seed: train(method, seed, args.seconds))
            curves[method].append(curve)
    table(curves, raw)
    if args.plot:
        plot(curves, raw, args.plot)


def train(method: str, seed: int, seconds: float) -> Curve:
    """Learn for that CPU time, probed now and then; the learning rate rises and falls with the time spent."""
    torch.manual_seed(seed)
    make, rate, batch = METHODS[method]
    eyes = make()
    pool, learn, test = drawn(seed)
    weights = [p for p in eyes.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = AdamW(groups, lr=rate)
    spent, steps = 0.0, 0
    curve = [_look(method, seed, eyes, learn, test, spent, steps)]
    while spent < seconds:
        began = time.process_time()
        for group in optimiser.param_groups:
            group["lr"] = warmup_cosine(int(1000 * spent), int(1000 * seconds), rate, int(1000 * WARMUP * seconds))
        loss, _ = eyes.loss(_clip(torch.from_numpy(pool.frames[torch.randint(POOL, (batch,)).numpy()])))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimiser.step()
        eyes.after_step()
        spent += time.process_time() - began
        steps += 1
        if spent >= min(seconds, seconds * len(curve) / LOOKS):
            curve.append(_look(method, seed, eyes, learn, test, spent, steps))
    return curve


@cache
def drawn(seed: int) -> tuple[Pictures, Pictures, Pictures]:
    """The pictures of a seed: to learn from without labels, to fit the probe, to judge it."""
    pool, learn, test = (pictures(n, SIZE, 1000 * seed + part) for part, n in enumerate((POOL, LEARN, TEST), start=1))
    return pool, learn, test


def raw_pixels(seed: int) -> dict[str, float]:
    """What the probe names right when it is shown the pixels themselves."""
    _, learn, test = drawn(seed)
    flat = [torch.from_numpy(shown.frames).flatten(1).float() / 255 for shown in (learn, test)]
    return probe(flat[0], learn, flat[1], test)


def probe(x_learn: Tensor, learn: Pictures, x_test: Tensor, test: Pictures) -> dict[str, float]:
    """Share of the test pictures named right for each label, by least squares on one-hot labels.

    The ridge is chosen on a fifth of the pictures to learn from.
    """
    hot, fit = _one_hot(learn), len(x_learn) * 4 // 5
    chosen, found = {}, {}
    for ridge in RIDGES:
        aside = _right(x_learn[:fit], hot[:fit], x_learn[fit:], hot[fit:], ridge)
        for name, share in aside.items():
            if name not in chosen or share > chosen[name][0]:
                chosen[name] = share, ridge
    for name, (_, ridge) in chosen.items():
        found[name] = _right(x_learn, hot, x_test, _one_hot(test), ridge)[name]
    return found


def table(curves: dict[str, list[Curve]], raw: Curve) -> None:
    """Mean over seeds, and their standard deviation."""
    print("\n| probe on | shape (8) | texture (5) | steps |\n|---|--:|--:|--:|")
    for method, found in curves.items():
        last = [curve[-1] for curve in found]
        print(f"| {method} | {_cells(last)} | {mean(one['steps'] for one in last):,.0f} |")
    first = next(iter(curves.values()))
    print(f"| random weights | {_cells([curve[0] for curve in first])} | 0 |")
    print(f"| raw pixels | {_cells(raw)} | |")
    print(f"| guessing | {' | '.join(f'{1 / n:.1%}' for n in LABELS.values())} | |")


def plot(curves: dict[str, list[Curve]], raw: Curve, file: Path) -> None:
    """Share named right against CPU seconds: mean over seeds, and each seed as a dot."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, label in zip(axes, LABELS, strict=True):
        for (method, found), colour in zip(curves.items(), ("#0072b2", "#d55e00", "#009e73"), strict=False):
            seconds = [mean(look) for look in zip(*([one["seconds"] for one in curve] for curve in found), strict=True)]
            right = list(zip(*([100 * one[label] for one in curve] for curve in found), strict=True))
            axis.plot(seconds, [mean(look) for look in right], color=colour, label=method)
            for at, look in zip(seconds, right, strict=True):
                axis.plot([at] * len(look), look, ".", color=colour, markersize=4)
        axis.axhline(100 * mean(one[label] for one in raw), color="gray", linestyle=":", label="raw pixels")
        axis.set(xlabel="CPU s", ylabel="named right, %", ylim=(0, 100), title=label)
    axes[0].legend()
    figure.savefig(file)


def _look(
    method: str, seed: int, eyes: Encoder, learn: Pictures, test: Pictures, spent: float, steps: int
) -> dict[str, float]:
    eyes.eval()
    found = probe(_features(eyes, learn), learn, _features(eyes, test), test)
    eyes.train()
    told = "  ".join(f"{name} {share:.1%}" for name, share in found.items())
    print(f"{method} seed {seed}  {spent:5.0f} CPU s  step {steps:5}  {told}", flush=True)
    return {"seconds": spent, "steps": steps} | found


@torch.no_grad()
def _features(eyes: Encoder, shown: Pictures) -> Tensor:
    """The mean of each picture's tokens: `n d`."""
    frames = torch.from_numpy(shown.frames)
    return torch.cat([eyes.encode({"pixels": some}).mean(dim=1) for some in frames.split(256)])


def _one_hot(shown: Pictures) -> Tensor:
    """Both labels side by side: `n 13`."""
    return torch.cat([F.one_hot(torch.from_numpy(vars(shown)[name]), n) for name, n in LABELS.items()], 1).double()


def _right(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, ridge: float) -> dict[str, float]:
    """Share of the test rows whose largest value of each label is where it should be."""
    found = linear_probe(x, y, x_test, y_test, ridge)
    named = x_test.double() @ found["weights"] + found["intercept"]
    sizes = list(LABELS.values())
    pairs = zip(LABELS, named.split(sizes, dim=1), y_test.split(sizes, dim=1), strict=True)
    return {name: (a.argmax(1) == b.argmax(1)).double().mean().item() for name, a, b in pairs}


def _clip(frames: Tensor) -> Clip:
    """Pictures `b y x c` as films of one frame."""
    nothing = torch.zeros(len(frames), 0)
    return Clip({"pixels": frames[:, None]}, nothing[..., None], nothing, nothing)


def _kept(folder: Path | None, name: str, make: Callable[[], Any]) -> Any:
    file = folder / f"{name}.json" if folder else None
    if file and file.exists():
        return json.loads(file.read_text())
    found = make()
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    return found


def _cells(found: Curve) -> str:
    """Each label's mean over seeds and standard deviation, in per cent."""
    cells = []
    for name in LABELS:
        shares = [100 * one[name] for one in found]
        cells.append(f"{mean(shares):.1f} ± {stdev(shares) if len(shares) > 1 else 0:.1f} %")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
