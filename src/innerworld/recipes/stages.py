"""The stages of a run, one after another: gather experience, teach, judge, try to reach goals."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from innerworld import checkpoint, models
from innerworld.agent import Agent
from innerworld.config import build
from innerworld.data import POLICIES, About, Store, collect
from innerworld.disk import write_atomic
from innerworld.envs import make, spec_of
from innerworld.errors import UserError, choose
from innerworld.evaluate.control import GoalWorlds, Played, Tasks, draw_tasks, play, play_policy, summary
from innerworld.evaluate.judge import Knowledge, judge
from innerworld.log import progress
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.plan import PLANNERS, Planner
from innerworld.recipes.lesson import Lesson, episodes, read, teach
from innerworld.recipes.two_rooms import Control, Run
from innerworld.world import WorldModel


@runtime_checkable
class Simulated(Protocol):
    """A world that gives its true dynamics away, for the oracle."""

    def dynamics(self) -> Any: ...


@runtime_checkable
class Rooms(Protocol):
    """A world that is parted: a goal in another room is far, however near it looks."""

    def room(self, state: np.ndarray) -> np.ndarray: ...


@dataclass
class Outcome:
    """What came of a run."""

    models: dict[str, WorldModel] = field(default_factory=dict)
    knowledge: dict[str, Knowledge] = field(default_factory=dict)
    tasks: Tasks | None = None
    played: dict[str, Played] = field(default_factory=dict)  # also "oracle", "uniform", "smooth"
    untried: str = ""  # why no goals were tried, if none were

    def results(self) -> dict[str, dict[str, float]]:
        """All numbers, by who was judged."""
        found: dict[str, dict[str, float]] = {name: dict(known.metrics) for name, known in self.knowledge.items()}
        if self.tasks is not None:
            for name, played in self.played.items():
                found[name] = found.get(name, {}) | summary(played, self.tasks.far[: len(played.success)])
        return found


def gather(run: Run, folder: Path, quiet: bool = False) -> Store:
    """Collect the run's episodes into `folder/data`, going on where an interrupted collection stopped."""
    envs = make(run.env, run.worlds, run.size)
    path = folder / "data"
    if (path / "meta.json").exists():
        store = Store.open(path)
    else:
        spec = spec_of(envs.single_observation_space, envs.single_action_space)
        store = Store.create(path, spec, About(env=run.env, policy=run.policy, seed=run.seed))
    missing = run.episodes - len(store)
    if missing > 0:
        policy = choose("policy", run.policy, POLICIES)(store.spec)
        with progress(f"collect {run.env}", missing, quiet) as show:
            # Another seed for the rest, or it would repeat the episodes that are there.
            collect(envs, policy, missing, store, run.seed + len(store), lambda done, total: show(done))
    envs.close()
    return store


def educate(run: Run, folder: Path, quiet: bool = False, command: str = "") -> dict[str, WorldModel]:
    """Teach each of the run's schools from the same clips; what an interrupted run has learnt is kept."""
    return {
        name: teach(lesson(run, name, folder), folder / name, quiet, checkpoint.exists(folder / name), command)
        for name in run.schools
    }


def lesson(run: Run, name: str, folder: Path) -> Lesson:
    """What the run teaches to the family `name`."""
    school = run.schools[name]
    words = [f"{key}={json.dumps(value)}" for key, value in school.model.items()]
    return Lesson(
        family=name,
        data=str(folder / "data"),
        sensors=("pixels",),
        held_out=run.held_out,
        split_seed=run.seed,
        batch=school.batch,
        length=school.length,
        model=models.config(name, school.preset, words).model_dump(mode="json"),
        train=school.train,
    )


