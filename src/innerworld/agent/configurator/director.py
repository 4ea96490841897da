"""`Director`: the configurator. It reads the task and sets what the next plan pursues, and how hard it is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor

from innerworld.agent.configurator.monitors import Monitor, View, ahead
from innerworld.agent.configurator.phrases import Phrases
from innerworld.agent.configurator.route import Route
from innerworld.agent.configurator.tasks import Asked, Leg, Task, check_goal
from innerworld.agent.modules import Decision, Imagined, Memory, Setting
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.types import Obs, State, each
from innerworld.world import WorldModel

PAST = 32  # plans that are remembered, as places to go back to


class DirectorConfig(Config):
    via_steps: tuple[int, ...] = Field(
        default=(), description="steps for each goal on the way before going on to the next, environment steps"
    )
    via_energy: float | None = Field(
        default=None, description="energy to a goal on the way below which to go on to the next; null: none", gt=0
    )


class Subgoals(Protocol):
    """Something between the goal and the plan: what to pursue first, where the goal itself is too far for a plan."""

    def begin(self, model: WorldModel, state: State, seed: int, first: int) -> None:
        """An episode begins with these beliefs `b ...`; the first world is number `first` of all that share the seed.
        Raises `UserError` for a model that it cannot serve."""

    def aim(self, state: State, goal: State) -> State:
        """What the next plan pursues, `b ...`, on the way from what is believed to the goal."""
        ...

    def refresh(self, model: WorldModel) -> None:
        """The model's weights have changed (asked only where there is a learner)."""

    def keep(self, rows: Tensor) -> None: ...


