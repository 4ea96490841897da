"""What a goal-reaching protocol is worth on a store: how often chance succeeds, and how often the demonstrations do.

    python bench/goal_floors.py data/pusht [--offset 25] [--budget 50] [--episodes 50] [--held-out 0.25]

Start and goal are `offset` steps apart in one held-out episode. No model is needed: this comes before any.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from innerworld.data import POLICIES, Store, split
from innerworld.evaluate.control import Played, Tasks, play_policy, play_shown, summary
from innerworld.recipes.goals import draw_goals, goal_worlds
from innerworld.recipes.two_rooms import Control


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--offset", type=int, default=25)
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--held-out", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()

    store = Store.open(flags.data)
    _, held_out = split(store, flags.held_out, flags.seed)
    worlds = goal_worlds(store, flags.episodes)
    control = Control(episodes=flags.episodes, budget=flags.budget, goals="one_episode", goal_offset=flags.offset)
    tasks = draw_goals(store, held_out, worlds, flags.seed, control)
    moved = np.linalg.norm(tasks.goal - tasks.start, axis=1)
    print(f"{len(held_out)} held-out episodes; start and goal {np.median(moved):.1f} apart in the state (median)")
    show("replay of the demonstrations", play_shown(worlds, tasks, flags.budget), tasks)
    for name, policy in POLICIES.items():
        show(f"random, {name}", play_policy(worlds, tasks, policy(store.spec), flags.budget, flags.seed), tasks)


def show(name: str, played: Played, tasks: Tasks) -> None:
    found = summary(played, tasks.far)
    interval = f"[{found['success_low']:.0%}, {found['success_high']:.0%}]"
    print(f"{name:30} {found['success_rate']:.0%} {interval}, steps {found['steps_mean']:.1f}", flush=True)


if __name__ == "__main__":
    main()
