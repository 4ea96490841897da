"""One two-rooms episode planned with a taught model: CPU seconds and success, two searches side by side, and a peer.

    python bench/plan_episode.py runs/demo/jepa [--episodes 50] [--peer CHECKOUT_OF_EB_JEPA]

The first search is CEM as LeWorldModel and DINO-WM use it, 300 candidates in each of 30 rounds from a cold start at
every plan; the second is the demo's iCEM with a warm start. Both get the demo's horizon, cost and goals. One thread.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from peer_eb_jepa import planning
from torch import Tensor

from innerworld.agent import Agent, Searcher
from innerworld.evaluate.control import play, summary
from innerworld.plan import CEM
from innerworld.recipes.goals import agent, draw_goals, goal_worlds
from innerworld.recipes.lesson import episodes
from innerworld.recipes.stages import load_learner
from innerworld.recipes.two_rooms import two_rooms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", type=Path, help="a checkout of facebookresearch/eb_jepa")
    flags = parser.parse_args()
    torch.set_num_threads(1)

    model, taught, store = load_learner(flags.run)
    worlds = goal_worlds(store, flags.episodes)
    tasks = draw_goals(store, episodes(taught, store)[1], worlds, flags.seed)
    control = two_rooms().control
    plain = CEM(horizon=control.planner["horizon"], samples=300, rounds=30, elites=30, init_std=1.0, min_std=0.0)
    minds = {
        "CEM 300 x 30, cold": Agent(model, plain, control.agent, actor=Cold(plain, model.spec)),
        "iCEM of the demo, warm": agent(model, control),
    }
    spent = {}
    for name, mind in minds.items():
        found = summary(play(worlds, tasks, mind, control.budget, flags.seed), tasks.far)
        spent[name] = found["cpu_s_per_episode"]
        print(
            f"{name:24} success {found['success_rate']:.0%} [{found['success_low']:.0%}, {found['success_high']:.0%}]"
            f"  {spent[name]:8.2f} CPU s per episode",
            flush=True,
        )
    slow, fast = spent.values()
    print(f"ratio of the two searches: {slow / fast:.1f}")
    if flags.peer:
        peer = planning(flags.peer, "mppi").episode_s
        print(f"{'eb_jepa, its MPPI':24} {'':21} {peer:8.0f} CPU s per episode\nratio to ours: {peer / fast:.0f}")


class Cold(Searcher):
    """Begins every search with nothing, at the middle of the actions."""

    def done(self, steps: int, decided: Tensor) -> None:
        super().done(steps, torch.zeros_like(decided))


if __name__ == "__main__":
    main()
