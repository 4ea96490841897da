"""The stages of a run, one after another: gather experience, teach, judge, try to reach goals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from innerworld import checkpoint, models
from innerworld.cluster import Place
from innerworld.data import POLICIES, About, Store, collect, spec_of_skip
from innerworld.disk import write_atomic
from innerworld.envs import make, spec_of
from innerworld.errors import UserError, choose
from innerworld.evaluate.control import Played, Tasks, play, play_policy, play_shown, summary
from innerworld.evaluate.generation import Drawings
from innerworld.evaluate.judge import Knowledge, judge
from innerworld.evaluate.latents import Latents
from innerworld.log import progress
from innerworld.recipes.goals import agent, draw_goals, goal_worlds, oracle
from innerworld.recipes.lesson import Lesson, episodes, read, teach
from innerworld.recipes.players import Match, play_shared
from innerworld.recipes.two_rooms import Control, Run
from innerworld.world import WorldModel

T = TypeVar("T")


@dataclass
class Outcome:
    """What came of a run."""

    models: dict[str, WorldModel] = field(default_factory=dict)
    knowledge: dict[str, Knowledge] = field(default_factory=dict)
    tasks: Tasks | None = None
    played: dict[str, Played] = field(default_factory=dict)  # also "oracle", "uniform", "smooth", "replay"
    skips: dict[str, int] = field(default_factory=dict)  # the frame_skip of each lesson
    latents: dict[str, Latents] = field(default_factory=dict)  # of those that see pictures, if somebody looked
    drawings: dict[str, Drawings] = field(default_factory=dict)  # of those that draw pictures, likewise
    untried: str = ""  # why no goals were tried, if none were

    def results(self) -> dict[str, dict[str, float]]:
        """All numbers, by who was judged."""
        found: dict[str, dict[str, float]] = {name: dict(known.metrics) for name, known in self.knowledge.items()}
        for looked in (self.latents, self.drawings):
            for name, seen in looked.items():
                found[name] = found.get(name, {}) | seen.metrics
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
    taught: dict[str, WorldModel] = {}
    for name in run.schools:
        model = teach(lesson(run, name, folder), folder / name, quiet, checkpoint.exists(folder / name), command)
        assert isinstance(model, WorldModel), f"{name} is of a family of MODELS, or `lesson` had refused it"
        taught[name] = model
    return taught


def lesson(run: Run, name: str, folder: Path) -> Lesson:
    """What the run teaches to the school `name`."""
    school = run.schools[name]
    family = school.family or name
    words = [f"{key}={json.dumps(value)}" for key, value in school.model.items()]
    return Lesson(
        family=family,
        data=str(folder / "data"),
        sensors=("pixels",),
        held_out=run.held_out,
        split_seed=run.seed,
        batch=school.batch,
        length=school.length,
        frame_skip=school.frame_skip,
        model=models.config(family, school.preset, words).model_dump(mode="json"),
        train=school.train,
    )


def examine(
    learners: dict[str, tuple[WorldModel, Lesson]],
    store: Store,
    control: Control,
    seed: int,
    quiet: bool = False,
    own: Mapping[str, Control] = MappingProxyType({}),
    place: Place | None = None,
) -> Outcome:
    """Judge every learner on the same held-out episodes and, where the world has goals, let all try the same ones.

    Judging and acting happen on the CPU, where the worlds are; the models are moved there.
    `own` gives a learner a control of its own; with fewer episodes, it tries the first of the same goals. With a
    `place`, its workers share the goals.
    """
    outcome = Outcome({name: model.to("cpu") for name, (model, _) in learners.items()})
    outcome.skips = {name: taught.frame_skip for name, (_, taught) in learners.items()}
    with progress("judge", len(learners), quiet) as show:
        for done, (name, (model, taught)) in enumerate(learners.items(), 1):
            learn, held_out = episodes(taught, store)
            outcome.knowledge[name] = judge(model, store, learn, held_out, taught.frame_skip, seed)
            show(done)
    first = next(iter(learners.values()))[1]
    try:
        worlds = goal_worlds(store, control.episodes)
        outcome.tasks = tasks = draw_goals(store, episodes(first, store)[1], worlds, seed, control)
    except UserError as error:
        outcome.untried = str(error)
        return outcome
    players = dict(outcome.models)
    truth = oracle(worlds, spec_of_skip(store.spec, first.frame_skip), first.frame_skip)  # plans in the same blocks
    if truth is not None:
        players["oracle"] = truth
        outcome.skips["oracle"] = first.frame_skip
    controls = {name: own.get(name, control) for name in players}
    if place is None:
        for name, model in players.items():
            its = controls[name]
            few = worlds if its.episodes == control.episodes else goal_worlds(store, its.episodes)
            mind = agent(model, its, outcome.skips.get(name, 1))
            with progress(f"reach goals: {name}", its.budget, quiet) as show:
                played = play(few, tasks.first(its.episodes), mind, its.budget, seed, show)
            outcome.played[name] = played
    else:
        families = {name: taught.family for name, (_, taught) in learners.items()} | {"oracle": "oracle"}
        match = Match.of(players, families, controls, store, tasks, seed, outcome.skips)
        with progress("reach goals", len(match.shares()), quiet) as show:
            outcome.played |= play_shared(match, place, show)
    for name, policy in POLICIES.items():
        outcome.played[name] = play_policy(worlds, tasks, policy(store.spec), control.budget, seed)
    if tasks.shown is not None:
        outcome.played["replay"] = play_shown(worlds, tasks, control.budget)
    return outcome


def asked_of_all(
    models: Mapping[str, WorldModel],
    lessons: Mapping[str, Lesson],
    ask: Callable[[WorldModel, Lesson], T | None],
    title: str,
    quiet: bool,
) -> dict[str, T]:
    """The answers of all models of a run, by name, but of those that have none."""
    found = {}
    with progress(title, len(lessons), quiet) as show:
        for done, (name, taught) in enumerate(lessons.items(), 1):
            answer = ask(models[name], taught)
            if answer is not None:
                found[name] = answer
            show(done)
    return found


def own_controls(run: Run) -> dict[str, Control]:
    """The control of each school that does not try all goals or does not count all steps."""
    found = {}
    for name, school in run.schools.items():
        mind = school.agent or run.control.agent
        few = min(school.goals or run.control.episodes, run.control.episodes)
        found[name] = run.control.model_copy(update={"agent": mind, "episodes": few})
    return found


def load_learner(
    folder: Path, data: Path | None = None, changes: Sequence[str] = ()
) -> tuple[WorldModel, Lesson, Store]:
    """A taught model, its lesson and the store it was taught from (or the one at `data`).

    `changes`, such as `steps=1`, are to how it draws (`Learns.sampling`)."""
    taught = read(folder)
    if data is not None:
        taught = taught.model_copy(update={"data": str(data)})
    return checkpoint.load(folder, changes=changes, kind=WorldModel), taught, Store.open(taught.data)


def write_results(outcome: Outcome, run: dict[str, Any], path: Path) -> None:
    """All numbers and what made them, as JSON."""
    results = {
        name: {key: value if math.isfinite(value) else None for key, value in found.items()}
        for name, found in outcome.results().items()
    }
    text = json.dumps({"run": run, "results": results}, indent=2, allow_nan=False)
    write_atomic(path, [text.encode()])
