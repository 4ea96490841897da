"""`Explanation`: what an agent believed, wanted, imagined, expected to cost and chose in one world, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from innerworld.agent.energies import to_goal
from innerworld.agent.modules import Decision, Imagined, Judge, Setting

MODES = {1: "it reacted, without a search (Mode-1)", 2: "it searched (Mode-2)"}
SAME = 1e-3  # share of a cost below which a difference is not worth a word


@dataclass(frozen=True)
class Explanation:
    """Plain values of one decision in one world; `str` of it are sentences for a human."""

    row: int
    time: int  # the agent's steps since the episode began
    surprise: float | None  # energy between what was predicted and what was seen; none: nothing was predicted
    blind: bool  # a sensor was missing: part of the belief was predicted
    closest: float | None  # least energy to the goal so far, 1: as it began; none: there is no goal
    mode: int  # 1: the policy reacted, 2: the planner searched
    action: Sequence[float]  # of the first step, action units
    choice: int | None  # the same where actions are choices, counted from 0
    horizon: int  # steps of the plan
    evaluations: int  # candidates that were imagined for it
    expected: float  # cost of the plan
    still: float  # cost of standing still (or of the safe action) for as long
    parts: Mapping[str, float]  # of `expected`, by term and unit
    still_parts: Mapping[str, float]
    goal_now: float | None  # energy to the goal of what is believed; none: there is no goal
    goal_energy: Sequence[float]  # energy to the goal after each imagined step; empty without a goal
    history: Sequence[float]  # best cost after each round of the search
    breach: float  # by how much the plan crosses guardrails under the model
    degraded: bool  # no plan was found that may be done: the last good one goes on, or the safe action is done
    why: Sequence[str]  # what the configurator noticed, and what went wrong

    def as_dict(self) -> dict[str, Any]:
        """For JSON, the report and the studio."""
        return asdict(self)

    def words(self) -> dict[str, str]:
        """What was believed, wanted, imagined, expected, chosen and noticed, each in a few words."""
        told = {
            "Believed": _believed(self),
            "Wanted": _wanted(self),
            "Imagined": _imagined(self),
            "Expected": _expected(self),
            "Chosen": _chosen(self),
        }
        return told | ({"Noticed": "; ".join(self.why)} if self.why else {})

    def __str__(self) -> str:
        sentences = (f"{name}: {told}." for name, told in self.words().items())
        return "\n".join([f"Step {self.time} in world {self.row}: {MODES[self.mode]}.", *sentences])


def explained(
    row: int,
    time: int,
    decision: Decision,
    setting: Setting,
    cost: Judge,
    plan: Sequence[Imagined],
    still: Sequence[Imagined],
    sensed: tuple[Tensor, Tensor, Tensor],
    trouble: Sequence[str],
) -> Explanation:
    """Explain `decision` in world `row`. `plan` and `still` are what it and standing still were imagined to lead to
    (n = 1, each of all worlds); `sensed` are surprise, blindness and the closest approach of every world, each `b`."""
    surprise, blind, closest = (value[row].item() for value in sensed)
    parts, still_parts = (
        {name: value[row, 0].item() for name, value in cost.parts(futures, setting.weights).items()}
        for futures in (plan, still)
    )
    expected, standing = (cost.cost(futures, setting.weights)[row, 0].item() for futures in (plan, still))
    search, action = decision.plan, decision.actions[row, 0]
    now, way = _energies(plan[0], row)
    return Explanation(
        row,
        time,
        _known(surprise),
        bool(blind),
        _known(closest),
        int(decision.mode[row].item()),
        action.tolist(),
        int(action.argmax()) if plan[0].model.spec.discrete else None,
        decision.actions.shape[1],
        0 if search is None else search.evaluations,
        expected,
        standing,
        parts,
        still_parts,
        now,
        way,
        [] if search is None else search.history[row].tolist(),
        cost.breach(plan)[row, 0].item(),
        bool(decision.degraded[row].item()),
        [*([setting.why[row]] if setting.why and setting.why[row] else []), *trouble],
    )


def _known(value: float) -> float | None:
    return value if value == value else None


@torch.no_grad()
def _energies(future: Imagined, row: int) -> tuple[float | None, list[float]]:
    """To the goal: now, and after each imagined step."""
    if future.goal is None:
        return None, []
    states = {name: value[row : row + 1, 0] for name, value in future.states.items()}  # 1 h ...
    here, goal = ({name: value[name][row : row + 1] for name in states} for value in (future.start, future.goal))
    return future.model.energy(here, goal).item(), to_goal(future.model, states, goal, 2)[0].tolist()


def _believed(told: Explanation) -> str:
    seen = "part of what it should see was missing, and is predicted" if told.blind else "it saw all that it should"
    if told.surprise is None:
        return f"{seen}; there was no prediction to compare it with"
    return f"{seen}; its surprise, the energy between what it had predicted and what it saw, is {told.surprise:.3g}"


def _wanted(told: Explanation) -> str:
    if told.goal_now is None:
        return "no goal to come to, but as little cost as can be"
    far = f"to come to the goal, which is an energy of {told.goal_now:.3g} away"
    if told.closest is None or told.time == 0:
        return far
    if told.closest >= 1:
        return f"{far}; it has never been nearer than it was at first"
    return f"{far}; the nearest that it was is {_share(told.closest)} of the energy at first"


def _imagined(told: Explanation) -> str:
    if told.evaluations:
        words = f"{told.evaluations:,} plans of {told.horizon} steps"
    else:
        words = f"what {told.horizon} step{'s' if told.horizon > 1 else ''} of its reaction lead to"
    if told.goal_energy:
        least = min(range(len(told.goal_energy)), key=told.goal_energy.__getitem__)
        words += (
            f"; what it chose is nearest to the goal after {least + 1}, an energy of {told.goal_energy[least]:.3g} away"
        )
    if len(told.history) > 1 and told.history[0] - told.history[-1] > SAME * abs(told.history[0]):
        first, last = told.history[0], told.history[-1]
        words += f"; {len(told.history)} rounds of search made the best one cheaper, from {first:.4g} to {last:.4g}"
    return words


def _expected(told: Explanation) -> str:
    gain = told.still - told.expected
    verdict = "less" if gain > 0 else "more"
    if abs(gain) <= SAME * abs(told.still):
        verdict = "no less"
    words = f"{told.expected:.4g} for a step of it, which is {verdict} than doing nothing would cost ({told.still:.4g})"
    if len(told.parts) == 1:
        return f"{words}; all of it is {next(iter(told.parts))}"
    terms = (f"{name} {value:.4g} ({told.still_parts.get(name, 0):.4g})" for name, value in told.parts.items())
    return f"{words}; term by term {', '.join(terms)}"


def _chosen(told: Explanation) -> str:
    values = ", ".join(f"{value:+.2f}" for value in told.action)
    action = f"({values})" if told.choice is None else f"choice {told.choice}"
    if told.degraded:
        lack = f"{action}, for want of a plan that may be done: the last good one goes on, else this is the safe action"
        return lack + (
            f"; even this crosses a guardrail by {told.breach:.3g} under the model" if told.breach > 0 else ""
        )
    if told.breach > 0:
        return f"{action}, although the plan crosses a guardrail by {told.breach:.3g} under the model"
    if told.mode == 1:
        return f"{action}, for its policy was sure"
    return f"{action}, the first step of the cheapest plan"


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.095 else f"{value:.1%}"
