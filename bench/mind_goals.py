"""Table A of `bench/mind.py`: goals reached by an agent, a bare planner, a policy, both modes, an oracle, chance."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mind_cells import Cells, Found, Plays, by_playing, pooled, rate, table
from torch import Tensor

from innerworld.agent import Agent, Director, Searcher, goal_cost
from innerworld.agent.actor.habit import Reflex, TwoModes, TwoModesConfig
from innerworld.agent.configurator.monitors import Milestone, Stuck
from innerworld.agent.configurator.tasks import Task
from innerworld.agent.modules import Actor
from innerworld.config import build
from innerworld.data import POLICIES, spec_of_skip
from innerworld.evaluate.control import Tasks, play_policy, play_shown
from innerworld.plan import Planner, cold, generators, shift
from innerworld.policy.habit import Habit
from innerworld.recipes.goals import draw_goals, goal_worlds, oracle, planner
from innerworld.recipes.habits_of_mind import NOTE
from innerworld.recipes.lesson import episodes
from innerworld.recipes.stages import load_learner
from innerworld.recipes.two_rooms import Control, two_rooms
from innerworld.types import Obs, Spec
from innerworld.world import WorldModel

AGENT, BARE, POLICY, MODES, ORACLE, REPLAY, RANDOM = (
    "agent, six modules",
    "bare planner",
    "policy alone",
    "two modes",
    "oracle, six modules",
    "the demonstration, replayed",
    "random",
)


def goals(
    cells: Cells, runs: Sequence[Path], habits: Path | None, tries: int, alone: int, control: Control | None = None
) -> None:
    """Measure every run, and print a table for each family over all of its seeds. Without a `control` the search is the
    demo's for that family, and so are the goals."""
    found: dict[str, list[dict[str, Found]]] = {}
    for run in runs:
        one = Contest(run, habits, tries, control)
        found.setdefault(one.family, []).append(one.results(cells, alone))
    for family, each_run in found.items():
        print(f"\n{family}, {len(each_run)} seeds")
        show(each_run)


class Contest:
    """One run: who reaches how many of the same goals with its model."""

    def __init__(self, run: Path, habits: Path | None, tries: int, control: Control | None) -> None:
        self.run = run
        self.model, taught, self.store = load_learner(run)
        self.model.eval()
        self.family, self.seed, self.block = taught.family, taught.split_seed, taught.frame_skip
        self.control, most = demo_control(self.family, self.seed) if control is None else (control, None)
        self.tries = min(tries, most or tries)
        worlds = goal_worlds(self.store, tries)
        held_out = episodes(taught, self.store)[1]
        self.tasks: Tasks = draw_goals(self.store, held_out, worlds, self.seed, self.control).first(self.tries)
        self.truth = oracle(worlds, spec_of_skip(self.store.spec, self.block), self.block)
        self.habit = None if habits is None else habits / run.parent.name / "habit"

    def results(self, cells: Cells, alone: int) -> dict[str, Found]:
        told = f"{self.run.parent.name}-{self.run.name}"
        settings = {"seed": self.seed, "control": self.control.model_dump(mode="json")}
        found = {}
        for who, make in self.minds().items():
            name = f"goals/{told}/{who.replace(', ', '-').replace(' ', '_')}"
            found[who] = cells.get(name, settings, self.tries, self._playing(make))
            lone = cells.get(f"{name}-alone", settings, min(alone, self.tries), self._playing(make), part=1)
            found[who]["alone_ms"] = lone.get("ms", [])
        if self.tasks.shown is not None:
            found[REPLAY] = cells.get(f"goals/{told}/replay", settings, self.tries, self._as_shown)
        found[RANDOM] = cells.get(f"goals/{told}/random", settings, self.tries, self._by_chance)
        return found

    def minds(self) -> dict[str, Callable[[int], Plays]]:
        """Whoever searches executes as many steps of a plan as the demo does; whoever reacts looks at every step."""
        model, control, execute = self.model, self.control, self.control.agent.execute
        found: dict[str, Callable[[int], Plays]] = {
            AGENT: lambda start: watchful(model, control, None, execute, self.block),
        }
        if self.block == 1:
            found[BARE] = lambda start: Bare(model, control)
        if self.habit is not None and (self.habit / NOTE).exists():
            habit, modes = read_habit(self.habit, model.spec)
            found[POLICY] = lambda start: watchful(model, control, Reflex(habit, model.spec), 1)
            found[MODES] = lambda start: watchful(
                model, control, TwoModes(Reflex(habit, model.spec), searcher(model, control), modes), 1
            )
        truth = self.truth
        if truth is not None:
            found[ORACLE] = lambda start: watchful(truth, self.control, None, execute, self.block)
        return found

    def _playing(self, make: Callable[[int], Plays]) -> Callable[[int, int], Found]:
        return by_playing(lambda n: goal_worlds(self.store, n), self.tasks, make, self.control.budget, self.seed)

    def _as_shown(self, start: int, stop: int) -> Found:
        played = play_shown(goal_worlds(self.store, stop - start), self.tasks.cut(start, stop), self.control.budget)
        return {"success": played.success.tolist(), "steps": played.steps.tolist()}

    def _by_chance(self, start: int, stop: int) -> Found:
        part, worlds = self.tasks.cut(start, stop), goal_worlds(self.store, stop - start)
        policy = POLICIES["smooth"](self.store.spec)
        played = play_policy(worlds, part, policy, self.control.budget, 1000 * self.seed + start)
        return {"success": played.success.tolist(), "steps": played.steps.tolist()}


