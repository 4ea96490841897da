"""The six modules as an agent knows them: what each is asked, so that any of them can be replaced by a class of yours.

The names are those of A Path Towards Autonomous Machine Intelligence (LeCun 2022), figure 2: perception, short-term
memory, world model, cost, actor, configurator. Row i always stands for world i; `keep` goes on with some rows only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from innerworld.plan import Constraint, Cost, Plan
from innerworld.types import Clip, Obs, State, each
from innerworld.world import WorldModel


@dataclass(frozen=True)
class Imagined:
    """One plausible future of every candidate, as the cost sees it."""

    model: WorldModel  # that imagined it, and can read it
    start: State  # b ...      what is believed now
    states: State  # b n h ...  after each action; may lack what only going on needs
    actions: Tensor  # b n h a
    goal: State | None = None  # b ...      what is pursued, as this model believes it

    def rows(self, rows: Tensor) -> Imagined:
        """Of some worlds (indices)."""
        start, states, goal = (_rows(value, rows) for value in (self.start, self.states, self.goal))
        assert start is not None and states is not None
        return Imagined(self.model, start, states, self.actions[rows], goal)


@dataclass(frozen=True)
class Moment:
    """One step of every world, as short-term memory keeps it."""

    time: int  # steps of the agent since the episode began
    features: Tensor  # b d   of the belief (`WorldModel.features`)
    action: Tensor  # b a   what was chosen then
    cost: Tensor  # b     intrinsic cost of being there
    foreseen: Tensor  # b     intrinsic cost of being there as it was imagined one step ago; NaN: it was not
    surprise: Tensor  # b     energy between what was predicted and what was seen; NaN: nothing was predicted
    sight: Tensor | None = None  # b   number of what was seen then (`Learner.now`), -1: none; None: nobody learns


@dataclass(frozen=True)
class Setting:
    """What the configurator has set for the next plan.

    `weights`, `horizon` and `effort` are those of the whole batch, for all candidates of all worlds are imagined at
    once: with one world that is to look farther, all do. Goals, `anew` and `asks` are each world's own.
    """

    goal: State | None  # b ...   what to pursue; none where the task is no goal but a reward or a region
    weights: Mapping[str, float] = field(default_factory=dict)  # of the cost's terms, by name; one left out keeps its
    horizon: int | None = None  # steps of the plan, of all worlds alike; none: as many as the planner has
    effort: float = 1.0  # share of the search's usual rounds, of all worlds alike; above 1: more of them
    anew: Tensor | None = None  # b bool   rows that search from scratch, their last plan led nowhere
    asks: Tensor | None = None  # b bool   rows that ask for help
    why: Sequence[str] = ()  # what the monitors noticed, of each row a sentence or ""

    def rows(self, rows: Tensor) -> Setting:
        """Of some worlds (indices)."""
        anew, asks = (None if value is None else value[rows] for value in (self.anew, self.asks))
        why = [self.why[int(i)] for i in rows] if self.why else ()
        return replace(self, goal=_rows(self.goal, rows), anew=anew, asks=asks, why=why)


@dataclass(frozen=True)
class Situation:
    """What an actor decides on."""

    model: WorldModel
    state: State  # b ...
    setting: Setting
    cost: Cost  # candidates b n h a -> b n, over all plausible futures, with the critic and barriers of guardrails
    surprise: Tensor  # b   as of `Perception`
    deadline: float | None  # time.perf_counter() by which there must be an answer, seconds
    constrain: Constraint  # what is allowed of an action


@dataclass(frozen=True)
class Decision:
    """What to do from here on."""

    actions: Tensor  # b h a
    degraded: Tensor  # b bool   no answer could be found in time, or none that is finite: go on with the last plan
    mode: Tensor  # b        1: a policy reacted, 2: a planner searched
    plan: Plan | None = None  # of the search, where there was one
    spare: Tensor | None = None  # b h a   the best candidate that was tried, in case the decision breaks a guardrail;
    #                                      NaN in rows of which none has a finite cost: the safe action is in its place

    def rows(self, rows: Tensor) -> Decision:
        """Of some worlds (indices)."""
        spare, plan = None if self.spare is None else self.spare[rows], self.plan
        if plan is not None:
            plan = Plan(plan.actions[rows], plan.cost[rows], plan.history[rows], plan.evaluations)
        return Decision(self.actions[rows], self.degraded[rows], self.mode[rows], plan, spare)


Believed = Callable[[Tensor], Tensor]
"""Numbers of sights `n` → their features as the model makes them now, `n d`; NaN where a sight is forgotten."""


class Perception(Protocol):
    """Sensors → a belief."""

    state: State  # b ...
    surprise: Tensor  # b        energy between what was predicted and what was seen; NaN before the second look
    blind: Tensor  # b bool   a sensor was missing or not finite: what is believed was, at least in part, predicted

    def begin(self, obs: Obs) -> None:
        """What is seen first in every world, each `b ...`."""

    def look(self, obs: Obs, action: Tensor) -> None:
        """What is seen after `action`, `b a`. A sensor may be missing, or be NaN in some rows; {}: it came too late."""

    def refresh(self, clip: Clip, rows: Tensor) -> None:
        """The model's weights have changed (asked only where there is a learner): believe anew what was seen up to now,
        along `clip`, in these worlds (indices)."""

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the worlds only (indices)."""


