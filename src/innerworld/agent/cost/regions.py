"""Regions of the world that a plan should stay out of: how far from their border, negative inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from innerworld.agent.cost.readout import Reading, columns
from innerworld.agent.modules import Imagined
from innerworld.errors import UserError
from innerworld.world import flatten

Region = Callable[[Imagined], Tensor]
"""One future → the way to the region's border at each step, `b n h`, negative inside; or booleans: true inside."""


@dataclass(frozen=True)
class Disc:
    """A disc, or a ball, in the quantities of a reading, and in their unit."""

    reading: Reading
    centre: tuple[float, ...]
    radius: float
    names: tuple[str, ...] = ()  # of the quantities it lies in; none: all

    def __post_init__(self) -> None:
        _fits(self.reading, self.names, len(self.centre))
        if self.radius <= 0:
            raise UserError(f"a disc of radius {self.radius} is empty: give a positive one")

    def __call__(self, future: Imagined) -> Tensor:
        away = read(self.reading, future, self.names)  # b n h k
        return (away - away.new_tensor(self.centre)).norm(dim=-1) - self.radius


@dataclass(frozen=True)
class Box:
    """A box in the quantities of a reading, and in their unit; a side may be infinite."""

    reading: Reading
    low: tuple[float, ...]
    high: tuple[float, ...]
    names: tuple[str, ...] = ()  # of the quantities it lies in; none: all

    def __post_init__(self) -> None:
        _fits(self.reading, self.names, len(self.low))
        if len(self.low) != len(self.high) or any(a >= b for a, b in zip(self.low, self.high, strict=True)):
            raise UserError(f"a box from {self.low} to {self.high} is empty: each low must be below its high")

    def __call__(self, future: Imagined) -> Tensor:
        at = read(self.reading, future, self.names)  # b n h k
        beyond = torch.maximum(at.new_tensor(self.low) - at, at - at.new_tensor(self.high))
        return beyond.clamp(min=0).norm(dim=-1) + beyond.amax(dim=-1).clamp(max=0)


@dataclass(frozen=True)
class Outside:
    """All that is not in a region: to stay within it."""

    region: Region

    def __call__(self, future: Imagined) -> Tensor:
        distance = self.region(future)
        return ~distance if distance.dtype == torch.bool else -distance


def read(reading: Reading, future: Imagined, names: tuple[str, ...] = ()) -> Tensor:
    """The quantities (all of them, or those with `names`) at every step of a future: `b n h k`."""
    shape = future.actions.shape[:3]
    values = reading(future.model, flatten(future.states, 3)).unflatten(0, shape)
    return values[..., columns(reading, names)] if names else values


def _fits(reading: Reading, names: tuple[str, ...], size: int) -> None:
    read = len(columns(reading, names)) if names else len(reading.names)
    if read != size:
        raise UserError(
            f"the region has {size} dimensions, the readout gives {read} ({', '.join(names or reading.names)})"
        )
