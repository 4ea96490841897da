"""The agent that a command line describes: each flag is one of the six modules, or a part of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from innerworld.agent import (
    Agent,
    Cost,
    Director,
    DirectorConfig,
    Guardrail,
    Levels,
    OnTheJob,
    Sampled,
    Searcher,
    ShortTermMemory,
    TrainableCritic,
    TwoLevels,
)
from innerworld.agent.actor.habit import Reflex, TwoModes, TwoModesConfig
from innerworld.agent.configurator.monitors import Milestone, Monitor, Stuck
from innerworld.agent.configurator.phrases import Phrases
from innerworld.agent.cost.readout import Decoded, Reading, Readout
from innerworld.agent.cost.regions import Disc
from innerworld.agent.cost.terms import End, Forbidden, GoalEnergy, Reward, Term
from innerworld.agent.modules import Actor
from innerworld.config import build
from innerworld.data import Clips
from innerworld.errors import UserError
from innerworld.plan import Planner
from innerworld.policy.habit import Habit
from innerworld.recipes.goals import planner
from innerworld.recipes.habits_of_mind import NOTE
from innerworld.recipes.minding.known import ORACLE, Known
from innerworld.recipes.two_rooms import Control
from innerworld.world import flatten

Watcher = Literal["stuck", "milestone"]
STATE = "state"  # the sensor whose units a forbidden disc is in
ROWS = 300  # clips that a readout is fitted to


@dataclass(frozen=True)
class Furnishing:
    """Modules other than the default ones."""

    monitors: tuple[Watcher, ...] = ()
    guard: str | None = None  # centre and radius of a disc that no plan may enter, in the units of the state
    habit: Path | None = None  # folder of a habit: it reacts where it is sure
    futures: int = 1  # in which each plan is judged
    deadline_s: float | None = None


@dataclass(frozen=True)
class Schooling:
    """What learns on the job, if anything does, and what it learns from."""

    learner: OnTheJob | None = None
    memory: ShortTermMemory | None = None
    critic: TrainableCritic | None = None


@dataclass(frozen=True)
class Mind:
    """The agent, the readings that it has of its world, and what is to be told of its modules."""

    agent: Agent
    readings: tuple[Reading, ...]
    told: dict[str, str]


def furnish(
    known: Known,
    control: Control,
    furnishing: Furnishing,
    rewarded: bool,
    phrases: Phrases | None,
    seed: int,
    schooling: Schooling = Schooling(),
) -> Mind:
    """The agent around a known model. Raises `UserError` for modules that do not fit it."""
    model, first = known.model, planner(control)
    again = first.model_copy(update={"rounds": control.rounds_again} if "rounds" in type(first).model_fields else {})
    told = {"search": f"{control.search}, {first.horizon} steps ahead"}
    terms: tuple[Term, ...] = (GoalEnergy(control.agent.power, control.agent.every, shape=control.agent.shape),)
    if rewarded:
        terms = (Reward(), *_ends(known))
    rails, readings = _guarded(known, furnishing.guard, first.horizon, seed, told)
    cost = Cost(terms, rails, schooling.critic)
    told["cost"] = ", ".join(cost.names)
    upper = control.upper
    subgoals = Levels(planner(upper), upper.cost) if upper is not None and isinstance(model, TwoLevels) else None
    monitors: Sequence[Monitor] = [Stuck() if name == "stuck" else Milestone() for name in furnishing.monitors]
    if monitors:
        told["monitors"] = ", ".join(furnishing.monitors)
    via = DirectorConfig(via_steps=control.agent.via_steps, via_energy=control.agent.via_energy)
    config = control.agent
    if furnishing.deadline_s is not None:
        if furnishing.deadline_s <= 0:
            raise UserError(f"a deadline of {furnishing.deadline_s} seconds leaves no time: give a positive one")
        config = config.model_copy(update={"deadline_s": furnishing.deadline_s})
        told["deadline"] = f"{furnishing.deadline_s:g} s"
    foresight = None
    if furnishing.futures > 1:
        foresight = Sampled(model, furnishing.futures, seed)
        told["futures"] = f"{furnishing.futures}, drawn"
    agent = Agent(
        model,
        first,
        config,
        again,
        known.block,
        memory=schooling.memory,
        foresight=foresight,
        cost=cost,
        actor=_actor(known, furnishing.habit, first, again, control, told),
        configurator=Director(via, monitors, subgoals, phrases, cost.names),
        learner=schooling.learner,
    )
    return Mind(agent, readings, told)


def _ends(known: Known) -> tuple[Term, ...]:
    """That the world ends is bad only where the model can tell."""
    with torch.no_grad():
        told = known.model.decode(known.model.encode(known.model.spec.blank()))
    return (End(),) if "continue" in told else ()


def _actor(
    known: Known, folder: Path | None, first: Planner, again: Planner, control: Control, told: dict[str, str]
) -> Actor | None:
    """Both modes where there is a habit; none: the default."""
    if folder is None:
        return None
    spec = known.model.spec
    reflex = Reflex(Habit.load(folder, spec), spec, control.agent.execute)
    modes = _modes(folder)
    told["actor"] = f"reacts where its habit is surer than {modes.uncertainty:.3g}, else searches"
    return TwoModes(reflex, Searcher(first, spec, again), modes)


def _modes(folder: Path) -> TwoModesConfig:
    """When to search, as the distillation found; the default for a habit that was saved alone."""
    note = folder / NOTE
    if not note.exists():
        return TwoModesConfig()
    try:
        return build(TwoModesConfig, json.loads(note.read_bytes())["modes"], str(note))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {note}: {error}") from None


# ---------------------------------------------------------------------- a forbidden disc


def _guarded(
    known: Known, asked: str | None, ahead: int, seed: int, told: dict[str, str]
) -> tuple[tuple[Guardrail, ...], tuple[Reading, ...]]:
    """A hard bound around a disc, with a margin for the model's error, and the reading that it takes."""
    if asked is None:
        return (), ()
    *centre, radius = _disc(asked)
    reading, margin = _reading(known, len(centre), ahead, seed)
    term = Forbidden(Disc(reading, tuple(centre), radius), margin)
    told["guardrail"] = f"no plan within {radius:g} of ({', '.join(f'{value:g}' for value in centre)})"
    if margin:
        told["guardrail"] += f"; {margin:.3g} more, for 99 % of the errors of what is imagined {ahead} steps ahead"
    return (Guardrail(term, 0),), (reading,)