class Memory(Protocol):
    """Past beliefs, actions, costs and predictions."""

    def begin(self, b: int) -> None:
        """An episode begins in `b` worlds; what earlier ones left may stay."""

    def pursue(self, goal: Tensor) -> None:
        """What is pursued from here on: its features, `b d`."""

    def remember(self, moment: Moment) -> None: ...

    def recall(self, last: int) -> Sequence[Moment]:
        """The last moments of this episode, oldest first; fewer where there are no more."""
        ...

    def refresh(self, version: int, again: Believed) -> None:
        """The model's weights have changed (asked only where there is a learner). Where `version` rose, features mean
        something else: those that were remembered before are stale, and `again` gives those of now."""

    def keep(self, rows: Tensor) -> None: ...


class Foresight(Protocol):
    """The world model as a source of plausible futures."""

    def __call__(self, state: State, actions: Tensor, goal: State | None) -> Sequence[Imagined]:
        """Candidates `b n h a` → one or more futures of all of them, equally likely."""
        ...


class Judge(Protocol):
    """The cost: what is wrong with a future."""

    @property
    def bounded(self) -> bool:
        """Are there hard bounds at all? (To check them takes time.)"""
        ...

    def cost(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> Tensor:
        """`b n`: intrinsic terms and critic over all futures; no guardrails. Lower is better; infinite: never."""
        ...

    def breach(self, futures: Sequence[Imagined]) -> Tensor:
        """`b n`: by how much the hard bounds of guardrails are crossed, 0 where they hold."""
        ...

    def now(self, model: WorldModel, state: State, goal: State | None, action: Tensor) -> Tensor:
        """`b`: intrinsic cost of a belief, and of the action `b a` that led there."""
        ...

    def parts(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> dict[str, Tensor]:
        """The summands of `cost` by name with unit, each `b n`."""
        ...


@runtime_checkable
class Named(Protocol):
    """A judge whose terms have names, by which a task sets weights of them. One without names takes none."""

    @property
    def names(self) -> Sequence[str]: ...


class Actor(Protocol):
    """What to do."""

    horizon: int  # steps of a decision

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None:
        """An episode begins in `b` worlds, the first of which is number `first` of all that share the seed."""

    def decide(self, situation: Situation) -> Decision: ...

    def done(self, steps: int, decided: Tensor) -> None:
        """So many steps of the decision `b h a` will be done before the next one."""

    def keep(self, rows: Tensor) -> None: ...


class Configurator(Protocol):
    """What is wanted, and how hard to try."""

    @property
    def closest(self) -> Tensor:
        """`b`: least energy to the goal so far relative to where it began; NaN: nothing was seen yet, or no goal."""
        ...

    @property
    def watches(self) -> bool:
        """Does it look at what the last decision was imagined to lead to? (That takes time.)"""
        ...

    def begin(self, task: Any, model: WorldModel, state: State, seed: int, first: int) -> None:
        """A task for every world (`configurator/tasks.py`), and the belief that they begin with, each `b ...`. The
        first world is number `first` of all that share the seed. Raises `UserError` for a task that the model cannot
        serve."""

    def look(self, state: State) -> None:
        """What is believed now: note progress."""

    def set(self, state: State, memory: Memory, decided: Decision | None, futures: Sequence[Imagined]) -> Setting:
        """Before each plan: what it pursues and how. `decided` and `futures` are the last decision and what it was
        imagined to lead to then (n = 1); none at first, and no futures where it does not `watch`."""
        ...

    def spend(self, steps: int) -> None: ...

    def refresh(self, state: State) -> None:
        """The model's weights have changed (asked only where there is a learner): believe the goals anew; `state` is
        what is believed now."""

    def keep(self, rows: Tensor) -> None: ...


class Learner(Protocol):
    """Learning on the job: what is told of every step while the agent acts."""

    updates: int  # how often the weights have changed: what was believed with others is believed anew
    eyes: int  # how often the features of one and the same sight have changed with them: at most as often

    @property
    def now(self) -> Tensor:
        """Numbers `b` of the sights that came last, -1 where none was kept."""
        ...

    def believed(self, sights: Tensor) -> Tensor:
        """Features `n d` of what the model believes now of sights by their numbers `n`; NaN of those not kept."""
        ...

    def begin(self, obs: Obs) -> None:
        """What is seen first in every world."""

    def notice(self, obs: Obs, action: Tensor) -> None:
        """What is seen after `action`, `b a`, as the world gave it."""

    def lately(self) -> tuple[Clip, Tensor]:
        """What was seen up to now, of the worlds (indices) that saw something just now: for `Perception.refresh`."""
        ...

    def keep(self, rows: Tensor) -> None: ...


def _rows(state: State | None, rows: Tensor) -> State | None:
    return None if state is None else each(lambda value: value[rows], state)
