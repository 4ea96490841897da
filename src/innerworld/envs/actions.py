"""The way from the convention's actions, in [-1, 1] or a choice, to an environment's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from innerworld.errors import UserError

TOLERANCE = 1e-6  # an action this far outside its bounds is rounding; farther is a mistake
UNBOUNDED = 1e9  # packages without a bound write infinity, the largest float, or 1e10


@dataclass(frozen=True)
class Actions:
    """The way from the convention's actions to the environment's own."""

    own: spaces.Space
    space: spaces.Space
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, own: spaces.Space, low: ArrayLike | None, high: ArrayLike | None) -> Actions:
        if isinstance(own, spaces.Discrete):
            if low is not None or high is not None:
                raise UserError(
                    "action_low and action_high are for continuous actions; this environment's are Discrete"
                )
            return cls(own, own, np.empty(0), np.empty(0))
        if not isinstance(own, spaces.Box) or not np.issubdtype(own.dtype, np.floating):
            raise UserError(
                f"the action space {own} is neither Discrete nor a Box of floats: wrap the environment first"
            )
        below, above = _bounds(own, low, high)
        return cls(own, spaces.Box(-1, 1, below.shape, np.float32), below, above)

    def to_env(self, action: Any) -> Any:
        if isinstance(self.own, spaces.Discrete):
            if not self.own.contains(action):
                raise UserError(f"action {action!r} is not one of the {self.own.n} choices of {self.own}")
            return action
        unit = np.asarray(action, np.float64)
        if unit.shape != self.low.shape:
            raise UserError(f"an action has the shape {unit.shape}, expected {self.low.shape}")
        check_unit(unit)
        value = self.low + (np.clip(unit, -1, 1) + 1) / 2 * (self.high - self.low)
        return value.reshape(self.own.shape or ()).astype(self.own.dtype)


def _bounds(
    own: spaces.Box, low: ArrayLike | None, high: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    own_low, own_high = own.low.reshape(-1).astype(np.float64), own.high.reshape(-1).astype(np.float64)
    try:
        below = own_low if low is None else np.broadcast_to(np.asarray(low, np.float64).reshape(-1), own_low.shape)
        above = own_high if high is None else np.broadcast_to(np.asarray(high, np.float64).reshape(-1), own_high.shape)
    except ValueError:
        raise UserError(f"action_low and action_high are one number or {own_low.size}, one per dimension") from None
    for i in range(own_low.size):
        if not (abs(below[i]) < UNBOUNDED and abs(above[i]) < UNBOUNDED):  # NaN is not less
            raise UserError(
                f"action dimension {i} has no bounds ({below[i]} to {above[i]}): "
                "give them with action_low and action_high"
            )
        if not own_low[i] <= below[i] < above[i] <= own_high[i]:
            raise UserError(
                f"action dimension {i}: {below[i]} to {above[i]} is not a range within {own_low[i]} to {own_high[i]}; "
                "mend action_low or action_high"
            )
    return below, above


def check_unit(unit: NDArray[np.float64]) -> None:
    outside = np.flatnonzero(~(np.abs(unit) <= 1 + TOLERANCE))  # written so that NaN is outside, too
    if len(outside):
        i = int(outside[0])
        bound = -1 if unit[i] < 0 else 1
        raise UserError(f"action dimension {i} is {unit[i]:g}, its bound is {bound}: scale or clip actions to [-1, 1]")
