"""What actions are allowed: plain functions that a planner applies to every candidate, and a robot's as one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.errors import UserError

Constraint = Callable[[Tensor], Tensor]
"""Actions `... a` → allowed ones of the same shape, each step by itself; what is allowed already stays as it is."""


def free(actions: Tensor) -> Tensor:
    """No constraint but the bounds that all actions have."""
    return actions


def l1_ball(radius: float, dims: Sequence[int]) -> Constraint:
    """The nearest action whose sizes along `dims` add up to at most `radius` (Duchi et al. 2008, fig. 1).

    The largest step of V-JEPA 2-AC's robot is bounded so (arXiv 2506.09985, appendix B).
    """

    def constrain(actions: Tensor) -> Tensor:
        size = actions[..., dims].abs()  # ... k
        largest = size.sort(dim=-1, descending=True).values
        above = largest.cumsum(dim=-1) - radius
        count = torch.arange(1, len(dims) + 1, dtype=size.dtype, device=size.device)
        kept = (largest * count > above).sum(dim=-1, keepdim=True).clamp(min=1)
        excess = above.gather(-1, kept - 1) / kept
        shrunk = (size - excess.clamp(min=0)).clamp(min=0)
        return _with(actions, dims, actions[..., dims].sign() * shrunk)

    return constrain


def l2_ball(radius: float, dims: Sequence[int]) -> Constraint:
    """The nearest action whose length along `dims` is at most `radius`, as in eb_jepa and PLDM."""

    def constrain(actions: Tensor) -> Tensor:
        length = actions[..., dims].norm(dim=-1, keepdim=True)
        return _with(actions, dims, actions[..., dims] * (radius / length.clamp(min=radius)))

    return constrain


def clip(reach: Sequence[float]) -> Constraint:
    """Dimension i within [-reach[i], reach[i]]."""
    return lambda actions: torch.minimum(torch.maximum(actions, -actions.new_tensor(reach)), actions.new_tensor(reach))


def fixed(values: Mapping[int, float]) -> Constraint:
    """These dimensions always have these values."""
    dims = list(values)
    return lambda actions: _with(actions, dims, actions.new_tensor(list(values.values())).expand_as(actions[..., dims]))


def gripper(dim: int, threshold: float, full: float | None = None) -> Constraint:
    """A gripper that rests (0) below the `threshold`; above it does as told or, with `full`, that much either way.

    For the action that is done, not for the search, as in V-JEPA 2-AC: a candidate's gripper may be anything between.
    """

    def constrain(actions: Tensor) -> Tensor:
        told = actions[..., [dim]]
        moved = told if full is None else told.sign() * full
        return _with(actions, [dim], torch.where(told.abs() < threshold, 0, moved))

    return constrain


def chain(*constraints: Constraint) -> Constraint:
    """One after another. What a later one does must not break an earlier one: the ball after the clip, for example."""

    def constrain(actions: Tensor) -> Tensor:
        for each in constraints:
            actions = each(actions)
        return actions

    return constrain


def each_step(constraint: Constraint, k: int) -> Constraint:
    """The constraint for each of the `k` actions that a block `... (k a)` joins."""
    if k == 1 or constraint is free:
        return constraint
    return lambda blocks: rearrange(
        constraint(rearrange(blocks, "... (k a) -> ... k a", k=k)), "... k a -> ... (k a)", k=k
    )


class Limits(Config):
    """What a robot may be told, as one value; an action unit is whatever 1 stands for in the data."""

    presets: ClassVar[dict[str, Limits]] = {}

    reach: tuple[float, ...] = Field(default=(), description="largest size of each dimension, action units; none: 1")
    ball: float | None = Field(
        default=None, description="largest ball_norm of an action along ball_dims, action units; null: any", gt=0
    )
    ball_norm: Literal["l1", "l2"] = Field(default="l1", description="l1: sum of the sizes; l2: length")
    ball_dims: tuple[int, ...] = Field(default=(0, 1, 2), description="dimensions that the ball is over")
    still: tuple[int, ...] = Field(default=(), description="dimensions that are always 0, as a robot's rotation")
    gripper: int | None = Field(default=None, description="dimension of the gripper; null: none")
    gripper_rests: float = Field(
        default=0.25, description="size below which the gripper is not moved at all, action units", ge=0
    )
    gripper_snaps: bool = Field(default=False, description="whether the gripper is only opened or closed fully")

    def check(self, a: int) -> None:
        """Raise `UserError` unless these are limits of actions of size `a`."""
        if self.reach and len(self.reach) != a:
            raise UserError(f"limits.reach has {len(self.reach)} sizes, an action has {a}: give one for each dimension")
        named = [*(self.ball_dims if self.ball else ()), *self.still, *([] if self.gripper is None else [self.gripper])]
        for dim in named:
            if not 0 <= dim < a:
                raise UserError(f"limits name dimension {dim}, an action has {a}: count from 0")
        if min(self.reach, default=0) < 0:
            raise UserError(f"limits.reach holds {min(self.reach)}: sizes are 0 or more")

    def constraint(self) -> Constraint:
        """For every candidate of a search, and for what is done."""
        parts = [clip(self.reach)] if self.reach else []
        parts += [fixed(dict.fromkeys(self.still, 0.0))] if self.still else []
        ball = l1_ball if self.ball_norm == "l1" else l2_ball
        parts += [] if self.ball is None else [ball(self.ball, self.ball_dims)]
        return chain(*parts) if parts else free

    def finish(self) -> Constraint:
        """For what is done, after the search."""
        if self.gripper is None:
            return free
        full = self.reach[self.gripper] if self.reach else 1.0
        return gripper(self.gripper, self.gripper_rests, full if self.gripper_snaps else None)


Limits.presets = {
    # Dimensions: way (3), rotation (3), gripper; 1 stands for the largest way of 0.075 m, and for 1 of the gripper.
    "vjepa2_ac": Limits(reach=(1, 1, 1, 0, 0, 0, 0.75), ball=1.0, still=(3, 4, 5), gripper=6, gripper_rests=0.25),
}
"""The papers' robots."""


def _with(actions: Tensor, dims: Sequence[int], values: Tensor) -> Tensor:
    changed = actions.clone()
    changed[..., dims] = values
    return changed
