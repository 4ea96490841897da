"""Make the pictures of the documentation out of runs: how agents walk, and how models learnt.

    python docs/pictures.py runs/demo/jepa docs/demo.webp
    python docs/pictures.py runs/far/0/hjepa runs/far/1/hjepa docs/hjepa-curve.svg --parts predict above
    python docs/pictures.py runs/0/cartpole runs/1/cartpole docs/dreamer-curve.svg --parts eval_return --linear
    python docs/pictures.py runs/v3/* runs/cpu/* docs/dreamer-pixels.svg --parts eval_return --linear --by-folder

A film (.webp), of one run. Left: the world as the agent walks through it, and in yellow the goal. Right: what it
imagined before its first step, drawn as the most similar pictures that it has seen (a joint-embedding model cannot
paint). Curves (.svg), of one run or several: numbers of the log, such as parts of the loss, each beside the others,
against training steps; with `--by-folder` runs of one folder share a colour and its name. Curves need matplotlib.
"""

from __future__ import annotations

import argparse
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from innerworld.envs import make
from innerworld.evaluate.control import play
from innerworld.evaluate.imagery import album, draw
from innerworld.recipes.curves import read_log
from innerworld.recipes.goals import agent, draw_goals, goal_worlds
from innerworld.recipes.lesson import episodes
from innerworld.recipes.stages import load_learner
from innerworld.recipes.two_rooms import two_rooms
from innerworld.types import each

ZOOM = 4
SHOWN = 4  # goals, one after another


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("out", type=Path, help="the picture, .webp or .svg")
    parser.add_argument("--parts", nargs="+", default=["loss"], help="of the loss, as the log names them")
    parser.add_argument("--linear", action="store_true", help="curves from 0, not of their logarithm")
    parser.add_argument("--by-folder", action="store_true", help="curves: one colour for the runs of a folder")
    args = parser.parse_args()
    if args.out.suffix == ".svg":
        curves(args.runs, args.out, args.parts, args.linear, args.by_folder)
    else:
        film(args.runs[0], args.out)


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def curves(runs: list[Path], out: Path, parts: list[str], linear: bool, by_folder: bool) -> None:
    """One panel for each part; one line for each run, named as the folder that it is in (its seed, or its kind)."""
    from matplotlib import pyplot, ticker

    # Letters stay letters, of one font, and the same runs make the same file, a small one.
    pyplot.rcParams |= {"svg.fonttype": "none", "font.family": "DejaVu Sans", "svg.hashsalt": "innerworld"}
    width = max(4.0, 2.7 * len(parts))
    figure, axes = pyplot.subplots(1, len(parts), figsize=(width, 2.6), layout="constrained", squeeze=False)
    for axis, part in zip(axes[0], parts, strict=True):
        named = dict(zip(dict.fromkeys(run.parent.name for run in runs), cycle(COLOURS), strict=False))
        for run in runs:
            rows = [(row["step"], row[part]) for row in read_log(run) if part in row]
            name = run.parent.name if by_folder else f"seed {run.parent.name}"
            told = axis.get_legend_handles_labels()[1]  # a name once, though several runs may have it
            colour = named[run.parent.name]
            axis.plot(*zip(*rows, strict=True), color=colour, linewidth=1, label=None if name in told else name)
        axis.set(title=part, xlabel="training step")
        if linear:
            axis.set_ylim(bottom=0)
            continue
        axis.set_yscale("log")
        axis.minorticks_off()
        low, high = axis.get_ylim()
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < 500 * low else (1,)))
        axis.yaxis.set_major_formatter("{x:g}")
    if len(runs) > 1:
        axes[0, 0].legend()
    figure.savefig(out, metadata={"Date": None})
    pyplot.close(figure)


def film(run: Path, out: Path) -> None:
    model, taught, store = load_learner(run)
    control = two_rooms().control
    learn, held_out = episodes(taught, store)
    worlds = goal_worlds(store, 2 * SHOWN)
    tasks = draw_goals(store, held_out, worlds, seed=3)
    played = play(worlds, tasks, agent(model, control), control.budget, seed=3)
    imagined = first_plans(model, control, tasks)
    memory = album(model, store, learn[:300])
    frames: list[Image.Image] = []
    for k in np.flatnonzero(tasks.far)[:SHOWN]:
        real = pictures(played.path[k, : played.steps[k] + 1])
        mind = draw(model, each(lambda value, k=k: value[k, 0], imagined), memory)
        mind = np.concatenate([real[:1], mind])
        for t in range(len(real)):
            frames.append(panel(real[t], mind[min(t, len(mind) - 1)], tasks.goal[k]))
        frames += [frames[-1]] * 6
    frames[0].save(out, save_all=True, append_images=frames[1:], duration=140, loop=0, quality=80, method=6)


@torch.no_grad()
def first_plans(model, control, tasks) -> dict[str, torch.Tensor]:
    mind = agent(model, control)
    names = list(model.spec.obs)
    mind.begin({n: tasks.start_obs[n] for n in names}, {n: tasks.goal_obs[n] for n in names}, 3)
    mind.act({n: tasks.start_obs[n] for n in names})
    assert mind.plan is not None
    return model.imagine(mind.state, mind.plan.actions[:, None])


def pictures(path: np.ndarray) -> np.ndarray:
    """Draw the world with the agent at each place of its way: `t 2` → `t y x 3`."""
    obs, _ = make("two_rooms", len(path)).reset(options={"state": path})
    return obs["pixels"]


def panel(real: np.ndarray, mind: np.ndarray, goal: np.ndarray) -> Image.Image:
    left, right = (
        Image.fromarray(image).resize((64 * ZOOM, 64 * ZOOM), Image.Resampling.NEAREST) for image in (real, mind)
    )
    for image in (left, right):
        x, y = goal * ZOOM
        ImageDraw.Draw(image).ellipse((x - 10, y - 10, x + 10, y + 10), outline=(255, 215, 80), width=3)
    whole = Image.new("RGB", (128 * ZOOM + 8, 64 * ZOOM), (255, 255, 255))
    whole.paste(left, (0, 0))
    whole.paste(right, (64 * ZOOM + 8, 0))
    return whole


if __name__ == "__main__":
    main()
