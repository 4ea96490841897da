"""Draw what World Models learnt and what evolution made of it: `python bench/world_models_curve.py RUN OUT.png`.

RUN is the folder that `innerworld train world_models` and `innerworld evolve` have filled, as
docs/families/world_models.md does. Above left, what the VAE and the memory got wrong, each as a share of its first
value; right, the return that each generation was told in its dreams. Below, a held-out episode and what the memory
dreams of the same actions with eyes shut.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerworld.data import Clips
from innerworld.recipes.lesson import episodes
from innerworld.recipes.stages import load_learner
from innerworld.world import at

PARTS = {"pixels": "#0072b2", "mdn": "#d55e00", "reward": "#009e73"}
WATCHED, SHOWN, EVERY = 8, 10, 3  # steps before the eyes shut; pictures, and steps from one to the next


def main(run: Path, out: Path) -> None:
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[3, 2])
    learnt, evolved = above.subplots(1, 2)
    curves(run, learnt)
    generations(run / "evolved-dream", evolved)
    for axis, picture in zip(below.subplots(2, SHOWN).flat, torch.cat(film(run)), strict=True):
        axis.imshow(picture.numpy())
        axis.set_axis_off()
    below.suptitle(f"real, and dreamt of the same actions: after {EVERY}, {2 * EVERY}, ... steps with eyes shut")
    figure.savefig(out, dpi=110)


def curves(run: Path, axis: Any) -> None:
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for name, colour in PARTS.items():
        steps, values = zip(*((row["step"], row[name]) for row in log if name in row), strict=True)
        shares = [value / values[0] for value in values]
        axis.plot(steps, shares, color=colour, label=f"{name} (from {values[0]:.3g})")
    axis.set(xlabel="training step", ylabel="loss, share of its first", yscale="log", ylim=(None, 12))
    axis.set_title("VAE alone, then memory")
    axis.legend(fontsize="small", loc="upper right")


def generations(home: Path, axis: Any) -> None:
    rows = json.loads((home / "generations.json").read_text())["generations"]
    results = json.loads((home / "results.json").read_text())
    fitness = [row["fitness"] for row in rows]
    numbers = range(1, len(fitness) + 1)
    axis.plot(numbers, [sum(each) / len(each) for each in fitness], color="#0072b2", label="mean of the generation")
    axis.plot(numbers, [max(each) for each in fitness], ".", color="#0072b2", markersize=4, label="its best")
    axis.axhline(results["dream"]["return"], color="gray", linestyle=":", label="what was kept, in other dreams")
    axis.set(xlabel="generation", ylabel="return told in the dream", title="Evolution in the dream")
    axis.legend(fontsize="small")


@torch.no_grad()
def film(run: Path) -> tuple[Tensor, Tensor]:
    """Pictures `SHOWN y x c` in [0, 1], real and dreamt, of a clip that was not learnt from."""
    model, taught, store = load_learner(run)
    _, held_out = episodes(taught, store)
    length = WATCHED + SHOWN * EVERY
    clip = Clips(store, held_out, length, 1, 0, taught.frame_skip, model.reads(store.spec)).batch(0)
    seen = at(model.watch(clip.cut(0, WATCHED)), WATCHED)
    dreamt = model.imagine(seen, clip.action[:, None, WATCHED:])
    name = model.spec.images()[0]
    shown = {key: value[0, 0, EVERY - 1 :: EVERY] for key, value in dreamt.items()}
    return clip.obs[name][0, WATCHED + EVERY :: EVERY] / 255, model.decode(shown)[name]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
