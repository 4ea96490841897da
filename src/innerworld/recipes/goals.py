"""Goals to be reached: the worlds that have them, which ones, and the agent that tries."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from innerworld.agent import Agent
from innerworld.config import build
from innerworld.data import Store
from innerworld.envs import make
from innerworld.errors import UserError, choose
from innerworld.evaluate.control import GoalWorlds, Tasks, draw_tasks
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.plan import PLANNERS, Planner
from innerworld.recipes.lesson import Lesson
from innerworld.recipes.two_rooms import Control
from innerworld.types import Spec
from innerworld.world import WorldModel


@runtime_checkable
class Simulated(Protocol):
    """A world that gives its true dynamics away, for the oracle."""

    def dynamics(self) -> Any: ...


@runtime_checkable
class Rooms(Protocol):
    """A world that is parted: a goal in another room is far, however near it looks."""

    def room(self, state: np.ndarray) -> np.ndarray: ...


def agent(model: WorldModel, control: Control) -> Agent:
    """The agent that a run's `control` describes. Raises `UserError` for an unknown planner or setting."""
    first = planner(control)
    again = {"rounds": control.rounds_again} if "rounds" in type(first).model_fields else {}
    return Agent(model, first, control.agent, first.model_copy(update=again))


def planner(control: Control) -> Planner:
    return build(choose("planner", control.search, PLANNERS), control.planner, "planner")


def goal_worlds(store: Store, taught: Lesson, n: int) -> GoalWorlds:
    """As many worlds as there are tasks. Raises `UserError` where the store's world has no goals or is unknown."""
    env = store.meta.about.env
    if taught.frame_skip > 1:
        raise UserError("acting with frame_skip > 1 is not built yet")
    if not env or "state" not in store.spec.obs:
        raise UserError("the store names no environment, or has no `state` sensor to judge success by")
    return worlds_of(env, n, picture_size(store.spec))


def worlds_of(env: str, n: int, size: int) -> GoalWorlds:
    """`n` worlds with goals. Raises `UserError`."""
    worlds = make(env, n, size)
    if not isinstance(worlds, GoalWorlds):
        raise UserError(f"{env} cannot begin at a given state or tell whether one is reached")
    return worlds


def picture_size(spec: Spec) -> int:
    """The side of the pictures that a store holds."""
    return next((shape[0] for shape in spec.obs.values() if len(shape) == 3), 64)


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


def oracle(worlds: object, spec: Spec) -> WorldModel | None:
    """The world itself as a model, where it gives its dynamics away."""
    if not isinstance(worlds, Simulated):
        return None
    return Oracle(OracleConfig(), spec.only(*spec.vectors()), worlds.dynamics())


def _far(worlds: Any) -> Any:
    if not isinstance(worlds, Rooms):
        return None
    return lambda start, goal: worlds.room(start)[:1] != worlds.room(goal)[:1]
