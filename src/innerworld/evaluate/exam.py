"""An exam: all that a question may use of one taught model, the answer that it gives, and what a question is.

Nothing here knows a family. What only a recipe can make (worlds, tasks, the agent of a run) is handed in as functions,
which raise `UserError` where there is no such thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from pydantic import Field

from innerworld.agent import Agent
from innerworld.config import Config
from innerworld.data import Clips, Store
from innerworld.evaluate.control import GoalWorlds, Tasks
from innerworld.types import Clip
from innerworld.world import WorldModel


class ExamConfig(Config):
    """How much is asked. The same for all who are compared."""

    clips: int = Field(default=128, description="held-out clips that prediction and the like are measured on", ge=2)
    horizons: tuple[int, ...] = Field(default=(1, 2, 4, 8, 16), description="steps ahead that are asked about")
    context: int = Field(default=0, description="steps that it watches before it must say what will come", ge=0)
    episodes: int = Field(default=100, description="episodes that a probe is fitted on, and measured on, at most", ge=2)
    goals: int = Field(default=20, description="goals to be reached", ge=2)
    budget: int = Field(default=50, description="steps for each goal", ge=1)
    pairs: int = Field(default=40, description="pairs of films of each principle", ge=2)
    principles: tuple[str, ...] = Field(
        default=("permanence", "continuity", "solidity"), description="principles that the films break"
    )


@dataclass(frozen=True)
class Lab:
    """What is made late, and only for who asks. Each raises `UserError` where the data's world has no such thing."""

    untaught: Callable[[], WorldModel]
    """the same family and settings with weights as they are drawn"""
    agent: Callable[[WorldModel], Agent]
    """the agent that searches in a model (the one asked, or the oracle) as the comparison says"""
    goal_worlds: Callable[[int], GoalWorlds]
    """n worlds that can begin at a state and tell whether a goal is reached; closed after the exam"""
    tasks: Callable[[GoalWorlds], Tasks]
    """a start and a goal for each of these worlds, of held-out episodes; the same for all of one seed"""
    oracle: Callable[[GoalWorlds], WorldModel | None]
    """the true dynamics of these worlds as a model; None where they are not told"""
    worlds: Callable[[int], VectorEnv]
    """n worlds as those that the data was collected in; closed after the exam"""
    once: Callable[[str, Callable[[], dict[str, float]]], dict[str, float]]
    """numbers of that name that are the same for every model of this world and seed: found once, then remembered"""
    varied: Mapping[str, Callable[[int], VectorEnv]] = field(default_factory=dict)
    """the same with one factor changed that training never changed, by its name (colour, door, ...); may be empty"""


@dataclass(frozen=True)
class Exam:
    """One taught model, its data, and where chance comes from. `learn` and `held_out` are numbers of episodes."""

    model: WorldModel
    store: Store
    learn: NDArray[np.int64]
    held_out: NDArray[np.int64]
    length: int  # actions of a clip that it was taught with
    lab: Lab
    frame_skip: int = 1  # steps of the data that are one of the model's
    seed: int = 0
    config: ExamConfig = field(default_factory=ExamConfig)

    @property
    def sensors(self) -> tuple[str, ...]:
        """What the model sees."""
        return tuple(self.model.spec.obs)

    @property
    def longest(self) -> int:
        """How many of the model's steps the longest held-out episode has."""
        return int(self.store.lengths[self.held_out].max()) // self.frame_skip

    def knows_state(self) -> bool:
        """Does the data tell the true state, as one vector?"""
        return len(self.store.spec.obs.get("state", ())) == 1

    def clip(self, length: int, n: int | None = None, sensors: Sequence[str] | None = None) -> Clip:
        """`n` held-out clips of `length` of the model's steps, with all sensors (or these); the same for one seed.

        Raises `UserError` where no held-out episode is so long.
        """
        count = self.config.clips if n is None else n
        chosen = None if sensors is None else list(sensors)
        return Clips(self.store, self.held_out, length, count, self.seed, self.frame_skip, chosen).batch(0)


@dataclass(frozen=True)
class Along:
    """One number that changes along something: points (x, y) under the names of their axes, with units.

    To compare with, where there is something: a `level` under its name, or the points of `others`, that do not depend
    on the model.
    """

    x: str
    y: str
    points: tuple[tuple[float, float], ...]
    level: float | None = None
    level_name: str = ""
    others: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came of a question. `skipped` says why it does not apply, and then there are no numbers."""

    metrics: dict[str, float]
    skipped: str = ""
    curves: dict[str, Along] = field(default_factory=dict)  # for charts, by their titles
    films: dict[str, list[tuple[str, NDArray[Any]]]] = field(default_factory=dict)  # by caption: panels, t y x c uint8


def skip(reason: str) -> Answer:
    """The answer of a question that does not apply."""
    return Answer({}, reason)


@dataclass(frozen=True)
class Question:
    """Something to be asked of a taught model. A `UserError` or any other error of `ask` is a failure of that model."""

    name: str
    asks: str  # one line, a question
    headline: str  # the metric that ranks
    higher: bool  # is more of it better
    unit: str  # what the headline is, with its unit
    ask: Callable[[Exam], Answer]
    floor: float | None = None  # the headline of who knows nothing, where that is known
    bounds: Mapping[str, str] = field(default_factory=dict)  # metrics of others, the same for every model: name it
    beside: Mapping[str, str] = field(default_factory=dict)  # metrics to be read beside the headline: what each is
