"""Do drawn frames have the edges that were asked for? Of a taught `video` run with control.kind=edges, held out.

    innerworld train video --preset transfer --data data/paddle --out runs/transfer --batch 8 --length 15 \\
        model.control.trunk=runs/trunk model.control.train_trunk=false
    python bench/control_fidelity.py runs/transfer

Five frames of a clip are seen, the next ten drawn, chance included, with its own actions: under its own edges, under
those of another clip, and without. F1 and correlation compare the edges of what was drawn with those asked for (where
none were, with its own), F1 pixel by pixel at the model's threshold, correlation of contrasts; both over all frames of
a clip. PSNR is to the true frames. Beside them: the codec's drawing of the true frames, the last frame repeated, and
the true frames of another clip. Means over clips, and two standard errors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Generator, Tensor

from innerworld.data import Clips
from innerworld.evaluate.frames import look
from innerworld.evaluate.pictures import psnr
from innerworld.models import Video
from innerworld.nn.edges import edges
from innerworld.nn.sensors import to_uint8
from innerworld.recipes.lesson import episodes
from innerworld.recipes.stages import load_learner

SEEN = 4  # steps that are looked at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a trained video model with control.kind=edges")
    parser.add_argument("--frames", type=int, default=10, help="that are drawn")
    parser.add_argument("--clips", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, lesson, store = load_learner(arguments.run)
    if not isinstance(model, Video) or model.settings.control.kind != "edges":
        raise SystemExit(f"{arguments.run} holds no video model with control.kind=edges")
    _, held_out = episodes(lesson, store)
    sensor, length = model.settings.control.sensor or model.codec.images[0], SEEN + arguments.frames
    clip = Clips(store, held_out, length, arguments.clips, 0, lesson.frame_skip, model.reads(store.spec)).batch(0)
    true, last = clip.obs[sensor][:, SEEN + 1 :], clip.obs[sensor][:, SEEN]
    own = model.maps(clip.obs)[:, SEEN + 1 :]
    other = own.roll(1, 0)
    scene = look(model, clip, sensor, SEEN)

    @torch.no_grad()
    def drawn(maps: Tensor, weight: float = 1.0) -> Tensor:
        rng = Generator().manual_seed(0)
        states = model.transfer(scene.belief, clip.action[:, SEEN:], maps, rng, weight)
        shown = model.decode({name: value.flatten(0, 1) for name, value in states.items()})[sensor]
        return to_uint8(shown).unflatten(0, true.shape[:2])

    under_other = drawn(other)
    rows = {
        "its own edges asked for": (drawn(own), own),
        "another clip's asked for": (under_other, other),
        "the same, beside its own": (under_other, own),
        "no control": (drawn(own, 0.0), own),
        "the codec's drawing of the true frames": (scene.redrawn[:, SEEN + 1 :], own),
        "last frame repeated": (last[:, None].expand_as(true), own),
        "true frames of another clip": (true.roll(1, 0), own),
    }
    print("|  | F1 | correlation | PSNR, dB |\n|---|--:|--:|--:|")
    for name, (shown, wanted) in rows.items():
        contrast, truth = edges(shown), edges(true if wanted is own else true.roll(1, 0))
        found = edges(shown, model.settings.control.threshold)
        numbers = (f1(found, wanted), correlation(contrast, truth), psnr(shown, true).mean(dim=1))
        print(f"| {name} | " + " | ".join(told(value, i == 2) for i, value in enumerate(numbers)) + " |", flush=True)


def f1(found: Tensor, wanted: Tensor) -> Tensor:
    """Of edges `b ...` that are 0 or 1, each `b`."""
    found, wanted = (of.flatten(1) for of in (found, wanted))
    return 2 * (found * wanted).sum(dim=1) / (found.sum(dim=1) + wanted.sum(dim=1)).clamp_min(1)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, over all but the first axis: `b`."""
    a, b = (of.flatten(1) - of.flatten(1).mean(dim=1, keepdim=True) for of in (a, b))
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-9)


def told(values: Tensor, decibels: bool) -> str:
    error = 2 * float(values.std()) / len(values) ** 0.5
    return f"{float(values.mean()):.1f} ± {error:.1f}" if decibels else f"{float(values.mean()):.2f} ± {error:.2f}"


if __name__ == "__main__":
    main()