class Director:
    """Pursue the task's goals one after another, each world by itself.

    `subgoals` says what to pursue on the way to a goal that is too far for a plan: `Levels`, or `Waypoints`.
    `monitors` see before each plan what the last one was imagined to lead to, and may change what is set. `phrases`
    tell what sentences mean; `terms` are the names of the cost's terms, to find a misspelt one at once.
    """

    def __init__(
        self,
        config: DirectorConfig = DirectorConfig(),
        monitors: Sequence[Monitor] = (),
        subgoals: Subgoals | None = None,
        phrases: Phrases | None = None,
        terms: Sequence[str] | None = None,
    ) -> None:
        self.config, self.monitors, self.subgoals = config, tuple(monitors), subgoals
        self._phrases, self._terms = phrases, terms

    def begin(self, task: Task, model: WorldModel, state: State, seed: int = 0, first: int = 0) -> None:
        """A task for every world, and what is believed at first, each `b ...`. Raises `UserError` for a task that the
        model cannot serve."""
        if not isinstance(task, Task):
            raise UserError(f"{task!r} is no task: give an observation as a goal, or a task, for example Maximise()")
        some = next(iter(state.values()))
        self._model, self._b, self._device = model, len(some), some.device
        asked = Asked(
            model.spec,
            self._b,
            self.config.via_steps,
            self.config.via_energy,
            self._phrases,
            self._terms,
            lambda: _tells_reward(model, state),
        )
        legs = task.legs(asked)
        for leg in legs:
            if leg.goal is not None:
                check_goal(model.spec, leg.goal, self._b, "the goal of the task")  # of tasks of your own, too
        # Goals that follow each other under the same weights are one stage, in which each world goes on by itself.
        self._stages = _stages(legs)
        self._sights = [[leg.goal for leg in stage if leg.goal is not None] for stage in self._stages]  # each b ...
        self._routes = [_route(model, *each_stage) for each_stage in zip(self._stages, self._sights, strict=True)]
        self._at = self._spent = 0
        self._looks = 0  # since the last plan
        self._horizon: int | None = None  # of a plan, before any monitor changed it
        self._past: list[State] = []  # what was believed at the last plans, each b ...
        if self.subgoals is not None:
            self.subgoals.begin(model, state, seed, first)
        for monitor in self.monitors:
            monitor.begin(self._b, self._device)

    @property
    def closest(self) -> Tensor:
        """The least energy to its goal that each row came to, relative to where it began: `b`; NaN without a goal."""
        route = self._route
        return torch.full((self._b,), torch.nan, device=self._device) if route is None else route.closest

    @property
    def watches(self) -> bool:
        """Does it look at what the last decision was imagined to lead to?"""
        return bool(self.monitors)

    def look(self, state: State) -> None:
        if self._route is not None:
            self._route.look(self._model, state)
        self._looks += 1

    def set(self, state: State, memory: Memory, decided: Decision | None, futures: Sequence[Imagined]) -> Setting:
        self._move_on(state)
        weights = self._stages[self._at][0].weights
        if self._route is None:
            setting = Setting(None, weights)
        else:
            setting = self._watched(Setting(self._route.goal, weights), self._route, state, decided, futures)
            if self.subgoals is not None and setting.goal is not None:
                setting = replace(setting, goal=self.subgoals.aim(state, setting.goal))
        self._looks = 0
        return setting

    def spend(self, steps: int) -> None:
        self._spent += steps
        if self._route is not None:
            self._route.spend(steps)

    def refresh(self, state: State) -> None:
        """The model's weights have changed: believe the goals anew, each `b ...`; `state` is what is believed now.

        What the monitors noticed and where one could go back to was believed with other weights: they begin anew.
        """
        for route, sights in zip(self._routes, self._sights, strict=True):
            if route is not None:
                route.refresh([self._model.encode(sight) for sight in sights], self._model, state)
        self._past = []
        for monitor in self.monitors:
            monitor.begin(self._b, self._device)
        if self.subgoals is not None:
            self.subgoals.refresh(self._model)

    def keep(self, rows: Tensor) -> None:
        self._b = len(rows)
        self._sights = [[each(lambda value: value[rows], sight) for sight in sights] for sights in self._sights]
        self._past = [each(lambda value: value[rows], past) for past in self._past]
        for route in self._routes:
            if route is not None:
                route.keep(rows)
        if self.subgoals is not None:
            self.subgoals.keep(rows)
        for monitor in self.monitors:
            monitor.keep(rows)

    @property
    def _route(self) -> Route | None:
        return self._routes[self._at]

    def _move_on(self, state: State) -> None:
        """To the next goals, and to the next stage where it is time."""
        if self._route is not None:
            self._route.move_on(self._model, state)
        while self._at < len(self._stages) - 1 and self._stage_done():
            self._at, self._spent = self._at + 1, 0
            if self._route is not None:
                self._route.look(self._model, state)

    def _stage_done(self) -> bool:
        """All rows are done with the last leg of this stage."""
        last, route = self._stages[self._at][-1], self._route
        if route is None:
            return last.steps is not None and self._spent >= last.steps
        return bool(route.finished(last.steps, last.near).all())

    def _watched(
        self, setting: Setting, route: Route, state: State, decided: Decision | None, futures: Sequence[Imagined]
    ) -> Setting:
        """With what the monitors change of it."""
        if not self.monitors:
            return setting
        if decided is not None and self._horizon is None:
            self._horizon = decided.actions.shape[1]
        way = ahead(self._model, futures, route.goal)
        view = View(self._model, state, route, way, self._looks, self._horizon, tuple(self._past))
        for monitor in self.monitors:
            setting = monitor.watch(view, setting)
        self._past = [*self._past[-PAST + 1 :], state]
        return setting


def _kind(leg: Leg) -> tuple[bool, tuple[tuple[str, float], ...]]:
    """Legs of one kind make one stage: goals that follow each other under the same weights."""
    return leg.goal is not None, tuple(sorted(leg.weights.items()))


def _stages(legs: Sequence[Leg]) -> list[list[Leg]]:
    """What is without a goal is a stage of its own, for all worlds go on from it together."""
    found: list[list[Leg]] = []
    for leg in legs:
        if found and leg.goal is not None and _kind(found[-1][-1]) == _kind(leg):
            found[-1].append(leg)
        else:
            found.append([leg])
    return found


def _route(model: WorldModel, stage: Sequence[Leg], sights: Sequence[Obs]) -> Route | None:
    goals, before = [model.encode(sight) for sight in sights], stage[:-1]
    return Route(goals, [leg.steps for leg in before], [leg.near for leg in before]) if goals else None


def _tells_reward(model: WorldModel, state: State) -> bool:
    try:
        model.prospects(state)
    except UserError:
        return False
    return True