def examine(
    learners: dict[str, tuple[WorldModel, Lesson]],
    store: Store,
    control: Control,
    seed: int,
    quiet: bool = False,
    own: Mapping[str, Control] = MappingProxyType({}),
) -> Outcome:
    """Judge every learner on the same held-out episodes and, where the world has goals, let all try the same ones.

    Judging and acting happen on the CPU, where the worlds are; the models are moved there.
    `own` gives a learner a control of its own; with fewer episodes, it tries the first of the same goals.
    """
    outcome = Outcome({name: model.to("cpu") for name, (model, _) in learners.items()})
    with progress("judge", len(learners), quiet) as show:
        for done, (name, (model, taught)) in enumerate(learners.items(), 1):
            learn, held_out = episodes(taught, store)
            outcome.knowledge[name] = judge(model, store, learn, held_out, taught.frame_skip, seed)
            show(done)
    first = next(iter(learners.values()))[1]
    try:
        worlds = goal_worlds(store, first, control.episodes)
        outcome.tasks = tasks = draw_goals(store, episodes(first, store)[1], worlds, seed)
    except UserError as error:
        outcome.untried = str(error)
        return outcome
    players = dict(outcome.models)
    oracle = _oracle(worlds, store)
    if oracle is not None:
        players["oracle"] = oracle
    for name, model in players.items():
        its = own.get(name, control)
        few = worlds if its.episodes == control.episodes else goal_worlds(store, first, its.episodes)
        with progress(f"reach goals: {name}", its.budget, quiet) as show:
            played = play(few, tasks.first(its.episodes), agent(model, its), its.budget, seed, show)
        outcome.played[name] = played
    for name, policy in POLICIES.items():
        outcome.played[name] = play_policy(worlds, tasks, policy(store.spec), control.budget, seed)
    return outcome


def own_controls(run: Run) -> dict[str, Control]:
    """The control of each school that does not try all goals or does not count all steps."""
    found = {}
    for name, school in run.schools.items():
        mind = school.agent or run.control.agent
        few = min(school.goals or run.control.episodes, run.control.episodes)
        found[name] = run.control.model_copy(update={"agent": mind, "episodes": few})
    return found


def agent(model: WorldModel, control: Control) -> Agent:
    """The agent that a run's `control` describes. Raises `UserError` for an unknown planner or setting."""
    first = planner(control)
    again = {"rounds": control.rounds_again} if "rounds" in type(first).model_fields else {}
    return Agent(model, first, control.agent, first.model_copy(update=again))


def planner(control: Control) -> Planner:
    return build(choose("planner", control.search, PLANNERS), control.planner, "planner")


def load_learner(folder: Path, data: Path | None = None) -> tuple[WorldModel, Lesson, Store]:
    """A taught model, its lesson and the store it was taught from (or the one at `data`)."""
    taught = read(folder)
    if data is not None:
        taught = taught.model_copy(update={"data": str(data)})
    return checkpoint.load(folder), taught, Store.open(taught.data)


def write_results(outcome: Outcome, run: dict[str, Any], path: Path) -> None:
    """All numbers and what made them, as JSON."""
    results = {
        name: {key: value if math.isfinite(value) else None for key, value in found.items()}
        for name, found in outcome.results().items()
    }
    text = json.dumps({"run": run, "results": results}, indent=2, allow_nan=False)
    write_atomic(path, [text.encode()])


def _oracle(worlds: object, store: Store) -> WorldModel | None:
    """The world itself as a model, where it gives its dynamics away."""
    if not isinstance(worlds, Simulated):
        return None
    return Oracle(OracleConfig(), store.spec.only(*store.spec.vectors()), worlds.dynamics())


def goal_worlds(store: Store, taught: Lesson, n: int) -> GoalWorlds:
    """As many worlds as there are tasks. Raises `UserError` where the store's world has no goals or is unknown."""
    env = store.meta.about.env
    if taught.frame_skip > 1:
        raise UserError("acting with frame_skip > 1 is not built yet")
    if not env or "state" not in store.spec.obs:
        raise UserError("the store names no environment, or has no `state` sensor to judge success by")
    size = next((shape[0] for shape in store.spec.obs.values() if len(shape) == 3), 64)
    worlds = make(env, n, size)
    if not isinstance(worlds, GoalWorlds):
        raise UserError(f"{env} cannot begin at a given state or tell whether one is reached")
    return worlds


def draw_goals(store: Store, held_out: np.ndarray, worlds: GoalWorlds, seed: int) -> Tasks:
    """A task for each of the worlds; where a world has rooms, every other goal lies in another one than its start.

    Raises `UserError` for a store of worlds that are laid out differently: a task restores a state, not a layout.
    """
    tasks = draw_tasks(store, held_out, worlds.num_envs, worlds, seed, _far(worlds))
    if "layout" in store.spec.obs:
        layouts = torch.cat([tasks.start_obs["layout"], tasks.goal_obs["layout"]])
        if bool((layouts != layouts[0]).any()):
            raise UserError("the store's worlds are laid out differently: goals in such worlds are not built yet")
    return tasks


def _far(worlds: Any) -> Any:
    if not isinstance(worlds, Rooms):
        return None
    return lambda start, goal: worlds.room(start)[:1] != worlds.room(goal)[:1]
