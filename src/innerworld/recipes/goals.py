"""Goals to be reached: the worlds that have them, which ones, and the agent that tries."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from innerworld.agent import Agent, Director, DirectorConfig, Levels, TwoLevels
from innerworld.config import build
from innerworld.data import Store
from innerworld.envs import make
from innerworld.errors import UserError, choose
from innerworld.evaluate.control import GoalWorlds, Tasks, draw_tasks
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.plan import PLANNERS, Planner
from innerworld.recipes.two_rooms import Control, Upper
from innerworld.types import Obs, Spec
from innerworld.world import WorldModel


@runtime_checkable
class Simulated(Protocol):
    """A world that gives its true dynamics away, for the oracle."""

    def dynamics(self) -> Any: ...


@runtime_checkable
class Rooms(Protocol):
    """A world that is parted: a goal in another room is far, however near it looks."""

    def room(self, state: np.ndarray) -> np.ndarray: ...


def agent(model: WorldModel, control: Control, frame_skip: int = 1) -> Agent:
    """The agent that a run's `control` describes, of a model that was taught with frames skipped.

    Raises `UserError` for an unknown planner or setting.
    """
    first = planner(control)
    again = {"rounds": control.rounds_again} if "rounds" in type(first).model_fields else {}
    warm = first.model_copy(update=again)
    upper, via = control.upper, control.agent
    levels = None
    if upper is not None and isinstance(model, TwoLevels):
        levels = Levels(planner(upper), upper.cost)
    director = Director(DirectorConfig(via_steps=via.via_steps, via_energy=via.via_energy), subgoals=levels)
    strict = control.agent.model_copy(update={"strict": True})  # who judges wants to know what goes wrong
    return Agent(model, first, strict, warm, frame_skip, configurator=director)


def planner(control: Control | Upper) -> Planner:
    return build(choose("planner", control.search, PLANNERS), control.planner, "planner")


def goal_worlds(store: Store, n: int) -> GoalWorlds:
    """As many worlds as there are tasks. Raises `UserError` where the store's world has no goals or is unknown."""
    env = store.meta.about.env
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


def draw_goals(
    store: Store, held_out: np.ndarray, worlds: GoalWorlds, seed: int, control: Control = Control()
) -> Tasks:
    """A task for each of the worlds; where a world has rooms, every other goal lies in another one than its start.

    Raises `UserError` for a store of worlds that are laid out differently: a task restores a state, not a layout.
    """
    offset = control.goal_offset if control.goals == "one_episode" else None
    tasks = draw_tasks(store, held_out, worlds.num_envs, worlds, seed, _far(worlds), offset, control.via)
    if "layout" in store.spec.obs:
        layouts = torch.cat([tasks.start_obs["layout"], tasks.goal_obs["layout"]])
        if bool((layouts != layouts[0]).any()):
            raise UserError("the store's worlds are laid out differently: goals in such worlds are not built yet")
    return tasks


def oracle(worlds: object, spec: Spec, frame_skip: int = 1) -> WorldModel | None:
    """The world itself as a model, where it gives its dynamics away, of blocks of `frame_skip` actions.

    `spec` is what such a model sees and does, as `spec_of_skip` gives it.
    """
    if not isinstance(worlds, Simulated):
        return None
    law = worlds.dynamics()

    def blocks(obs: Obs, action: Tensor) -> Obs:
        for part in action.unflatten(-1, (frame_skip, -1)).unbind(-2):
            obs = law(obs, part)
        return obs

    return Oracle(OracleConfig(), spec.only(*spec.vectors()), blocks if frame_skip > 1 else law)


def _far(worlds: Any) -> Any:
    if not isinstance(worlds, Rooms):
        return None
    return lambda start, goal: worlds.room(start)[:1] != worlds.room(goal)[:1]
