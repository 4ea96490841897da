"""The intrinsic terms of the cost: what is wrong with a step, each with a name and a unit, none of which ever changes.

They are what A Path Towards Autonomous Machine Intelligence (LeCun 2022, §3.2) calls the intrinsic cost: immutable, so
that nothing that is learnt can argue them away.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from innerworld.agent.cost.readout import Reading, columns
from innerworld.agent.cost.regions import Region, read
from innerworld.agent.energies import to_goal
from innerworld.agent.modules import Imagined
from innerworld.errors import UserError
from innerworld.types import each
from innerworld.world import flatten

Shape = Literal["last", "mean", "ramp"]
"""Which imagined steps count: the last one, all alike, or rising from 0.1 to 1 as in PLDM (arXiv 2502.14819)."""


@dataclass(frozen=True, kw_only=True)
class Term(ABC):
    """What a step of a future costs. Subclass once, as a frozen dataclass, with a name and a unit."""

    name: str
    unit: str
    weight: float = 1.0  # cost units for one of its own
    shape: Shape = "mean"  # how its steps are summed, see `weights`
    discount: float = 1.0  # of the weight, from each step to the next

    def __post_init__(self) -> None:
        if not 0 < self.discount <= 1:
            raise UserError(f"the discount of {self.name!r} is {self.discount}: above 0, at most 1")

    @property
    def pursues(self) -> bool:
        """Does it need a goal? Without one it is not asked then."""
        return False

    @abstractmethod
    def __call__(self, future: Imagined) -> Tensor:
        """The cost of each step `b n h` in the term's unit; fewer where only some of the steps are looked at."""

    def total(self, future: Imagined) -> Tensor:
        """The weighted mean over the steps, before the term's own weight: `b n`."""
        return self.summed(self(future))

    def summed(self, steps: Tensor) -> Tensor:
        """Steps `b n h` → `b n`."""
        return steps @ weights(self.shape, steps.shape[2], steps, self.discount)


@dataclass(frozen=True)
class GoalEnergy(Term):
    """How far from the goal: the model's energy to the `power`, of each `every`-th step.

    The exponent decides about detours, see `cost.goal_cost`. Unit: the model's energy to the power.
    """

    power: float = 0.05
    every: int = 1
    name: str = field(default="goal", kw_only=True)
    unit: str = field(default="energy^power", kw_only=True)

    @property
    def pursues(self) -> bool:
        return True

    def __call__(self, future: Imagined) -> Tensor:
        energy = energies(future, min(self.every, future.actions.shape[2]))  # of a short plan at least its end
        smallest = torch.finfo(energy.dtype).tiny  # the root of zero has no gradient
        return energy.clamp_min(smallest).pow(self.power)


@dataclass(frozen=True)
class Effort(Term):
    """The mean square of the action's numbers. Unit: 1 is full force in every dimension."""

    name: str = field(default="effort", kw_only=True)
    unit: str = field(default="action²", kw_only=True)

    def __call__(self, future: Imagined) -> Tensor:
        return future.actions.square().mean(dim=-1)


@dataclass(frozen=True)
class Jerk(Term):
    """The mean square of an action's change from the one before; the first step of a plan has none.

    Unit: 4 is from one end to the other in every dimension.
    """

    name: str = field(default="jerk", kw_only=True)
    unit: str = field(default="action²", kw_only=True)

    def __call__(self, future: Imagined) -> Tensor:
        actions = future.actions
        before = torch.cat([actions[:, :, :1], actions[:, :, :-1]], dim=2)
        return (actions - before).square().mean(dim=-1)


@dataclass(frozen=True)
class Forbidden(Term):
    """A region to stay out of: 1 at its border and more the deeper inside, so that a search finds the way out.

    Inside it is 1 plus the depth, outside it falls to 0 over the `margin`, which is 0 if not given; the margin and the
    depth are in the region's unit. A region that answers with booleans costs 1 inside. `Guardrail(Forbidden(disc), 0)`
    forbids region and margin, a bound of 1 the region alone.
    """

    region: Region
    margin: float = 0.0
    name: str = field(default="forbidden", kw_only=True)
    unit: str = field(default="1 at the border", kw_only=True)

    def __call__(self, future: Imagined) -> Tensor:
        distance = self.region(future)  # b n h
        if distance.dtype == torch.bool:
            return distance.to(future.actions.dtype)
        near = (1 - distance / self.margin).clamp(min=0) if self.margin else torch.zeros_like(distance)
        return torch.where(distance < 0, 1 - distance, near)


@dataclass(frozen=True)
class JointLimits(Term):
    """How far quantities of a reading are beyond their bounds, summed. Unit: that of the reading."""

    reading: Reading
    limits: tuple[tuple[str, float, float], ...]  # name, lowest, highest
    name: str = field(default="joints", kw_only=True)
    unit: str = field(default="the reading's", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        columns(self.reading, [name for name, _, _ in self.limits])
        for name, low, high in self.limits:
            if low >= high:
                raise UserError(f"the limits of {name!r} are {low} to {high}: the first must be below the second")

    def __call__(self, future: Imagined) -> Tensor:
        at = read(self.reading, future, tuple(name for name, _, _ in self.limits))  # b n h k
        low, high = (at.new_tensor([limit[i] for limit in self.limits]) for i in (1, 2))
        return ((low - at).clamp(min=0) + (at - high).clamp(min=0)).sum(dim=-1)


@dataclass(frozen=True)
class Reward(Term):
    """What the model says is not earned: minus its reward (`WorldModel.prospects`). Unit: the world's reward."""

    name: str = field(default="reward", kw_only=True)
    unit: str = field(default="−reward", kw_only=True)

    def __call__(self, future: Imagined) -> Tensor:
        return -_prospects(future, 0)


@dataclass(frozen=True)
class End(Term):
    """The chance that the world ends at this step: 1 − continue (`WorldModel.prospects`)."""

    name: str = field(default="end", kw_only=True)
    unit: str = field(default="chance", kw_only=True)

    def __call__(self, future: Imagined) -> Tensor:
        return 1 - _prospects(future, 1) / future.model.discount()


def weights(shape: Shape, horizon: int, like: Tensor, discount: float = 1.0) -> Tensor:
    """The weight of each imagined step, `h`, summing to one."""
    if shape == "last":
        weight = like.new_zeros(horizon)
        weight[-1] = 1
        return weight
    rising = torch.linspace(0.1, 1, horizon, dtype=like.dtype, device=like.device)
    weight = rising if shape == "ramp" else like.new_ones(horizon)
    if discount < 1:
        weight = weight * discount ** torch.arange(horizon, dtype=like.dtype, device=like.device)
    return weight / weight.sum()


def energies(future: Imagined, every: int = 1) -> Tensor:
    """The model's energy to the goal after each `every`-th step: `b n h`. Raises `UserError` without a goal."""
    if future.goal is None:
        raise UserError("there is no goal to be far from: give the task one, or this term a weight of 0")
    states = each(lambda value: value[:, :, every - 1 :: every], future.states)  # b n h ...
    return to_goal(future.model, states, future.goal, 3)


def _prospects(future: Imagined, which: int) -> Tensor:
    """Reward (0) or chance to go on (1) after every step: `b n h`."""
    states = future.model.bare(flatten(future.states, 3))
    return future.model.prospects(states)[which].unflatten(0, future.actions.shape[:3])
