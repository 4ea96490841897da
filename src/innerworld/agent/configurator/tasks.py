"""What can be wanted: a goal, a reward, a region, weighted terms of the cost, one thing after another, or a sentence.

A task lays itself out as legs: stretches in each of which one thing is wanted. A class with a method `legs` is a task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from innerworld.agent.configurator.phrases import Phrases
from innerworld.agent.configurator.route import check_via
from innerworld.errors import UserError, nearest
from innerworld.types import Obs, Spec

REWARD = "reward"
"""The name of the cost's term for the reward that a model tells."""


@dataclass(frozen=True)
class Leg:
    """What is wanted until the next leg begins: after so many `steps`, or with an energy to the goal below `near`."""

    goal: Obs | None = None  # b ...
    weights: Mapping[str, float] = field(default_factory=dict)  # of the cost's terms, by name
    steps: int | None = None  # of the environment
    near: float | None = None


@dataclass(frozen=True)
class Asked:
    """For whom a task lays itself out."""

    spec: Spec  # of the model
    b: int  # worlds
    via_steps: tuple[int, ...] = ()  # of each goal on the way, environment steps
    via_energy: float | None = None  # to a goal on the way, below which to go on
    phrases: Phrases | None = None  # what sentences mean
    terms: Sequence[str] | None = None  # that the cost has; none: unknown
    rewarded: Callable[[], bool] = lambda: True  # the model tells a reward


@runtime_checkable
class Task(Protocol):
    """Something that can be wanted."""

    def legs(self, asked: Asked) -> list[Leg]:
        """At least one. Raises `UserError` where the model, or the configurator, cannot serve this task."""
        ...


@dataclass(frozen=True)
class Reach:
    """Come to what is seen in `goal`, each `b ...`, by way of other goals, one after another.

    `DirectorConfig.via_steps` and `via_energy` say when to go on from a goal on the way.
    """

    goal: Obs
    via: Sequence[Obs] = ()

    def legs(self, asked: Asked) -> list[Leg]:
        for what, seen in (("the goal", self.goal), *(("a goal on the way", goal) for goal in self.via)):
            check_goal(asked.spec, seen, asked.b, what)
        if not self.via:
            return [Leg(self.goal)]
        check_via(len(self.via), asked.via_steps, asked.via_energy)
        steps = asked.via_steps or (None,) * len(self.via)
        on_the_way = [Leg(goal, steps=n, near=asked.via_energy) for goal, n in zip(self.via, steps, strict=True)]
        return [*on_the_way, Leg(self.goal)]


@dataclass(frozen=True)
class Maximise:
    """Earn as much as can be of the reward that the model tells."""

    weight: float = 1.0

    def legs(self, asked: Asked) -> list[Leg]:
        if not asked.rewarded():
            raise UserError("the model tells no reward to maximise: give a goal, or a model that was taught rewards")
        return Weighted({REWARD: self.weight}).legs(asked)


@dataclass(frozen=True)
class Weighted:
    """Other weights for terms of the cost, by name; of `task`, or for their own sake."""

    weights: Mapping[str, float]
    task: Task | None = None

    def legs(self, asked: Asked) -> list[Leg]:
        if not self.weights and self.task is None:
            raise UserError("a weighted task names no term: give weights, for example {'effort': 0.1}, or a task")
        check_terms(asked, list(self.weights))
        for name, weight in self.weights.items():
            if not math.isfinite(weight):
                raise UserError(f"the weight of {name!r} is {weight}: it must be finite")
        inner = self.task.legs(asked) if self.task is not None else [Leg()]
        return [replace(leg, weights={**leg.weights, **self.weights}) for leg in inner]


@dataclass(frozen=True)
class Stay:
    """Stay in the region whose leaving the cost's term `region` charges; meanwhile do `task`, if there is one."""

    region: str
    weight: float = 1.0
    task: Task | None = None

    def legs(self, asked: Asked) -> list[Leg]:
        return _of_region(self.region, self.weight, self.task, asked)


@dataclass(frozen=True)
class Avoid:
    """Keep out of the region whose entering the cost's term `region` charges; meanwhile do `task`, if there is one."""

    region: str
    weight: float = 1.0
    task: Task | None = None

    def legs(self, asked: Asked) -> list[Leg]:
        return _of_region(self.region, self.weight, self.task, asked)


