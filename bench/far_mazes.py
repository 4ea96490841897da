"""Goals far beyond what a plan can see, in a maze: a graph of remembered places against flat plans of equal compute.

One jepa a seed; all agents plan with it and differ in nothing but the planning. `Waypoints` makes a graph of frames of
the training episodes and pursues the farthest place on the shortest way that is few steps away; its edges are what was
done in these episodes ("recorded"), or what the model imagines ("imagined"). "equal" flat
agents begin every plan with as many imagined steps as that plan has; "x 8" with eight times as many. CPU
seconds are of everything, with the graph, which is made once. The oracle's energy is the distance as the
crow flies, which misleads in a maze: with a graph of places it needs no better one.

    python bench/far_mazes.py --folder runs/mazes --seeds 0 1
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from far_goals import draw, imagined, show

from innerworld.agent import Agent, AgentConfig, Director
from innerworld.agent.configurator.waypoints import Waypoints, WaypointsConfig
from innerworld.data import POLICIES, Store
from innerworld.evaluate.control import play, play_policy, summary
from innerworld.plan import ICEM, Planner
from innerworld.recipes.goals import oracle, worlds_of
from innerworld.recipes.lesson import episodes, teach
from innerworld.recipes.stages import gather, lesson
from innerworld.recipes.two_rooms import Run, School
from innerworld.training import TrainConfig
from innerworld.types import Obs
from innerworld.world import WorldModel

NEAR = ICEM(horizon=8, samples=128, rounds=4, elites=16, init_std=1.0, min_std=0.1, noise_beta=2.0, momentum=0.0)
LONG, MORE = 80, 8  # steps of a plan that could reach every goal; times the compute
EXECUTE, BUDGET = 4, 200
PLACES, WAYS = 1000, 300  # frames that the graph's are chosen from; episodes that its edges are taken from
AHEAD = 3  # steps to what is pursued: as recorded between places, which are fewer than those that it takes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the runs, one in it for each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--env", default="maze_spiral")
    parser.add_argument("--steps", type=int, default=800, help="of training")
    parser.add_argument("--episodes", type=int, default=1500, help="to learn from")
    parser.add_argument("--goals", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    plans = {"waypoints": NEAR, "equal": flat(LONG, 1), f"x {MORE}": flat(LONG, MORE)}
    print("imagined steps of a plan:", ", ".join(f"{name} {imagined(plan)}" for name, plan in plans.items()))
    found = []
    for seed in args.seeds:
        file = args.folder / str(seed) / "far_mazes.json"
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
    taught = lesson(run, "jepa", folder)
    model = teach(taught, folder / "jepa", quiet=True, resume=True)
    assert isinstance(model, WorldModel)
    worlds = worlds_of(args.env, args.goals, run.size)
    learn, held_out = episodes(taught, store)
    tasks = draw(store, held_out, worlds, seed)
    truth = oracle(worlds, store.spec)
    assert truth is not None
    results = {}
    ways = [store.episode(int(i)).obs for i in learn[:WAYS]]
    recorded = [{name: value[0] for name, value in way.items()} for way in ways]
    for name, mind in minds(model, truth, places(store, learn, seed), recorded).items():
        began = time.process_time()
        results[name] = summary(play(worlds, tasks, mind, BUDGET, seed), np.ones(args.goals, bool))
        results[name]["cpu_s_per_episode"] = (time.process_time() - began) / args.goals  # with the graph
        rate, cpu = results[name]["success_rate"], results[name]["cpu_s_per_episode"]
        print(f"  {name:46} {rate:.0%}  {cpu:.1f} CPU s a goal", flush=True)
    far = np.ones(args.goals, bool)
    results["random actions"] = summary(play_policy(worlds, tasks, POLICIES["smooth"](store.spec), BUDGET, seed), far)
    return results


def minds(model: WorldModel, truth: WorldModel, known: Obs, ways: Sequence[Obs] = ()) -> dict[str, Agent]:
    config = AgentConfig(execute=EXECUTE)
    near = AgentConfig(
        execute=EXECUTE, power=0.5
    )  # plain distance: what is pursued lies on the way, no detour is needed
    found: dict[str, Agent] = {}
    for who, world in (("", model), ("oracle, ", truth)):
        seen, *done = ({name: some[name] for name in world.spec.obs} for some in (known, *ways))
        graphs = {"recorded": Waypoints(seen, WaypointsConfig(steps=4, ahead=AHEAD), done), "imagined": Waypoints(seen)}
        found |= {
            f"{who}waypoints, {edges}, then {NEAR.horizon} steps": Agent(
                world, NEAR, near, configurator=Director(subgoals=graph)
            )
            for edges, graph in graphs.items()
            if edges == "imagined" or done
        }
        found |= {
            f"{who}flat, {NEAR.horizon} steps": Agent(world, NEAR, config),
            f"{who}flat, {LONG} steps, equal": Agent(world, flat(LONG, 1), config),
            f"{who}flat, {LONG} steps, x {MORE}": Agent(world, flat(LONG, MORE), config),
        }
    return found


def places(store: Store, learn: np.ndarray, seed: int) -> Obs:
    """Frames of the training episodes, any of them."""
    rng = np.random.default_rng([seed, 30])
    chosen = rng.choice(learn, PLACES)
    frames = []
    for i in chosen:
        clip = store.episode(int(i))
        frames.append(clip.at(int(rng.integers(clip.length + 1))))
    return {name: torch.cat([frame[name] for frame in frames]) for name in frames[0]}


def plan(seed: int, args: argparse.Namespace) -> Run:
    train = TrainConfig(
        steps=args.steps, lr=1e-3, weight_decay=1e-4, warmup=100, final_lr_fraction=0.05, clip_grad=1.0,
        check_every=500, save_every=500, keep=1, device="cpu", seed=seed,
    )  # fmt: skip
    school = School(preset="small", batch=32, length=32, train=train)
    return Run(env=args.env, episodes=args.episodes, seed=seed, schools={"jepa": school})


def flat(horizon: int, times: int) -> Planner:
    """So many times the imagined steps of a plan towards a place."""
    rounds, populations = 8, 2
    budget = times * NEAR.horizon * NEAR.samples * NEAR.rounds
    samples = max(4, budget // (horizon * rounds * populations)) * populations
    elites = max(1, samples // populations // 8) * populations
    search = {"horizon": horizon, "samples": samples, "rounds": rounds, "populations": populations, "elites": elites}
    return NEAR.model_copy(update=search)


if __name__ == "__main__":
    main()
