"""Actors that need not search: `Reflex` reacts (Mode-1), `TwoModes` reacts where it may and searches where it must.

The two modes are those of A Path Towards Autonomous Machine Intelligence (LeCun 2022), §3.1.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Generator, Tensor

from innerworld.agent.actor.react import BeliefPolicy
from innerworld.agent.modules import Decision, Situation
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import Cost, Plan, generators, shift
from innerworld.policy.habit import Habit
from innerworld.types import Spec, State, each
from innerworld.world import WorldModel

FORGETS = 0.9  # what is left of the time that a search took, each time that it was too long to be tried


@runtime_checkable
class Divisible(Protocol):
    """A `Cost` that can be asked about some worlds only."""

    def among(self, rows: Tensor) -> Cost:
        """Candidates `r n h a` of these rows (indices) → `r n`."""
        ...


class Searches(Protocol):
    """Mode-2 as `TwoModes` needs it: an `Actor` that can search in some of its worlds only."""

    horizon: int

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None: ...

    def decide(self, situation: Situation, rows: Tensor | None = None, start: Tensor | None = None) -> Decision:
        """`situation` is that of its `rows` (indices, r of them; none: all). With a `start` `r h a` the search begins
        there, warm, instead of at the rest of the last plan; a row that is to begin anew begins cold all the same."""
        ...

    def done(self, steps: int, decided: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None: ...


class Reflex:
    """Mode-1: do what the policy says. The first step takes one forward pass, later ones are dreamt with the model.

    A habit is told the goal; any other `policy` is a function of the belief, for tasks without one. An agent that
    executes several steps of a decision needs a `horizon` of as many. `noise` is the deviation of noise on the first of
    them, in action units: a policy that always does the same may stand still beside its goal for ever. Raises
    `UserError` for noise on choices.
    """

    def __init__(self, policy: Habit | BeliefPolicy, spec: Spec, horizon: int = 1, noise: float = 0.0) -> None:
        if noise and spec.discrete:
            raise UserError("noise is for continuous actions, these are choices: leave it out")
        self.policy, self.spec, self.horizon, self.noise = policy, spec, horizon, noise

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None:
        self._rng: list[Generator] = generators(seed, first + b, device)[first:] if self.noise else []

    def decide(self, situation: Situation) -> Decision:
        return self.advise(situation)[0]

    @torch.no_grad()
    def advise(self, situation: Situation) -> tuple[Decision, Tensor]:
        """What to do, and how uncertain the habit is of that, `b`; another policy is never in doubt.

        Raises `UserError` where the habit needs a goal that is not there.
        """
        model, state, goal = situation.model, situation.state, situation.setting.goal
        first, doubt = self._advise(model, state, self._goal(model, goal))
        actions = first[:, None]
        if self.horizon > 1:
            actions = self.dream(model, state, goal, self.horizon)
        actions = situation.constrain(self._noisy(actions))
        lost = ~actions.flatten(1).isfinite().all(dim=1)
        actions = torch.where(lost[:, None, None], still(actions, self.spec), actions)
        return Decision(actions, lost, torch.ones_like(doubt)), doubt

    @torch.no_grad()
    def dream(self, model: WorldModel, state: State, goal: State | None, horizon: int) -> Tensor:
        """What it would do, imagining what comes of that: `b h a`."""
        aim = self._goal(model, goal)
        return model.dream(state, lambda belief: self._advise(model, belief, aim)[0], horizon)[1]

    def done(self, steps: int, decided: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None:
        if self.noise:
            self._rng = [self._rng[int(row)] for row in rows]

    def _noisy(self, actions: Tensor) -> Tensor:
        """Actions `b h a` with noise on the first one, each row's its own."""
        if not self.noise:
            return actions
        draws = [torch.empty_like(actions[0, 0]).normal_(generator=rng) for rng in self._rng]
        first = (actions[:, 0] + self.noise * torch.stack(draws)).clamp(-1, 1)
        return torch.cat([first[:, None], actions[:, 1:]], dim=1)

    def _goal(self, model: WorldModel, goal: State | None) -> Tensor | None:
        return None if goal is None or not isinstance(self.policy, Habit) else model.features(goal)

    def _advise(self, model: WorldModel, state: State, goal: Tensor | None) -> tuple[Tensor, Tensor]:
        if isinstance(self.policy, Habit):
            return self.policy.advise(model.features(model.bare(state)), goal)
        action = self.policy(state)
        return action, action.new_zeros(len(action))


class TwoModesConfig(Config):
    uncertainty: float = Field(
        default=0.2, description="of the habit, from which on a row searches, action units (see `Habit.advise`)", ge=0
    )
    surprise: float | None = Field(
        default=None, description="energy of the last surprise from which on a row searches; null: any is usual", gt=0
    )
    warm: bool = Field(default=True, description="whether a search begins with what the habit dreams of doing")