@dataclass(frozen=True)
class Steps:
    """Tasks one after another, each of which has a limit of environment steps, or a milestone: an energy to its goal.

    `limits` has an entry for each task but the last, none for one without a limit; `near` is the milestone of them all.
    Where only goals follow each other, a world goes on by itself; where the weights change, all go on together.
    """

    tasks: Sequence[Task]
    limits: Sequence[int | None] = ()
    near: float | None = None

    def legs(self, asked: Asked) -> list[Leg]:
        if not self.tasks:
            raise UserError("steps of a task are empty: give at least one task")
        limits = [*(self.limits or [None] * (len(self.tasks) - 1)), None]
        if len(limits) != len(self.tasks):
            raise UserError(
                f"limits for {len(limits) - 1} tasks, but {len(self.tasks) - 1} come before the last: one for each"
            )
        found: list[Leg] = []
        for i, (task, limit) in enumerate(zip(self.tasks, limits, strict=True)):
            *before, last = task.legs(asked)
            if i < len(self.tasks) - 1:
                last = replace(last, steps=limit, near=self.near if last.goal is not None else None)
                if last.steps is None and last.near is None:
                    raise UserError(f"when is task {i + 1} of {len(self.tasks)} done? give limits, or near for goals")
            found += [*before, last]
        return found


@dataclass(frozen=True)
class Say:
    """Do what a sentence says: one for all worlds, or one for each. It means the nearest goal that is known."""

    sentence: str | Sequence[str]

    def legs(self, asked: Asked) -> list[Leg]:
        if asked.phrases is None:
            raise UserError("a sentence means nothing yet: give the configurator phrases, goals that have names")
        sentences = [self.sentence] * asked.b if isinstance(self.sentence, str) else list(self.sentence)
        if len(sentences) != asked.b:
            raise UserError(f"{len(sentences)} sentences for {asked.b} worlds: give one, or one for each world")
        goal = asked.phrases.meant(sentences)
        check_goal(asked.spec, goal, asked.b, "the goal that is meant")
        return [Leg(goal)]


def check_sight(spec: Spec, seen: Obs, b: int, what: str) -> None:
    """Raise `UserError` unless `seen`, each `b ...`, has the sensors of `spec`."""
    for name, shape in spec.obs.items():
        if name not in seen:
            raise UserError(f"{what} lacks the sensor {name!r}; there are: {', '.join(seen)}")
        if not isinstance(seen[name], Tensor):
            kind = type(seen[name]).__name__
            raise UserError(f"{what}: sensor {name!r} is of type {kind}: give tensors, for example torch.from_numpy(x)")
        if tuple(seen[name].shape) != (b, *shape):
            found = tuple(seen[name].shape)
            raise UserError(f"{what}: sensor {name!r} has shape {found}, the model was taught with {(b, *shape)}")


def check_goal(spec: Spec, seen: Obs, b: int, what: str) -> None:
    """Raise `UserError` unless `seen`, each `b ...`, has the sensors of `spec`, and finite numbers: nothing can come
    nearer to what is not finite."""
    check_sight(spec, seen, b, what)
    for name in spec.obs:
        if not seen[name].is_floating_point():
            continue
        wrong = int((~seen[name].flatten(1).isfinite().all(dim=1)).sum())
        if wrong:
            raise UserError(f"{what}: sensor {name!r} is not finite in {wrong} of {b} worlds: give finite numbers")


def check_terms(asked: Asked, names: Sequence[str]) -> None:
    """Raise `UserError` for a term that the cost is known not to have."""
    for name in names:
        if asked.terms is not None and name not in asked.terms:
            near = nearest(name, list(asked.terms))
            raise UserError(f"the cost has no term {name!r}.{near} There are: {', '.join(asked.terms) or 'none'}")


def _of_region(region: str, weight: float, task: Task | None, asked: Asked) -> list[Leg]:
    if weight <= 0:
        raise UserError(f"the weight of region {region!r} is {weight}: it must be above 0, or the region is ignored")
    return Weighted({region: weight}, task).legs(asked)
