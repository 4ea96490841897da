"""Mode-2 taught to Mode-1 in two rooms: goals reached and milliseconds per action, of a habit, its search, and both.

Each run is a folder with a `jepa` as `innerworld demo` teaches it, or of another world with goals: then `--control` has
the keys of `innerworld evaluate` that differ from the demo's. Its habit is distilled on goals from episodes that
the model learnt from; then all try the same goals from held-out episodes with the demo's planner. The time of an action
is CPU time of one thread, looking and believing included, of one world alone (`--alone` goals); that of a decision is
what reacting or searching takes of it. What is done already is not done again.

    python bench/habit.py --runs runs/demo0 runs/demo1 runs/demo2 --folder runs/habits
    python bench/habit.py --runs runs/demo0 --folder runs/tried --set rounds=2 hindsight=3 habit.loss=absolute
    python bench/habit.py --runs runs/pusht0 --folder runs/tried --control goals=one_episode goal_offset=25
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from innerworld.agent import Agent, AgentConfig, Searcher, Senses, SensesConfig
from innerworld.agent.actor.habit import Reflex, TwoModes
from innerworld.agent.modules import Actor, Perception
from innerworld.config import override
from innerworld.data import POLICIES
from innerworld.disk import write_atomic
from innerworld.evaluate.control import Tasks, play, play_policy, wilson
from innerworld.plan import Planner
from innerworld.recipes.goals import draw_goals, goal_worlds, planner
from innerworld.recipes.habits_of_mind import DistilConfig, Distilled, distil
from innerworld.recipes.lesson import episodes
from innerworld.recipes.stages import load_learner
from innerworld.recipes.two_rooms import Control, two_rooms
from innerworld.types import Obs
from innerworld.world import WorldModel

PART = 20  # goals that are tried together, and kept as soon as they are done
NOISE = 0.2  # deviation on what the habit does, action units, or it may stand still beside a goal for ever
WARM_ROUNDS = 1  # of the search that begins with what the habit dreams
ACTORS = ("mode 2", "mode 1", "two modes", "mode 2 from mode 1", "random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders that hold a jepa, one a seed")
    parser.add_argument("--folder", type=Path, required=True, help="for the habits and what they reached")
    parser.add_argument("--goals", type=int, default=100)
    parser.add_argument("--alone", type=int, default=5, help="goals by which the time of an action is measured")
    parser.add_argument("--actors", nargs="+", default=list(ACTORS), choices=ACTORS)
    parser.add_argument(
        "--control", nargs="*", default=[], metavar="KEY=VALUE", help="how goals are drawn and searched"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the distillation")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for seed, run in enumerate(flags.runs):
        found.append(Trial(run, flags.folder / run.name, seed, flags).results())
        show(found[-1:], f"{run.name}")
    show(found, f"all {len(found)} runs")


class Trial:
    """One model: its habit, and who reaches how many goals with it."""

    def __init__(self, run: Path, folder: Path, seed: int, flags: argparse.Namespace) -> None:
        self.folder, self.seed, self.flags = folder, seed, flags
        self.model, taught, self.store = load_learner(run / "jepa")
        self.learn, self.held_out = episodes(taught, self.store)
        self.control = override(two_rooms(seed).control, flags.control)
        folder.mkdir(parents=True, exist_ok=True)

    def results(self) -> dict[str, dict[str, list[float]]]:
        taught = self.distilled()
        worlds = goal_worlds(self.store, self.flags.goals)
        tasks = draw_goals(self.store, self.held_out, worlds, self.seed, self.control)
        return {name: self.tried(name, tasks, taught) for name in self.flags.actors}

    def distilled(self) -> Distilled:
        config = override(DistilConfig(seed=self.seed), self.flags.set)
        model, control = self.model, self.control

        def tell(told: dict[str, float]) -> None:
            print("  " + "  ".join(f"{name} {value:.4g}" for name, value in told.items()), flush=True)

        return distil(
            model,
            lambda actor: _mind(model, control, actor, control.agent.execute),
            lambda: _searcher(model, control),
            self.store,
            self.learn,
            control,
            config,
            self.folder / "habit",
            tell,
        )

    def tried(self, name: str, tasks: Tasks, taught: Distilled) -> dict[str, list[float]]:
        """Which goals were reached in how many steps; CPU milliseconds of each action, one world alone."""
        file = self.folder / f"{name.replace(' ', '_')}.json"
        done = (
            json.loads(file.read_text())
            if file.exists()
            else {"success": [], "steps": [], "searched": [], "ms": [], "decide_ms": []}
        )
        for start in range(len(done["success"]), self.flags.goals, PART):
            part = tasks.cut(start, min(start + PART, self.flags.goals))
            worlds = goal_worlds(self.store, len(part.start))
            if name == "random":
                played = play_policy(worlds, part, POLICIES["smooth"](self.store.spec), self.control.budget, start)
            else:
                mind = self.mind(name, taught)
                played = play(worlds, part, mind, self.control.budget, self.seed, first=start)
                done["searched"] += mind.searched
            done["success"] += played.success.tolist()
            done["steps"] += played.steps.tolist()
            write_atomic(file, [json.dumps(done).encode()])
        if name != "random" and not done["ms"]:
            for i in range(self.flags.alone):
                mind = self.mind(name, taught)
                play(goal_worlds(self.store, 1), tasks.cut(i, i + 1), mind, self.control.budget, self.seed, first=i)
                done["ms"] += mind.ms
                done["decide_ms"] += mind.decide_ms
            write_atomic(file, [json.dumps(done).encode()])
        return done

    def mind(self, name: str, taught: Distilled) -> Timed:
        """Whoever reacts looks at every step; whoever searches executes as many steps of a plan as the demo does."""
        model, control, execute = self.model, self.control, self.control.agent.execute
        if name == "mode 2":
            return _mind(model, control, _searcher(model, control), execute)
        if name == "mode 1":
            return _mind(model, control, Reflex(taught.habit, model.spec, noise=NOISE), 1, surprise=False)
        if name == "two modes":
            actor = TwoModes(Reflex(taught.habit, model.spec, noise=NOISE), _searcher(model, control), taught.modes)
            return _mind(model, control, actor, 1)
        always = taught.modes.model_copy(update={"uncertainty": 0.0, "warm": True})
        actor = TwoModes(Reflex(taught.habit, model.spec, execute), _searcher(model, control, WARM_ROUNDS), always)
        return _mind(model, control, actor, execute)


class Timed(Agent):
    """Notes the CPU time of each action, and how many of the decisions were searched."""

    def __init__(
        self, model: WorldModel, planner: Planner, config: AgentConfig, actor: Actor, perception: Perception
    ) -> None:
        super().__init__(model, planner, config, actor=actor, perception=perception)
        self.ms: list[float] = []
        self.decide_ms: list[float] = []
        self.searched: list[float] = []

    def _think(self, began: float) -> None:
        since = time.process_time()
        super()._think(began)
        self.decide_ms.append(1000 * (time.process_time() - since))

    def act(self, obs: Obs) -> Tensor:
        began, before = time.process_time(), self.decision
        action = super().act(obs)
        self.ms.append(1000 * (time.process_time() - began))
        if self.decision is not None and self.decision is not before:
            self.searched += (self.decision.mode == 2).float().tolist()
        return action


def _mind(model: WorldModel, control: Control, actor: Actor, execute: int, surprise: bool = True) -> Timed:
    """A reflex does not ask how surprising a look was, so that its perception does not tell."""
    config = control.agent.model_copy(update={"execute": execute, "strict": True})
    return Timed(model, planner(control), config, actor, Senses(model, SensesConfig(surprise=surprise)))


def _searcher(model: WorldModel, control: Control, rounds: int | None = None) -> Searcher:
    first = planner(control)
    again = first.model_copy(update={"rounds": rounds or control.rounds_again})
    return Searcher(first, model.spec, again)


def show(found: list[dict[str, dict[str, list[float]]]], title: str) -> None:
    columns = (
        "who",
        "reached",
        "95 % interval",
        "of mode 2",
        "ms an action, median",
        "mean",
        "of mode 2",
        "ms a decision",
        "searched",
    )
    print(f"{title}\n| {' | '.join(columns)} |\n|---|{'--:|' * (len(columns) - 1)}")
    pooled = {name: _pooled([each[name] for each in found]) for name in found[0]}
    best = pooled.get("mode 2", {"success": [np.nan], "ms": [np.nan]})
    for name, one in pooled.items():
        n, hits, ms = len(one["success"]), sum(one["success"]), np.array(one["ms"] or [np.nan])
        low, high = wilson(hits, n)
        searched = f"{np.mean(one['searched']):.0%}" if one["searched"] else "-"
        print(
            f"| {name} | {hits / n:.1%} | {low:.1%} to {high:.1%} | {hits / n / np.mean(best['success']):.2f} "
            f"| {np.median(ms):.2f} | {np.mean(ms):.2f} | 1/{np.mean(best['ms'] or [np.nan]) / np.mean(ms):.0f} "
            f"| {np.mean(one['decide_ms'] or [np.nan]):.2f} | {searched} |"
        )


def _pooled(each_run: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    return {key: [value for one in each_run for value in one[key]] for key in each_run[0]}


if __name__ == "__main__":
    main()
