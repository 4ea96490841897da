"""`AgentConfig`: how an agent acts, whatever its modules are; and what of that has to fit the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from innerworld.agent.cost.terms import Shape
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import Constraint, Limits
from innerworld.plan.constraints import each_step, free
from innerworld.types import Spec


class AgentConfig(Config):
    shape: Shape = Field(default="mean", description="which imagined steps count: last, mean, or ramp (0.1 to 1)")
    power: float = Field(
        default=0.05, description="exponent of the energy in the cost: 1 as it is, near 0 least time", gt=0
    )
    every: int = Field(default=1, description="count every k-th imagined step only; saves where energy is dear", ge=1)
    execute: int = Field(default=1, description="steps of a plan that are executed before planning anew", ge=1)
    limits: Limits = Field(default=Limits(), description="what a robot may be told beside [-1, 1]; continuous only")
    via_steps: tuple[int, ...] = Field(
        default=(), description="steps for each goal on the way before going on to the next, environment steps"
    )
    via_energy: float | None = Field(
        default=None, description="energy to a goal on the way below which to go on to the next; null: none", gt=0
    )
    deadline_s: float | None = Field(
        default=None, description="longest that an answer may take, seconds; null: as long as the search wants", gt=0
    )
    safe: tuple[float, ...] = Field(
        default=(), description="action where there is no other answer, action units; none: zeros, or choice 0"
    )
    strict: bool = Field(default=False, description="raise what goes wrong in act; else it is told, and made safe")


def check_steps(config: AgentConfig, horizon: int) -> None:
    """Raise `UserError` where more steps are wanted than the plans of an actor have."""
    for name, steps in (("execute", config.execute), ("every", config.every)):
        if steps > horizon:
            raise UserError(f"{name}={steps} is beyond the plan's {horizon} steps")


def constraints(limits: Limits, spec: Spec, block: int) -> tuple[Constraint, Constraint]:
    """What is allowed of an action while it is searched, and what is made of it in the end. Raises `UserError`."""
    limits.check(primitive(spec, block))
    constrain, finish = each_step(limits.constraint(), block), each_step(limits.finish(), block)
    if spec.discrete and not (constrain is free and finish is free):
        raise UserError("choices cannot be constrained: limits are for continuous actions")
    return constrain, finish


def primitive(spec: Spec, block: int) -> int:
    """The size of one action of a block. Raises `UserError` where the model's actions are no blocks of so many."""
    if block < 1 or spec.action % block or (spec.discrete and block > 1):
        kind = "choices" if spec.discrete else "numbers"
        raise UserError(f"block={block} does not fit: the model's action, {spec.action} {kind}, is no block of {block}")
    return spec.action // block


def safe_action(safe: Sequence[float], spec: Spec, block: int) -> Tensor:
    """The safe action of a whole block, `1 1 (k a)`."""
    action = torch.zeros(spec.action // block)
    if safe:
        if len(safe) != len(action) or not all(abs(number) <= 1 for number in safe):
            raise UserError(f"safe={tuple(safe)} is no action: give {len(action)} numbers in [-1, 1]")
        if spec.discrete and sorted(safe) != sorted([1.0] + [0.0] * (len(action) - 1)):
            raise UserError(f"safe={tuple(safe)} is no choice: give {len(action)} numbers, one of them 1, the others 0")
        action = torch.tensor(safe)
    elif spec.discrete:
        action[0] = 1  # the first choice
    return action.repeat(block)[None, None]
