"""What may be done in the end: a plan that holds, else the cheapest candidate that does, else the safe action."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from innerworld.agent.modules import Imagined, Judge
from innerworld.types import State

Imagine = Callable[[Tensor], Sequence[Imagined]]
"""What plans `b h a` lead to (n = 1)."""


def held(
    judge: Judge, imagine: Imagine, actions: Tensor, futures: Sequence[Imagined], spare: Tensor | None, still: Tensor
) -> tuple[Tensor, Tensor, Sequence[Imagined]]:
    """The plans `b h a`, but the `spare` one where a plan crosses a hard bound under the model, standing `still` where
    that does, too, and what crosses least where all do; rows `b` that have no plan that holds; and what comes of it.
    `futures` are what the plans lead to."""
    breach = judge.breach(futures)[:, 0]
    if not bool((breach > 0).any()):
        return actions, breach > 0, futures
    if spare is not None:
        actions, breach = _safer(judge, imagine, actions, breach, torch.where(broken(spare), still, spare))
    unsafe = breach > 0
    actions, _ = _safer(judge, imagine, actions, breach, still)
    return actions, unsafe, imagine(actions)


def broken(plans: Tensor) -> Tensor:
    """Which plans `b h a` are not finite: `b 1 1` bool."""
    return ~plans.isfinite().all(dim=2, keepdim=True).all(dim=1, keepdim=True)


def aimless(goal: State) -> Tensor:
    """Rows `b` bool whose goal, each `b ...`, is not finite: nothing can be nearer to it."""
    floats = [value for value in goal.values() if value.is_floating_point()]
    lost = torch.zeros(len(next(iter(goal.values()))), dtype=torch.bool, device=next(iter(goal.values())).device)
    for value in floats:
        lost = lost | ~value.flatten(1).isfinite().all(dim=1)
    return lost


def _safer(judge: Judge, imagine: Imagine, actions: Tensor, breach: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row the plan `b h a` that crosses less, the first where both do alike; and by how much it does."""
    others = judge.breach(imagine(other))[:, 0]
    less = others < breach
    return torch.where(less[:, None, None], other, actions), torch.where(less, others, breach)
