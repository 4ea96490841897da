"""The cost: what is wrong with the futures of a plan: intrinsic terms that never change, and a critic that learns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from innerworld import plan
from innerworld.agent.cost.guardrail import Guardrail, barrier
from innerworld.agent.cost.strangeness import Disagreement
from innerworld.agent.cost.terms import GoalEnergy, Shape, Term, weights
from innerworld.agent.foresight.futures import OneFuture, copies
from innerworld.agent.modules import Foresight, Imagined, Judge
from innerworld.errors import UserError, nearest
from innerworld.types import State
from innerworld.world import WorldModel, flatten

__all__ = ["LARGEST", "Cost", "Critic", "Shape", "goal_cost", "judged", "weights"]

LARGEST = 2**28
"""Numbers in the beliefs that are imagined at once: beliefs of many tokens would not find room for all candidates."""

CRITIC = "critic"
"""Its name among the weights."""


class Critic(Protocol):
    """What intrinsic cost is still to come where a plan ends, as learnt from memory (`critic.TrainableCritic`)."""

    def value(self, features: Tensor, goal: Tensor | None = None) -> Tensor:
        """Features of beliefs `b n d`, and of what is pursued `b d` → the sum of the costs that come after, `b n`."""
        ...


@dataclass(frozen=True)
class Cost:
    """The weighted sum of intrinsic terms and, where the plan ends, of a critic, over all plausible futures.

    Terms are means over the plan's steps. The critic knows a sum, of all that comes after: it is divided by the plan's
    steps, so that both count a step alike. Without a goal a term that needs one is not asked.

    `over` says what counts of the futures: their mean, the worst, or a quantile (0.9: nine in ten are no worse).
    Nothing of it can be changed once it is made; only the critic learns, and the configurator sets weights by name.
    """

    terms: tuple[Term, ...]
    guardrails: tuple[Guardrail, ...] = ()
    critic: Critic | None = None
    over: Literal["mean", "worst"] | float = "mean"

    def __post_init__(self) -> None:
        for name, kind in (("terms", Term), ("guardrails", Guardrail)):
            given = tuple(self.terms if name == "terms" else self.guardrails)
            if wrong := [each for each in given if not isinstance(each, kind)]:
                raise UserError(f"cost: {wrong[0]!r} is no {kind.__name__.lower()}: make one, for example Effort()")
            object.__setattr__(self, name, given)  # a list could be changed
        names = self.names
        if twice := {name for name in names if names.count(name) > 1}:
            raise UserError(f"cost: two terms are called {min(twice)!r}: give one of them another name=")
        if isinstance(self.over, str) and self.over not in ("mean", "worst"):
            raise UserError(f"cost: over={self.over!r}: mean, worst, or a quantile between 0 and 1")
        if not isinstance(self.over, str) and not 0 < self.over < 1:
            raise UserError(f"cost: over={self.over}: a quantile lies between 0 and 1, beside mean and worst")

    @property
    def names(self) -> list[str]:
        """What a task can set weights of."""
        return [term.name for term in self.terms] + ([] if self.critic is None else [CRITIC])

    def cost(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> Tensor:
        """`b n`: what the futures cost, without guardrails. Raises `UserError` for weights of terms it lacks."""
        costs = [_sum(*found) for found in zip(self._each(futures, weights), futures, strict=True)]  # each b n
        if len(costs) == 1:
            return costs[0]
        each = torch.stack(costs)  # f b n
        return each.mean(dim=0) if self.over == "mean" else _pick(each, self._which(each))

    def parts(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> dict[str, Tensor]:
        """The summands of `cost` by name with unit, each `b n`; of the future that counts, or their mean."""
        found = self._each(futures, weights)
        each = torch.stack([_sum(*one) for one in zip(found, futures, strict=True)])  # f b n
        which = None if self.over == "mean" else self._which(each)
        units = {term.name: f"{term.name} [{term.unit}]" for term in self.terms} | {CRITIC: f"{CRITIC} [cost to come]"}
        summands = {name: torch.stack([parts[name] for parts in found]) for name in found[0]}
        return {
            units[name]: value.mean(dim=0) if which is None else _pick(value, which) for name, value in summands.items()
        }

    def breach(self, futures: Sequence[Imagined]) -> Tensor:
        """`b n`: by how much the bounds of guardrails are crossed, summed over them; 0 where all hold."""
        if not self.guardrails:
            return futures[0].actions.new_zeros(futures[0].actions.shape[:2])
        return torch.stack([rail.breach(futures) for rail in self.guardrails]).sum(dim=0)

    @property
    def bounded(self) -> bool:
        """Are there guardrails?"""
        return bool(self.guardrails)

    def breaches(self, futures: Sequence[Imagined]) -> dict[str, Tensor]:
        """By how much each guardrail's bound is crossed, each `b n`, by name with unit and bound."""
        return {
            f"{rail.term.name} ≤ {rail.bound:g} [{rail.term.unit}]": rail.breach(futures) for rail in self.guardrails
        }

    def now(self, model: WorldModel, state: State, goal: State | None, action: Tensor) -> Tensor:
        """`b`: the intrinsic cost of a belief and of the action `b a` that led there; without a goal, of the rest."""
        states = {name: value[:, None, None] for name, value in state.items()}
        here = Imagined(model, state, states, action[:, None, None], goal)  # one candidate, one step
        asked = [term for term in self.terms if term.weight and (goal is not None or not term.pursues)]
        return _sum({term.name: term.weight * term.total(here) for term in asked}, here)[:, 0]

    def _each(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> list[dict[str, Tensor]]:
        """The weighted terms of each future, each `b n`. A term without weight is not asked."""
        asked = self._asked(weights, futures[0].goal)
        among = {term.name: term.summed(term.among(futures)) for term, _ in asked if isinstance(term, Disagreement)}
        critic = weights.get(CRITIC, 1.0)
        found = []
        for future in futures:
            parts = {
                term.name: weight * (among[term.name] if term.name in among else term.total(future))
                for term, weight in asked
            }
            if self.critic is not None and critic:
                parts[CRITIC] = critic * _to_come(self.critic, future)
            found.append(parts)
        return found

    def _asked(self, weights: Mapping[str, float], goal: State | None) -> list[tuple[Term, float]]:
        """The terms that have a weight, and it. Raises `UserError` where only a goal is missing to have any."""
        self._check(weights)
        wanted = [(term, weights.get(term.name, term.weight)) for term in self.terms]
        wanted = [(term, weight) for term, weight in wanted if weight]
        asked = [(term, weight) for term, weight in wanted if goal is not None or not term.pursues]
        if wanted and not asked and self.critic is None:
            raise UserError(f"the task has no goal, and the cost no other term than {wanted[0][0].name!r}: add one")
        return asked

    def _which(self, each: Tensor) -> Tensor:
        """The future that counts for each candidate, of costs `f b n`: `b n`."""
        order = torch.where(each.isnan(), torch.inf, each).argsort(dim=0)
        at = len(each) - 1 if isinstance(self.over, str) else math.ceil(self.over * len(each) - 1e-9) - 1
        return order[at]

    def _check(self, weights: Mapping[str, float]) -> None:
        known = self.names
        for name, value in weights.items():
            if name not in known:
                raise UserError(f"the cost has no term {name!r}.{nearest(name, known)} It has: {', '.join(known)}")
            if not math.isfinite(value):
                raise UserError(f"the weight of {name!r} is {value}: it must be finite")


def judged(
    foresight: Foresight,
    judge: Judge,
    state: State,
    goal: State | None,
    weights: Mapping[str, float] = {},
) -> plan.Cost:
    """What a planner searches with: candidates `b n h a` → `b n`, the cost of their futures with the barrier of hard
    bounds; `state` and `goal` each `b ...`. Large beliefs are imagined for some of the candidates at a time."""
    believed = state if goal is None else goal
    belief = copies(foresight) * sum(value[0].numel() for value in believed.values())  # numbers, of each step

    def cost(actions: Tensor) -> Tensor:
        nonlocal belief
        steps = actions.shape[0] * actions.shape[2]  # of one candidate in every world
        costs, done = [], 0
        while done < actions.shape[1]:
            at_once = max(1, LARGEST // (steps * belief))
            futures = foresight(state, actions[:, done : done + at_once], goal)
            value = judge.cost(futures, weights)
            costs.append(barrier(value, judge.breach(futures)) if judge.bounded else value)
            # All parts of a belief were counted until the first are seen: those that only going on needs may be absent.
            belief = sum(value[0, 0, 0].numel() for future in futures for value in future.states.values())
            done += at_once
        return torch.cat(costs, dim=1)

    return cost


def goal_cost(
    model: WorldModel, state: State, goal: State, shape: Shape = "mean", power: float = 1.0, every: int = 1
) -> plan.Cost:
    """How far from the `goal` does each candidate lead? `state` and `goal` each `b ...`; candidates `b n h a` → `b n`.

    The cost is the weighted sum over the imagined steps of energy to the `power`. The exponent decides about detours:
    with 1 or 1/2 (squared and plain distance) the way around a wall, which first leads away, costs more than to stay
    where it is near, and no search can mend that. Near 0 the cost approaches the logarithm, every step that is not at
    the goal costs nearly the same, and the cheapest plan is the one that arrives first. With `every` = k only each k-th
    imagined step is looked at.
    """
    return judged(OneFuture(model), Cost((GoalEnergy(power, every, shape=shape),)), state, goal)


def _sum(parts: Mapping[str, Tensor], future: Imagined) -> Tensor:
    """The sum of what is wrong with a future, `b n`; zeros where nothing was asked."""
    if not parts:
        return future.actions.new_zeros(future.actions.shape[:2])
    first, *rest = parts.values()
    for value in rest:
        first = first + value
    return first


def _to_come(critic: Critic, future: Imagined) -> Tensor:
    """The critic's word on the last step, for each step of the plan: `b n`."""
    model, (b, n, h) = future.model, future.actions.shape[:3]
    last = flatten({name: value[:, :, -1] for name, value in future.states.items()}, 2)
    goal = None if future.goal is None else model.features(model.bare(future.goal))
    return critic.value(model.features(model.bare(last)).unflatten(0, (b, n)), goal) / h


def _pick(each: Tensor, which: Tensor) -> Tensor:
    """Of `f b n` the one that `which` `b n` says."""
    return each.gather(0, which[None])[0]
