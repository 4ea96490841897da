"""`what_if`: two futures that share one past, what differs between them step by step, and what each would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from innerworld.agent.cost.readout import Reading
from innerworld.agent.energies import to_goal
from innerworld.agent.foresight.futures import OneFuture
from innerworld.agent.modules import Foresight, Imagined, Judge
from innerworld.errors import UserError
from innerworld.types import Spec, State, each
from innerworld.world import WorldModel, flatten

TOLD = {"reward": "reward", "continue": "chance to go on"}  # what a model tells beside sensors


@dataclass(frozen=True)
class Branch:
    """One of the two futures, as plain values; a sequence has an entry for each imagined step."""

    goal: Sequence[float] = ()  # energy to the goal; empty without one
    reward: Sequence[float] = ()  # empty where the model tells none
    goes_on: Sequence[float] = ()  # chance of it, likewise
    readings: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by name, in their own units
    cost: float | None = None  # none: nobody judges
    parts: Mapping[str, float] = field(default_factory=dict)  # of the cost, by term and unit
    breach: float = 0.0  # by how much it crosses guardrails


@dataclass(frozen=True)
class WhatIf:
    """What differs between two futures; `str` of it are sentences for a human."""

    steps: int
    apart: Sequence[float]  # energy between the two imagined beliefs after each step
    sensors: Mapping[str, Sequence[float]]  # mean difference of what is decoded; of pictures as a share of full scale
    a: Branch
    b: Branch

    def as_dict(self) -> dict[str, Any]:
        """For JSON, the report and the studio."""
        return asdict(self)

    def __str__(self) -> str:
        told = [_parting(self), _goals(self), _costs(self), *_outlooks(self), *_readings(self), _sights(self)]
        return "\n".join(sentence for sentence in told if sentence)


@torch.no_grad()
def what_if(
    model: WorldModel,
    state: State,
    actions_a: Tensor,
    actions_b: Tensor,
    *,
    goal: State | None = None,
    judge: Judge | None = None,
    weights: Mapping[str, float] = {},
    readings: Sequence[Reading] = (),
    foresight: Foresight | None = None,
) -> WhatIf:
    """Imagine actions A and B, each `h a`, from one belief (b = 1), and tell what differs.

    Where a `foresight` gives several futures, both meet the same luck, and all but the cost (which the judge takes over
    all futures as it does in a plan) is the mean over them. Raises `UserError` for actions that do not fit it.
    """
    actions = _both(model.spec, actions_a, actions_b).to(next(iter(state.values())).device)
    futures = (foresight or OneFuture(model))(state, actions[None], goal)
    sights = [_decoded(future) for future in futures]
    # What not every future tells, as in an ensemble of several families, is left out.
    names = set.intersection(*(set(sight) for sight in sights))
    told = {name: torch.stack([sight[name] for sight in sights]).float() for name in sorted(names)}  # f 2 h ...
    branches = (_branch(which, futures, told, goal, judge, weights, readings) for which in (0, 1))
    apart = torch.stack([_apart(future) for future in futures]).mean(dim=0)
    sensors = {
        name: (value[:, 0] - value[:, 1]).abs().flatten(2).mean(dim=(0, 2)).tolist()
        for name, value in told.items()
        if name not in TOLD
    }
    return WhatIf(actions.shape[1], apart.tolist(), sensors, *branches)


def _both(spec: Spec, a: Tensor, b: Tensor) -> Tensor:
    """`2 h a`, checked."""
    for name, actions in (("A", a), ("B", b)):
        if actions.ndim != 2 or actions.shape[1] != spec.action or not len(actions):
            raise UserError(f"actions {name} have shape {tuple(actions.shape)}, expected (steps, {spec.action})")
        if spec.discrete:
            if not bool(((actions == 0) | (actions == 1)).all() and (actions.sum(dim=1) == 1).all()):
                raise UserError(f"actions {name} are no choices: each step is one-hot of {spec.action}")
        elif not bool((actions.abs() <= 1 + 1e-6).all()):
            raise UserError(f"actions {name} leave [-1, 1], or are no numbers: scale or clip them first")
    if len(a) != len(b):
        raise UserError(f"A has {len(a)} steps and B {len(b)}: cut the longer one, futures are compared step by step")
    return torch.stack([a, b.to(a)]).float()


def _decoded(future: Imagined) -> dict[str, Tensor]:
    """What the model tells of both: each `2 h ...`."""
    steps = future.actions.shape[2]
    bare = future.model.bare(flatten(each(lambda value: value[0], future.states), 2))
    return {name: value.unflatten(0, (2, steps)) for name, value in future.model.decode(bare).items()}


def _apart(future: Imagined) -> Tensor:
    """Energy between A and B after each step: `h`."""
    a, b = (each(lambda value, which=which: value[0, which], future.states) for which in (0, 1))
    return future.model.energy(a, b)


def _branch(
    which: int,
    futures: Sequence[Imagined],
    told: Mapping[str, Tensor],
    goal: State | None,
    judge: Judge | None,
    weights: Mapping[str, float],
    readings: Sequence[Reading],
) -> Branch:
    own = [_only(future, which) for future in futures]
    outlook = {name: told[name][:, which].mean(dim=0).tolist() if name in told else [] for name in TOLD}
    cost, parts, breach = None, {}, 0.0
    if judge is not None:
        cost = judge.cost(own, weights).item()
        parts = {name: value.item() for name, value in judge.parts(own, weights).items()}
        breach = judge.breach(own).item() if judge.bounded else 0.0
    read = {}
    for reading in readings:
        values = torch.stack([reading(one.model, flatten(one.states, 3)) for one in own]).mean(dim=0)  # h k
        read |= {name: values[:, k].tolist() for k, name in enumerate(reading.names)}
    way = [] if goal is None else torch.stack([_to_goal(one) for one in own]).mean(dim=0).tolist()
    return Branch(way, outlook["reward"], outlook["continue"], read, cost, parts, breach)


def _only(future: Imagined, which: int) -> Imagined:
    states = each(lambda value: value[:, which : which + 1], future.states)
    return Imagined(future.model, future.start, states, future.actions[:, which : which + 1], future.goal)


def _to_goal(future: Imagined) -> Tensor:
    """Energy to the goal after each step, `h`."""
    assert future.goal is not None
    return to_goal(future.model, future.states, future.goal, 3)[0, 0]


# ---------------------------------------------------------------------- in words


def _parting(told: WhatIf) -> str:
    far = max(range(told.steps), key=told.apart.__getitem__)
    if told.apart[far] == 0:
        return f"A and B: {told.steps} steps from the same moment, which lead to the very same beliefs."
    sentence = (
        f"A and B: {told.steps} steps from the same moment; after the first they are {told.apart[0]:.3g} (energy)"
    )
    sentence += f" apart, after the last {told.apart[-1]:.3g}"
    return f"{sentence}." if far == told.steps - 1 else f"{sentence}, at most {told.apart[far]:.3g} (step {far + 1})."


def _goals(told: WhatIf) -> str:
    if not told.a.goal:
        return ""
    near = [min(range(told.steps), key=way.__getitem__) for way in (told.a.goal, told.b.goal)]
    ways = zip("AB", (told.a.goal, told.b.goal), near, strict=True)
    return (
        "Goal: " + ", ".join(f"{name} is nearest after step {k + 1}, {way[k]:.3g} away" for name, way, k in ways) + "."
    )


def _costs(told: WhatIf) -> str:
    if told.a.cost is None or told.b.cost is None:
        return ""
    names = dict.fromkeys([*told.a.parts, *told.b.parts])
    terms = ", ".join(f"{name} {told.a.parts.get(name, 0):.4g} / {told.b.parts.get(name, 0):.4g}" for name in names)
    cheaper = "they cost the same"
    if told.a.cost != told.b.cost:
        cheaper = f"{'A' if told.a.cost < told.b.cost else 'B'} is cheaper"
    sentence = f"Cost of a step, A / B: {told.a.cost:.4g} / {told.b.cost:.4g}, {cheaper} ({terms})."
    for name, branch in (("A", told.a), ("B", told.b)):
        sentence += f" {name} crosses a guardrail by {branch.breach:.3g}." if branch.breach > 0 else ""
    return sentence


def _outlooks(told: WhatIf) -> list[str]:
    found = []
    if told.a.reward:
        found.append(f"Reward told, A / B: {sum(told.a.reward):.4g} / {sum(told.b.reward):.4g} in all.")
    if told.a.goes_on:
        least = (min(branch.goes_on) for branch in (told.a, told.b))
        found.append("Chance to go on at its least, A / B: " + " / ".join(f"{value:.0%}" for value in least) + ".")
    return found


def _readings(told: WhatIf) -> list[str]:
    return [
        f"{name} at the end, A / B: {values[-1]:.4g} / {told.b.readings[name][-1]:.4g}."
        for name, values in told.a.readings.items()
    ]


def _sights(told: WhatIf) -> str:
    found = [f"{name} by {values[-1]:.3g}" for name, values in told.sensors.items() if values[-1]]
    return f"Seen at the end they differ: {', '.join(found)} on average." if found else ""
