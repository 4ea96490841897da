"""Distil Mode-2 into Mode-1: a searcher shows what to do, a habit learns it, acts, and is told what had been right.

Round by round (DAgger, arXiv 1011.0686): in the first the searcher acts, later the habit does, so that the states in
which it learns are those that it comes to. Goals are drawn from episodes that the model learnt from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from innerworld.agent import Agent
from innerworld.agent.actor.habit import Reflex, Searches, TwoModesConfig
from innerworld.agent.actor.tutor import Tutor, TutorConfig
from innerworld.agent.modules import Actor
from innerworld.config import Config, build, differences
from innerworld.data import Clips, Store
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.evaluate.control import play
from innerworld.policy.habit import Habit, HabitConfig
from innerworld.policy.lessons import Advice, DrillConfig, Lessons, drill, hindsight
from innerworld.recipes.goals import draw_goals, goal_worlds
from innerworld.recipes.two_rooms import Control
from innerworld.types import each
from innerworld.world import WorldModel

Mind = Callable[[Actor], Agent]
"""An agent whose actor is the one given, and whose other modules are those that the habit is taught for."""


NOTE = "distilled.json"
NEWEST = 4096  # lessons by which the usual uncertainty is told
SEEDS = 1000  # apart, so that no two seeds share the goals of a round


class DistilConfig(Config):
    """How a habit is taught."""

    rounds: int = Field(default=4, description="rounds; in the first one the searcher acts", ge=1)
    goals: int = Field(default=100, description="goals of each round", ge=2)
    steps: int = Field(
        default=2, description="steps for each of them in the first round; 0: as many as the control gives", ge=0
    )
    every: int = Field(default=4, description="in later rounds the searcher is asked every so many decisions", ge=1)
    share: float = Field(default=0.0, description="chance that the searcher acts in a later round", ge=0, le=1)
    searches: int = Field(default=1, description="searches for each lesson, of which the mean action is taught", ge=1)
    course: int = Field(default=32, description="steps of a plan that become lessons, as it imagined them", ge=1)
    within: int = Field(
        default=16, description="steps on along that course whose states count as goals, too; 0: none", ge=0
    )
    hindsight: int = Field(
        default=3, description="steps later that a state of the store counts as goal for an action; 0: none", ge=0
    )
    clips: int = Field(default=500, description="clips of the store that hindsight looks at in each round", ge=1)
    clip: int = Field(default=12, description="their length, steps", ge=1)
    habit: HabitConfig = Field(default=HabitConfig(), description="the habit")
    drill: DrillConfig = Field(default=DrillConfig(), description="its drill after each round")
    usual: float = Field(
        default=0.95, description="share of the lessons of which it counts as sure, see `TwoModesConfig`", gt=0, lt=1
    )
    seed: int = Field(default=0, description="of goals, searches, weights and drill", ge=0)


@dataclass
class Distilled:
    """A habit, and what came of each round."""

    habit: Habit
    modes: TwoModesConfig  # with a threshold of uncertainty that suits it
    curve: list[dict[str, float]] = field(default_factory=list)  # of each round: lessons, loss, success, CPU seconds


def distil(
    model: WorldModel,
    mind: Mind,
    searcher: Callable[[], Searches],
    store: Store,
    learn: np.ndarray,
    control: Control,
    config: DistilConfig = DistilConfig(),
    folder: Path | None = None,
    progress: Callable[[dict[str, float]], None] = lambda told: None,
) -> Distilled:
    """Teach a habit what a searcher decides on goals from the store's episodes `learn`, round by round.

    `mind` makes the agent around an actor, which is to execute as many steps of a decision as `control` says; that also
    tells how goals are drawn and how long they are tried. With a `folder` it is kept there after each round, and goes
    on from there. `progress` is told of each round. Raises `UserError` where the store's world has no goals, or the
    folder holds a habit that was taught otherwise.
    """
    lessons = Lessons()
    found = _begun(folder, model, config) if folder is not None else None
    if found is None:
        torch.manual_seed(config.seed)
        found = Distilled(Habit(config.habit, _width(model), model.spec), TwoModesConfig())
    elif folder is not None:
        lessons = Lessons.load(folder)
    for number in range(len(found.curve), config.rounds):
        pupil = Reflex(found.habit, model.spec, control.agent.execute) if number else None
        if config.hindsight:
            lessons.add(_seen_later(model, store, learn, config, number))
        agent = mind(Tutor(searcher(), lessons, pupil, _tutoring(config)))
        told = {"round": float(number)} | _practise(agent, store, learn, control, config, number)
        began = time.process_time()
        told |= drill(found.habit, lessons.all(), config.drill, _seed(config, number))
        told["drill_cpu_s"] = time.process_time() - began
        found.curve.append(told)
        found.modes = TwoModesConfig(uncertainty=_usual(found.habit, lessons.all(), config.usual))
        if folder is not None:
            _keep(folder, found, lessons, config)
        progress(told)
    return found


def _begun(folder: Path, model: WorldModel, config: DistilConfig) -> Distilled | None:
    """What the folder holds of it; none yet. Raises `UserError` for one that was begun with other settings."""
    if not (folder / NOTE).exists():
        return None
    try:
        noted = json.loads((folder / NOTE).read_bytes())
        before, curve, modes = noted["distil"], noted["curve"], build(TwoModesConfig, noted["modes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {folder / NOTE} ({error}): move {folder} away, and distil anew") from None
    for key, was, wanted in differences(before, config.model_dump(mode="json"), ("rounds",)):
        raise UserError(f"{folder} was begun with {key}={was}, not {wanted}: give that, or another folder")
    return Distilled(Habit.load(folder, model.spec), modes, curve)


def _keep(folder: Path, found: Distilled, lessons: Lessons, config: DistilConfig) -> None:
    """The note last: what was killed before it does its round again, with some lessons more."""
    folder.mkdir(parents=True, exist_ok=True)
    lessons.save(folder)
    found.habit.save(folder)
    noted = {"distil": config.model_dump(mode="json"), "curve": found.curve, "modes": found.modes.model_dump()}
    write_atomic(folder / NOTE, [json.dumps(noted, indent=2).encode()])


def _width(model: WorldModel) -> int:
    """How many numbers the features of a belief are."""
    with torch.no_grad():
        return model.features(model.encode(model.spec.blank())).shape[1]


@torch.no_grad()
def _seen_later(model: WorldModel, store: Store, learn: np.ndarray, config: DistilConfig, number: int) -> Advice:
    """Lessons from what was done in the store, with what came of it as the goal."""
    seed, sensors = _seed(config, number), list(model.spec.obs)
    clip = Clips(store, learn, config.clip, config.clips, seed, sensors=sensors).batch(0)
    states = model.bare(model.watch(clip))
    features = model.features(each(lambda value: value.flatten(0, 1), states)).unflatten(0, (config.clips, -1))
    return hindsight(features, clip.action, config.hindsight)


def _tutoring(config: DistilConfig) -> TutorConfig:
    return TutorConfig(
        share=config.share, every=config.every, searches=config.searches, course=config.course, within=config.within
    )


def _practise(
    agent: Agent, store: Store, learn: np.ndarray, control: Control, config: DistilConfig, number: int
) -> dict[str, float]:
    """Let it try the goals of a round, and tell what came of that."""
    seed, worlds = _seed(config, number), goal_worlds(store, config.goals)
    tasks = draw_goals(store, learn, worlds, seed, control)
    budget = control.budget if number else config.steps or control.budget
    played = play(worlds, tasks, agent, budget, seed)
    return {"success_rate": float(played.success.mean()), "collect_cpu_s": played.cpu_s}


def _seed(config: DistilConfig, number: int) -> int:
    return SEEDS * config.seed + number


def _usual(habit: Habit, advice: Advice, share: float) -> float:
    """The uncertainty that this share of the lessons does not exceed; of the newest ones, on which it will act."""
    newest = advice.rows(torch.arange(max(0, len(advice) - NEWEST), len(advice)))
    _, doubt = habit.advise(newest.features, newest.goal)
    return float(doubt.quantile(share))