def demo_control(family: str, seed: int) -> tuple[Control, int | None]:
    """How `innerworld demo` lets a family reach goals, and how many at most."""
    demo = two_rooms(seed)
    school = demo.schools.get(family)
    if school is None:
        return demo.control, None
    return demo.control.model_copy(update={"agent": school.agent or demo.control.agent}), school.goals


def watchful(model: WorldModel, control: Control, actor: Actor | None, execute: int, block: int = 1) -> Agent:
    """All six modules as they are by default, with both monitors."""
    first = planner(control)
    again = first.model_copy(update={"rounds": control.rounds_again})
    config = control.agent.model_copy(update={"execute": execute})
    return Agent(
        model, first, config, again, block, actor=actor, configurator=Director(monitors=[Stuck(), Milestone()])
    )


def searcher(model: WorldModel, control: Control) -> Searcher:
    first = planner(control)
    return Searcher(first, model.spec, first.model_copy(update={"rounds": control.rounds_again}))


def read_habit(folder: Path, spec: Spec) -> tuple[Habit, TwoModesConfig]:
    """A distilled habit, and when it is unsure."""
    modes = json.loads((folder / NOTE).read_bytes())["modes"]
    return Habit.load(folder, spec), build(TwoModesConfig, modes, "modes")


class Bare:
    """A model and a planner: believes, searches, acts."""

    def __init__(self, model: WorldModel, control: Control) -> None:
        self.model, self.config, self.action = model, control.agent, model.spec.action
        self.first: Planner = planner(control)
        self.again = self.first.model_copy(update={"rounds": control.rounds_again})
        self.plan_ms: list[float] = []

    @property
    def closest(self) -> Tensor:
        return torch.full((len(self._rng),), torch.nan)

    @torch.no_grad()
    def begin(self, obs: Obs, task: Task | Obs, seed: int = 0, first: int = 0, via: Sequence[Obs] = ()) -> None:
        assert isinstance(task, dict) and not via, "it knows one goal picture, nothing else"
        b = len(next(iter(obs.values())))
        self._state, self._goal = self.model.encode(obs), self.model.encode(task)
        self._start = self._plan = cold(b, self.first.horizon, self.action, self.model.spec.discrete)
        self._rng, self._due = generators(seed, first + b)[first:], 0
        self._done: Tensor | None = None

    @torch.no_grad()
    def act(self, obs: Obs) -> Tensor:
        discrete, config = self.model.spec.discrete, self.config
        if self._done is not None:
            self._state = self.model.encode(obs, self._state, self._done)
        if self._due == 0:
            began = time.perf_counter()
            cost = goal_cost(self.model, self._state, self._goal, config.shape, config.power, config.every)
            planner = self.first if self._done is None else self.again
            self._plan, self._due = planner(cost, self._start, self._rng, discrete).actions, config.execute
            self.plan_ms.append(1000 * (time.perf_counter() - began) / len(self._plan))
            self._start = shift(self._plan, config.execute, discrete)
        self._done, self._due = self._plan[:, config.execute - self._due], self._due - 1
        return self._done

    def keep(self, rows: Tensor) -> None:
        self._state, self._goal = (
            {name: value[rows] for name, value in belief.items()} for belief in (self._state, self._goal)
        )
        self._start, self._plan = self._start[rows], self._plan[rows]
        self._rng = [self._rng[int(row)] for row in rows]
        self._done = None if self._done is None else self._done[rows]


def show(each_run: Sequence[dict[str, Found]]) -> None:
    columns = ("who", "goals reached", "steps", "CPU s a goal", "CPU ms an action, one world alone: median", "mean")
    rows = []
    for who in (AGENT, BARE, POLICY, MODES, ORACLE, REPLAY, RANDOM):
        one = pooled([found[who] for found in each_run if who in found])
        if not one.get("success"):
            rows.append((who, *["not measured"] * (len(columns) - 1)))
            continue
        ms = one.get("alone_ms") or []
        rows.append(
            (
                who,
                rate(one["success"]),
                f"{np.mean(one['steps']):.1f}",
                f"{np.mean(one['cpu_s']):.2f}" if one.get("cpu_s") else "-",
                f"{np.median(ms):.1f}" if ms else "-",
                f"{np.mean(ms):.1f}" if ms else "-",
            )
        )
    table(columns, rows)
