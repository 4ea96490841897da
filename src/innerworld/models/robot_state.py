"""A robot's own numbers: how its state goes on when it acts, by rules that need no network, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.models.standard import Standard

Rule = Literal["pose", "pose_grip", "add", "target", "hold"]
"""What an action does to the state.

- "pose": position (3) and gripper add up, extrinsic x-y-z Euler angles (3) compose, R' = dR R, and the gripper stays in
  [0, 1]: DROID's, and V-JEPA 2-AC's (arXiv 2506.09985, §3.1). State and action have 7 numbers.
- "pose_grip": the same, but the action's last number is the gripper's next state (BridgeData, Open X-Embodiment).
- "add": the state changes by the action.
- "target": the action is the state that comes next, such as joint targets. The predictor is told the difference.
- "hold": the state stays as it was seen last.
"""


class Robot(nn.Module):
    """How a robot's state goes on when it acts, and how a predictor is told of state and action. It does not learn.

    `low` and `high` say what actions of -1 and +1 stand for in the state's unit: one number for all, one for each, or
    none for -1 and +1. `standardise` tells a predictor both by their mean and deviation in what `see` was shown. Raises
    `UserError` for a rule or bounds that are not for so many numbers.
    """

    def __init__(
        self, rule: Rule, state: int, action: int, low: Sequence[float], high: Sequence[float], standardise: bool
    ) -> None:
        super().__init__()
        check_rule(rule, state, action)
        self.rule: Rule = rule if state else "hold"
        self.low, self.high = _bound("low", low, -1.0, action), _bound("high", high, 1.0, action)
        self.action_scale = Standard(action) if standardise else None
        self.state_scale = Standard(state) if standardise else None

    def act(self, state: Tensor, action: Tensor) -> Tensor:
        """The state `... p` after an action `... a` in [-1, 1]."""
        return state if self.rule == "hold" else follow(self.rule, state, self._in_units(action))

    def see(self, action: Tensor, state: Tensor) -> None:
        """Take in what was done and measured, `... a` and `... p`."""
        if self.action_scale is not None and self.state_scale is not None:
            self.action_scale.see(self._asked(action, state))
            self.state_scale.see(state)

    def told(self, action: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Actions `... a` and states `... p` as a predictor is told them."""
        action = self._asked(action, state)
        if self.action_scale is None or self.state_scale is None:
            return action, state
        return self.action_scale(action), self.state_scale(state)

    def _asked(self, action: Tensor, state: Tensor) -> Tensor:
        """Of a target, how far it is from the state."""
        return self._in_units(action) - state if self.rule == "target" else action

    def _in_units(self, action: Tensor) -> Tensor:
        """Actions in [-1, 1] in the state's own unit."""
        low, high = (action.new_tensor(bound) for bound in (self.low, self.high))
        return low + (action + 1) / 2 * (high - low)


def _bound(name: str, bound: Sequence[float], default: float, action: int) -> list[float]:
    if len(bound) not in (0, 1, action):
        raise UserError(
            f"action_{name} has {len(bound)} numbers, an action {action}: give one for all, or one for each"
        )
    return list(bound or (default,))


def check_rule(rule: Rule, state: int, action: int) -> None:
    """Raise `UserError` unless a robot with so many numbers of state and action can follow the rule."""
    if rule == "hold" or not state:
        return
    if rule in ("pose", "pose_grip") and (state, action) != (7, 7):
        raise UserError(
            f"state_rule={rule} wants states and actions of 7 numbers (position, Euler angles, gripper), "
            f"here are {state} and {action}: choose add, target or hold"
        )
    if state != action:
        raise UserError(
            f"state_rule={rule} wants as many numbers of state as of action, here are {state} and {action}: "
            "choose hold, or other sensors"
        )


def follow(rule: Rule, state: Tensor, action: Tensor) -> Tensor:
    """The state after the action, both `... p` in the state's own unit."""
    return _RULES[rule](state, action)


def _pose(state: Tensor, action: Tensor) -> Tensor:
    return _moved(state, action, (state[..., 6:] + action[..., 6:]).clamp(0, 1))


def _pose_grip(state: Tensor, action: Tensor) -> Tensor:
    return _moved(state, action, action[..., 6:])


def _moved(state: Tensor, action: Tensor, gripper: Tensor) -> Tensor:
    turned = euler(rotation(action[..., 3:6]) @ rotation(state[..., 3:6]))
    return torch.cat([state[..., :3] + action[..., :3], turned, gripper], dim=-1)


_RULES: dict[Rule, Callable[[Tensor, Tensor], Tensor]] = {
    "pose": _pose,
    "pose_grip": _pose_grip,
    "add": lambda state, action: state + action,
    "target": lambda state, action: action,
    "hold": lambda state, action: state,
}


def rotation(angles: Tensor) -> Tensor:
    """Extrinsic x-y-z Euler angles `... 3` in radians → R = Rz Ry Rx `... 3 3`."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def euler(matrix: Tensor) -> Tensor:
    """Rotations `... 3 3` → extrinsic x-y-z Euler angles `... 3`, the middle one in [-π/2, π/2].

    Where that one is a right angle the other two are not told apart, and x is what atan2 makes of nothing.
    """
    x = torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    y = torch.asin((-matrix[..., 2, 0]).clamp(-1, 1))
    z = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return torch.stack([x, y, z], dim=-1)
