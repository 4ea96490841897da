"""Do two levels reach goals that one does not? A maze, goals at least three flat plans away, equal compute.

One hierarchical model is taught in each seed; the flat agents plan with its lower level alone, and so do not differ in
anything but the planning. "equal compute" is candidates × steps × rounds, of either level (both predictors have the
same size), for every plan; iCEM shrinks its rounds, and what is then really imagined is printed, as are CPU seconds.
The oracle plans flat with the true dynamics.

    python bench/far_goals.py --folder runs/far --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerworld.agent import Agent, AgentConfig, Director, Levels
from innerworld.data import POLICIES, Store
from innerworld.evaluate.control import Tasks, draw_tasks, play, play_policy, summary, wilson
from innerworld.models import HJEPA
from innerworld.plan import ICEM, Planner, cold, generators
from innerworld.recipes.goals import oracle, worlds_of
from innerworld.recipes.lesson import episodes, teach
from innerworld.recipes.stages import gather, lesson
from innerworld.recipes.two_rooms import Run, School
from innerworld.training import TrainConfig

FLAT, LONG = 16, 80  # steps of a flat plan, and of one that could reach every goal
MACRO, AHEAD = 8, 16  # steps of a macro-action, macro-actions of an upper plan
LOWER = ICEM(horizon=MACRO, samples=128, rounds=4, elites=16, init_std=1.0, min_std=0.1, noise_beta=2.0, momentum=0.0)
UPPER = ICEM(
    horizon=AHEAD,
    samples=512,
    populations=4,
    rounds=6,
    elites=32,
    init_std=0.7,
    min_std=0.05,
    noise_beta=1.0,
    momentum=0.0,
)
IMAGINED = LOWER.horizon * LOWER.samples * LOWER.rounds + UPPER.horizon * UPPER.samples * UPPER.rounds
EXECUTE, BUDGET = 4, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the runs, one in it for each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--env", default="maze_spiral")
    parser.add_argument("--steps", type=int, default=800, help="of training")
    parser.add_argument("--goals", type=int, default=20)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the model, as a preset's override"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    both = imagined(LOWER) + imagined(UPPER)
    print(f"imagined steps of a plan: two levels {both}, flat {imagined(flat(FLAT))} and {imagined(flat(LONG))}")
    found = []
    for seed in args.seeds:
        file = args.folder / str(seed) / "far_goals.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(once(seed, args)))
        found.append(json.loads(file.read_text()))
        show(found[-1:], f"seed {seed}")
    show(found, f"all {len(found)} seeds")


def once(seed: int, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    folder = args.folder / str(seed)
    run = plan(seed, args)
    store = gather(run, folder, quiet=True)
    model = teach(lesson(run, "hjepa", folder), folder / "hjepa", quiet=True, resume=True)
    assert isinstance(model, HJEPA)
    worlds = worlds_of(args.env, args.goals, run.size)
    held_out = episodes(lesson(run, "hjepa", folder), store)[1]
    tasks = draw(store, held_out, worlds, seed)
    config = AgentConfig(execute=EXECUTE, strict=True)
    minds: dict[str, Agent] = {
        "two levels": Agent(model, LOWER, config, configurator=Director(subgoals=Levels(UPPER))),
        f"flat, {FLAT} steps": Agent(model, flat(FLAT), config),
        f"flat, {LONG} steps": Agent(model, flat(LONG), config),
    }
    truth = oracle(worlds, store.spec)
    assert truth is not None
    minds[f"oracle, flat, {LONG} steps"] = Agent(truth, flat(LONG), config)
    far = np.ones(args.goals, bool)
    results = {}
    for name, mind in minds.items():
        results[name] = summary(play(worlds, tasks, mind, BUDGET, seed), far)
        print(
            f"  {name:28} {results[name]['success_rate']:.0%}  {results[name]['cpu_s_per_episode']:.1f} CPU s a goal",
            flush=True,
        )
    results["random actions"] = summary(play_policy(worlds, tasks, POLICIES["smooth"](store.spec), BUDGET, seed), far)
    return results


def plan(seed: int, args: argparse.Namespace) -> Run:
    train = TrainConfig(
        steps=args.steps, lr=1e-3, weight_decay=1e-4, warmup=100, final_lr_fraction=0.05, clip_grad=1.0,
        check_every=500, save_every=500, keep=1, device="cpu", seed=seed,
    )  # fmt: skip
    words: dict[str, Any] = dict(word.split("=", 1) for word in args.set)
    school = School(
        preset="small",
        model={key: json.loads(value) for key, value in words.items()},
        batch=32,
        length=4 * MACRO,
        train=train,
    )
    return Run(env=args.env, episodes=1500, seed=seed, schools={"hjepa": school})


def draw(store: Store, held_out: np.ndarray, worlds: Any, seed: int) -> Tasks:
    """Goals whose way along the corridors is three flat plans or more, at full speed on one axis."""
    least = 3 * FLAT * worlds.config.speed  # cells

    def far(start: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return worlds.path(start, goal) >= least

    drawn = draw_tasks(store, held_out, 2 * worlds.num_envs, worlds, seed, far)  # every other one is far
    start_obs, goal_obs = (
        {name: value[::2] for name, value in seen.items()} for seen in (drawn.start_obs, drawn.goal_obs)
    )
    assert drawn.far[::2].all()
    return Tasks(drawn.start[::2], drawn.goal[::2], start_obs, goal_obs, drawn.far[::2])


def flat(horizon: int) -> Planner:
    """As many imagined steps as both levels together."""
    rounds, populations = 8, 2
    samples = IMAGINED // (horizon * rounds * populations) * populations
    return LOWER.model_copy(
        update={
            "horizon": horizon,
            "samples": samples,
            "rounds": rounds,
            "populations": populations,
            "elites": max(1, samples // populations // 8) * populations,
        }
    )


def imagined(planner: Planner) -> int:
    """Steps that a search of it really imagines."""
    plan = planner(lambda actions: actions.square().mean(dim=(2, 3)), cold(1, planner.horizon, 2), generators(0, 1))
    return plan.evaluations * planner.horizon


def show(found: list[dict[str, dict[str, float]]], title: str) -> None:
    print(f"\n{title}\n| who | goals reached | each seed | CPU s a goal |\n|---|--:|--:|--:|")
    for name in found[0]:
        n = int(sum(one[name]["episodes"] for one in found))
        rates = [one[name]["success_rate"] for one in found]
        low, high = wilson(round(sum(one[name]["success_rate"] * one[name]["episodes"] for one in found)), n)
        cpu = sum(one[name]["cpu_s_per_episode"] for one in found) / len(found)
        each = ", ".join(f"{rate:.0%}" for rate in rates)
        print(f"| {name} | {sum(rates) / len(rates):.1%} ({low:.1%} to {high:.1%}) | {each} | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    main()
