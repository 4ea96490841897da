"""Make the moving picture of the README from a demo: `python docs/pictures.py runs/demo/jepa docs/demo.webp`.

Left: the world as the agent walks through it, and in yellow the goal. Right: what it imagined before its first step,
drawn as the most similar pictures that it has seen (a joint-embedding model cannot paint).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from innerworld.envs import make
from innerworld.evaluate.control import play
from innerworld.evaluate.imagery import album, draw
from innerworld.recipes.goals import agent, draw_goals, goal_worlds
from innerworld.recipes.lesson import episodes
from innerworld.recipes.stages import load_learner
from innerworld.recipes.two_rooms import two_rooms
from innerworld.types import each

ZOOM = 4
SHOWN = 4  # goals, one after another


def main(run: Path, out: Path) -> None:
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
    main(Path(sys.argv[1]), Path(sys.argv[2]))
