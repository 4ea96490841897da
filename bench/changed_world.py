"""Two rooms that change in mid-run: goals reached round by round, frozen and learning on the job, beside the oracle.

Each run is a folder with a `jepa` as `innerworld demo` teaches it. Its agent plays rounds of goals, half of them in the
other room; then the world changes, and it goes on. At the end it plays in the old world once more: what was forgotten?
What is done already is not done again, round by round.

    python bench/changed_world.py --runs runs/demo0 runs/demo1 runs/demo2 --folder runs/changed
    python bench/changed_world.py --runs runs/demo0 --folder runs/tried --changes swapped --set every=10 lr=0.001
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerworld import saved
from innerworld.agent import Agent
from innerworld.agent.learning import OnTheJobConfig
from innerworld.config import override
from innerworld.disk import write_atomic
from innerworld.envs.two_rooms import Dynamics, TwoRoomsConfig, TwoRoomsVector
from innerworld.evaluate.control import Tasks, play, wilson
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.recipes.goals import planner
from innerworld.recipes.on_the_job import on_the_job
from innerworld.recipes.stages import load_learner
from innerworld.recipes.two_rooms import two_rooms
from innerworld.types import Obs, each
from innerworld.world import WorldModel

BEFORE, AFTER = 2, 6  # rounds in the world that the model was taught in, and in the changed one
ORACLE = (0, BEFORE)  # rounds that the oracle plays: it is the same in all rounds of a world
EPISODES = 20  # of a round, all at once
POOL = 40  # worlds from which the tasks of a round are drawn, for each of them
PLANNER = {"horizon": 20, "samples": 96, "rounds": 3}
SETTINGS: dict[str, Any] = {"every": 25, "length": 4, "lr": 1e-3, "only": ("predictor",), "sights": 3000}
Rounds = list[dict[str, Any] | None]
LEARNERS: dict[str, list[str] | None] = {
    "frozen": None,
    "on the job": [],
    "without old experience": ["old=0", "ruin=null"],
}


class Turned(TwoRoomsVector):
    """Actions mean something else: their two axes are swapped. Nothing that is seen tells."""

    def dynamics(self) -> Dynamics:
        return TurnedDynamics(self.config.size, self.config.speed)


class TurnedDynamics(Dynamics):
    def __call__(self, obs: Obs, action: Tensor) -> Obs:
        return super().__call__(obs, action.flip(-1))


CHANGES: dict[str, Callable[[int], TwoRoomsVector]] = {
    "door": lambda n: TwoRoomsVector(n, TwoRoomsConfig(door=44.0)),  # plain: 20; seen in the picture
    "slow": lambda n: TwoRoomsVector(n, TwoRoomsConfig(speed=2.0)),  # plain: 4 pixels a step; as with twice the mass
    "swapped": Turned,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders that hold a jepa, one a seed")
    parser.add_argument("--folder", type=Path, required=True, help="for what is learnt and reached, round by round")
    parser.add_argument("--changes", nargs="+", default=["door", "swapped"], choices=list(CHANGES))
    parser.add_argument("--learners", nargs="+", default=[*LEARNERS, "oracle"], choices=[*LEARNERS, "oracle"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the learning on the job")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    for change in flags.changes:
        found: dict[str, list[Rounds]] = {name: [] for name in flags.learners}
        for seed, run in enumerate(flags.runs):
            for name in flags.learners:
                folder = flags.folder / run.name / change / name.replace(" ", "_")
                found[name].append(Trial(run, folder, seed, change, name, flags.set).results())
        show(found, f"{change}: {len(flags.runs)} runs, {EPISODES} goals a round")


class Trial:
    """One agent through all rounds."""

    def __init__(self, run: Path, folder: Path, seed: int, change: str, name: str, words: list[str]) -> None:
        self.folder, self.seed, self.change, self.name = folder, seed, change, name
        self.model, self.taught, self.store = load_learner(run / "jepa")
        self.control = two_rooms(seed).control
        self.words = words
        self.file = folder / "rounds.json"

    def results(self) -> Rounds:
        """Of each round: which goals were reached, which lay in the other room, and what was learnt until then."""
        done: Rounds = json.loads(self.file.read_text()) if self.file.exists() else []
        learner = self._learner()
        if learner is not None and done:
            self.model.load_state_dict(saved.read(self._kept(len(done)), "weights")[0])
            learner.load(self._kept(len(done)))
        for number in range(len(done), BEFORE + AFTER + 1):
            if self.name == "oracle" and number not in ORACLE:
                done.append(None)
                continue
            again = number == BEFORE + AFTER  # in the old world
            if learner is not None and again:
                learner.freeze()
            worlds = self._worlds(number)
            tasks = drawn(worlds, self.seed * 1000 + number)
            played = play(worlds(EPISODES), tasks, self._agent(worlds(1), learner), self.control.budget, self.seed)
            entry: dict[str, Any] = {
                "success": played.success.tolist(),
                "far": tasks.far.tolist(),
                "cpu_s": played.cpu_s,
            }
            if learner is not None:
                entry |= {"updates": learner.updates, "taken_back": len(learner.why), "told": learner.told}
                saved.write(self._kept(number + 1), "weights", self.model.state_dict(), {})
                learner.save(self._kept(number + 1))
            done.append(entry)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.file, [json.dumps(done).encode()])
            shutil.rmtree(self._kept(number), ignore_errors=True)
            reached, far = np.array(entry["success"]), tasks.far
            print(
                f"  {self.change}, {self.name}, round {number + 1}: {reached.mean():.2f}, in the other room "
                f"{reached[far].mean():.2f}, {entry['cpu_s']:.0f} s CPU {entry.get('told', '')}",
                flush=True,
            )
        return done

    def _kept(self, rounds: int) -> Path:
        """Where the learner is after so many rounds."""
        return self.folder / f"after_{rounds}"

    def _worlds(self, number: int) -> Callable[[int], TwoRoomsVector]:
        return CHANGES[self.change] if BEFORE <= number < BEFORE + AFTER else TwoRoomsVector

    def _learner(self) -> Any:
        if self.name not in LEARNERS or LEARNERS[self.name] is None:
            return None
        config = override(OnTheJobConfig(seed=self.seed, **SETTINGS), [*self.words, *(LEARNERS[self.name] or [])])
        return on_the_job(self.model, self.taught, self.store, config)

    def _agent(self, world: TwoRoomsVector, learner: Any) -> Agent:
        model: WorldModel = self.model
        if self.name == "oracle":
            spec = self.store.spec
            model = Oracle(OracleConfig(), spec.only(*spec.vectors()), world.dynamics())
        search = planner(self.control).model_copy(update=PLANNER)
        config = self.control.agent.model_copy(update={"strict": True})
        again = search.model_copy(update={"rounds": PLANNER["rounds"] - 1})
        return Agent(model, search, config, again, learner=learner)


def drawn(worlds: Callable[[int], TwoRoomsVector], seed: int) -> Tasks:
    """Starts and goals that are anywhere in this world, every other goal in the other room."""
    many = worlds(POOL * EPISODES)
    start, goal = (
        {name: torch.tensor(value) for name, value in many.reset(seed=(2 * seed + i) * 10**5)[0].items()}
        for i in range(2)
    )
    a, b = start["state"].numpy(), goal["state"].numpy()
    apart, far = ~many.success(a, b), many.room(a) != many.room(b)
    half = EPISODES // 2
    rows = np.concatenate([np.flatnonzero(apart & far)[:half], np.flatnonzero(apart & ~far)[: EPISODES - half]])
    start, goal = (each(lambda value: value[rows], obs) for obs in (start, goal))
    return Tasks(a[rows], b[rows], start, goal, far[rows])


def show(found: dict[str, list[Rounds]], title: str) -> None:
    rounds = [f"{'before' if r < BEFORE else 'after'} {r + 1}" for r in range(BEFORE + AFTER)]
    columns = ["who", *rounds, "last two, 95 % interval", "old world again", "updates (taken back)"]
    print(f"{title}\n| {' | '.join(columns)} |\n|---|{'--:|' * (len(columns) - 1)}")
    for name, runs in found.items():
        rounds_of = [[entry["success"] for run in runs if (entry := run[r])] for r in range(BEFORE + AFTER + 1)]
        *rates, old = (f"{np.mean(each_run):.0%}" if each_run else "-" for each_run in rounds_of)
        last = np.concatenate([np.zeros(0), *rounds_of[-3], *rounds_of[-2]])
        low, high = wilson(float(last.sum()), max(1, len(last)))
        sure = f"{low:.0%} to {high:.0%}" if len(last) else "-"
        ends = [run[-1] or {} for run in runs]
        learnt = ", ".join(f"{end['updates']} ({end['taken_back']})" for end in ends if "told" in end)
        print(f"| {' | '.join([name, *rates, sure, old, learnt or '-'])} |")


if __name__ == "__main__":
    main()
