"""Which school of latent planning gets there? Two rooms: the same episodes, the same search, the same goals for all.

For each seed: 1,500 episodes are collected, each school is taught from them, and all try the same 100 goals from
held-out episodes, every other one in the other room, beside the oracle (the true dynamics) and random actions.

    python bench/two_rooms_schools.py --folder runs/schools --seeds 0 1 2
    python bench/two_rooms_schools.py --folder runs/ablation --seeds 0 1 2 --schools eb_jepa --ablate

`--ablate` teaches eb_jepa's loss again without one of its terms at a time. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from innerworld.data import POLICIES
from innerworld.evaluate.control import play, play_policy, summary, wilson
from innerworld.evaluate.judge import judge
from innerworld.recipes.goals import agent, draw_goals, goal_worlds, oracle
from innerworld.recipes.lesson import episodes, teach
from innerworld.recipes.stages import gather, lesson
from innerworld.recipes.two_rooms import Run, School, Upper, two_rooms
from innerworld.training import TrainConfig
from innerworld.world import WorldModel

FLOORS = ("oracle", "random")  # the ceiling and the floor, beside the schools
EB_JEPA = {"std": 16.0, "cov": 8.0, "smooth": 12.0, "inverse": 1.0, "spread": "all", "rollout": 8, "single": 0.0}
SMALL_PLDM = {"sigreg": 0.0, "predictor": "gru", "latent": 128, "norm": True, "inverse_depth": 2}
ABLATED = {
    "without inverse": {"inverse": 0.0},
    "without std": {"std": 0.0},
    "without cov": {"cov": 0.0},
    "without smooth": {"smooth": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the runs, one in it for each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--schools", nargs="+", default=["lewm", "pldm", "eb_jepa", "hjepa"])
    parser.add_argument("--steps", type=int, help="of training, instead of each school's own")
    parser.add_argument("--goals", type=int, default=100)
    parser.add_argument("--ablate", action="store_true", help="eb_jepa's loss without each of its terms, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for seed in args.seeds:
        run = plan(seed, args.schools, args.ablate, args.steps, args.goals)
        found.append({name: _once(run, name, args.folder / str(seed)) for name in (*run.schools, *FLOORS)})
        show(found[-1:], f"seed {seed}")
    show(found, f"all {len(found)} seeds")


def _once(run: Run, name: str, folder: Path) -> dict[str, float]:
    """Teach a school, or take the oracle or random actions, and try the goals."""
    file = folder / f"{name}.json"
    if file.exists():
        return json.loads(file.read_text())
    store = gather(run, folder, quiet=True)
    some = lesson(run, next(iter(run.schools)), folder)
    learn, held_out = episodes(some, store)
    worlds = goal_worlds(store, run.control.episodes)
    tasks = draw_goals(store, held_out, worlds, run.seed, run.control)
    found: dict[str, float] = {}
    if name == "random":
        played = play_policy(worlds, tasks, POLICIES["smooth"](store.spec), run.control.budget, run.seed)
    else:
        model = oracle(worlds, store.spec) if name == "oracle" else None
        if model is None:
            began = time.process_time()
            model = teach(lesson(run, name, folder), folder / name, quiet=True, resume=True)
            assert isinstance(model, WorldModel)
            found = {"train_cpu_s": time.process_time() - began}
            found |= {"probe_r2": judge(model, store, learn, held_out, 1, run.seed).metrics["probe_r2"]}
        mind = agent(model, run.control)
        played = play(worlds, tasks, mind, run.control.budget, run.seed)
    found |= summary(played, tasks.far)
    file.write_text(json.dumps(found))
    print(f"  seed {run.seed}  {name:18} {found['success_rate']:.0%}", flush=True)
    return found


def plan(seed: int, schools: list[str], ablate: bool, steps: int | None, goals: int) -> Run:
    """The demo's run, with other schools in it."""
    plain = two_rooms(seed)
    train = plain.schools["jepa"].train
    known = {
        "lewm": School(family="jepa", length=12, train=train),
        "pldm": _pldm(
            {"std": 3.98, "cov": 6.92, "std_time": 0.245, "smooth": 0.742, "inverse": 1.07, "spread": "first"}, train
        ),
        "eb_jepa": _pldm({}, train),
        "hjepa": School(length=16, train=train),
    }
    if ablate:
        known |= {name: _pldm(change, train) for name, change in ABLATED.items()}
        schools = [*schools, *ABLATED]
    chosen = {name.replace(" ", "_"): known[name] for name in schools}
    if steps:
        for name, school in chosen.items():
            chosen[name] = school.model_copy(update={"train": school.train.model_copy(update={"steps": steps})})
    upper = Upper(planner={"horizon": 6, "samples": 128, "rounds": 4, "elites": 16, "init_std": 0.7})
    control = plain.control.model_copy(update={"episodes": goals, "upper": upper})
    return plain.model_copy(update={"schools": chosen, "control": control})


def _pldm(change: dict[str, Any], train: TrainConfig) -> School:
    return School(family="jepa", model=SMALL_PLDM | EB_JEPA | change, length=16, train=train)


def show(found: list[dict[str, dict[str, float]]], title: str) -> None:
    print(f"\n{title}\n| who | goals reached | each seed | in the other room | probe R² | CPU s a goal |")
    print("|---|--:|--:|--:|--:|--:|")
    for name in found[0]:
        rates = [one[name]["success_rate"] for one in found]
        n = sum(one[name]["episodes"] for one in found)
        low, high = wilson(round(sum(r * one[name]["episodes"] for r, one in zip(rates, found, strict=True))), int(n))
        far = sum(one[name].get("success_rate_far", float("nan")) for one in found) / len(found)
        cells = [f"{sum(rates) / len(rates):.1%} ({low:.1%} to {high:.1%})", ", ".join(f"{rate:.0%}" for rate in rates)]
        r2 = [one[name]["probe_r2"] for one in found if "probe_r2" in one[name]]
        cells += [
            f"{far:.1%}",
            f"{sum(r2) / len(r2):.3f}" if r2 else "",
            f"{sum(one[name]['cpu_s_per_episode'] for one in found) / len(found):.2f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