def _disc(asked: str) -> list[float]:
    try:
        numbers = [float(word) for word in asked.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) < 3 or not all(abs(number) < float("inf") for number in numbers) or numbers[-1] <= 0:
        raise UserError(f"cannot read the forbidden disc {asked!r}: write its centre and its radius, such as 20,32,8")
    return numbers


@torch.no_grad()
def _reading(known: Known, size: int, ahead: int, seed: int) -> tuple[Reading, float]:
    """The first numbers of the state: exact of the oracle, else fitted to what the model imagines; and a margin.

    Raises `UserError` where nothing says where the world was.
    """
    model, names = known.model, tuple(f"{STATE} {k}" for k in range(size))
    if known.name == ORACLE and STATE in model.spec.obs:
        if model.spec.obs[STATE][0] < size:
            raise UserError(f"the disc has {size} dimensions, the state of {known.env} {model.spec.obs[STATE][0]}")
        return Decoded(STATE, names), 0.0
    store = known.store
    if store is None or known.learnt is None or STATE not in store.spec.obs:
        raise UserError("a forbidden disc needs a store with a `state` sensor, to learn where the world is (--data)")
    if store.spec.obs[STATE][0] < size:
        raise UserError(f"the disc has {size} dimensions, the state in the store {store.spec.obs[STATE][0]}")
    t = min(ahead, int(store.lengths[known.learnt].max()) // known.block)
    clip = Clips(store, known.learnt, t, ROWS, seed, known.block).batch(0)
    model.eval()
    imagined = model.imagine(
        model.encode({name: clip.obs[name][:, 0] for name in model.spec.obs}), clip.action[:, None]
    )
    features = model.features(model.bare(flatten(imagined, 3)))  # (b h) d
    readout = Readout.fit(features, clip.obs[STATE][:, 1:, :size].flatten(0, 1), names, seed=seed)
    return readout, float(readout.reach.norm())