class TwoModes:
    """Each row by itself reacts where the habit is sure and the last surprise was usual, else it searches.

    A row whose last plan led nowhere (`Setting.anew`) searches. Where the time until the deadline is shorter than the
    last search took, or a search came too late, all react. Rows that search are selected out of the batch: the others
    cost nothing. `searched` says which did last.
    """

    searched: Tensor  # b bool

    def __init__(self, reflex: Reflex, searcher: Searches, config: TwoModesConfig = TwoModesConfig()) -> None:
        self.reflex, self.searcher, self.config = reflex, searcher, config
        self.horizon = min(reflex.horizon, searcher.horizon)  # a decision of both modes is as long as the search's
        self._took_s = 0.0  # the last search

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None:
        self.reflex.begin(b, seed, first, device)
        self.searcher.begin(b, seed, first, device)
        self.searched = torch.ones(b, dtype=torch.bool, device=device)  # nobody's plan is stale yet

    def decide(self, situation: Situation) -> Decision:
        reaction, doubt = self.reflex.advise(situation)
        wants = self._wants(situation, doubt) | reaction.degraded
        stale, self.searched = ~self.searched, wants & self._in_time(situation, wants)
        rows = self.searched.nonzero()[:, 0]
        if not len(rows):
            return reaction
        began = time.perf_counter()
        found = self._search(among(situation, rows), rows, stale[rows])
        self._took_s = time.perf_counter() - began
        self.searched = self.searched.index_put((rows,), ~found.degraded)
        return self._joined(reaction, found, rows)

    def done(self, steps: int, decided: Tensor) -> None:
        self.searcher.done(steps, decided)

    def keep(self, rows: Tensor) -> None:
        self.reflex.keep(rows)
        self.searcher.keep(rows)
        self.searched = self.searched[rows]

    def _wants(self, situation: Situation, doubt: Tensor) -> Tensor:
        """Which rows should search, if there is time: `b`."""
        wants = doubt >= self.config.uncertainty
        if self.config.surprise is not None:
            wants = wants | (situation.surprise >= self.config.surprise)  # NaN, before the second look, is none
        anew = situation.setting.anew
        return wants if anew is None else wants | anew

    def _in_time(self, situation: Situation, wants: Tensor) -> bool:
        if situation.deadline is None or not bool(wants.any()):
            return True
        if time.perf_counter() + self._took_s <= situation.deadline:
            return True
        self._took_s *= FORGETS  # or one slow search would be the last one for ever
        return False

    def _search(self, situation: Situation, rows: Tensor, stale: Tensor) -> Decision:
        """Rows whose last plan is `stale`, for they have reacted since, do not begin with it."""
        setting = situation.setting
        if self.config.warm:
            h = setting.horizon or self.searcher.horizon
            dreamt = self.reflex.dream(situation.model, situation.state, setting.goal, h)
            lost = ~dreamt.flatten(1).isfinite().all(dim=1)
            dreamt = torch.where(lost[:, None, None], still(dreamt, self.reflex.spec), dreamt)
            return self.searcher.decide(situation, rows, shift(dreamt, 0, self.reflex.spec.discrete))
        anew = stale if setting.anew is None else stale | setting.anew
        return self.searcher.decide(replace(situation, setting=replace(setting, anew=anew)), rows)

    def _joined(self, reaction: Decision, found: Decision, rows: Tensor) -> Decision:
        """What was `found` for some rows in time, among the reactions of all."""
        searched, use, rows = rows, ~found.degraded, rows[~found.degraded]
        h = found.actions.shape[1]
        actions = longer(reaction.actions, h, self.reflex.spec)

        def put(into: Tensor, values: Tensor) -> Tensor:
            return into.index_put((rows,), values[use].to(into.dtype))

        joined = put(actions, found.actions)
        plan = found.plan
        if plan is not None:
            unknown = actions.new_full((len(actions),), torch.nan)
            history = unknown[:, None].expand(-1, plan.history.shape[1])
            plan = Plan(joined, put(unknown, plan.cost), put(history, plan.history), plan.evaluations)
        spare = found.spare  # of those that came too late as well: a reaction may break a guardrail
        if spare is not None:
            spare = actions.index_put((searched,), spare.to(actions.dtype))
        degraded = put(reaction.degraded, torch.zeros_like(found.degraded))
        return Decision(joined, degraded, put(reaction.mode, found.mode), plan, spare)


def among(situation: Situation, rows: Tensor) -> Situation:
    """The same of some rows only (indices). A cost that is not `Divisible` is asked of all rows, and some answers are
    thrown away."""
    cost = situation.cost
    return replace(
        situation,
        state=each(lambda value: value[rows], situation.state),
        setting=situation.setting.rows(rows),
        cost=cost.among(rows) if isinstance(cost, Divisible) else _divided(cost, len(situation.surprise), rows),
        surprise=situation.surprise[rows],
    )


def longer(actions: Tensor, horizon: int, spec: Spec) -> Tensor:
    """Actions `b h a`, after which it stands still until the `horizon`; cut where they are longer."""
    missing = horizon - actions.shape[1]
    if missing <= 0:
        return actions[:, :horizon]
    rest = still(actions[:, :1].expand(-1, missing, -1), spec)
    return torch.cat([actions, rest], dim=1)


def still(actions: Tensor, spec: Spec) -> Tensor:
    """Actions `... a` that do as little as possible: zero, or choice 0."""
    rest = torch.zeros_like(actions)
    if spec.discrete:
        rest[..., 0] = 1
    return rest


def _divided(cost: Cost, b: int, rows: Tensor) -> Cost:
    def asked(actions: Tensor) -> Tensor:
        everyone = actions.new_zeros(b, *actions.shape[1:]).index_put((rows,), actions)
        return cost(everyone)[rows]

    return asked
