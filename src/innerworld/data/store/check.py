"""`check_episode`: is this clip one episode of this world? Asked before anything is written."""

from __future__ import annotations

import torch

from innerworld.errors import UserError
from innerworld.types import Clip, Spec


def check_episode(spec: Spec, clip: Clip, name: str = "episode") -> None:
    """Raise `UserError` unless `clip` is one episode of this world: shapes, types, finite values, actions in bounds."""
    b, t, a = clip.action.shape
    if b != 1 or t < 1:
        raise UserError(f"{name}: expected b = 1 and at least one action, got {b} x {t}")
    if a != spec.action:
        raise UserError(f"{name}: actions have {a} numbers, the spec says {spec.action}")
    if clip.obs.keys() != spec.obs.keys():
        raise UserError(f"{name}: sensors are {', '.join(clip.obs)}; the spec says {', '.join(spec.obs)}")
    for sensor, shape in spec.obs.items():
        value = clip.obs[sensor]
        if tuple(value.shape[2:]) != shape:
            raise UserError(f"{name}: sensor {sensor!r} has shape {tuple(value.shape[2:])}, the spec says {shape}")
        if (value.dtype == torch.uint8) != (len(shape) == 3):
            kind = "an image, which is uint8" if len(shape) == 3 else "a vector, which is float"
            raise UserError(f"{name}: sensor {sensor!r} is {kind}; got {value.dtype}")
        _check_finite(value, f"{name}: sensor {sensor!r}")
    _check_finite(clip.reward, f"{name}: reward")
    _check_finite(clip.action, f"{name}: action")
    _check_action(spec, clip.action[0], name)


def _check_finite(value: torch.Tensor, name: str) -> None:
    if value.is_floating_point():
        finite = torch.isfinite(value[0]).flatten(1).all(1) if value.ndim > 2 else torch.isfinite(value[0])  # t
        if not finite.all():
            raise UserError(f"{name} is not finite at time step {int((~finite).nonzero()[0])}")


def _check_action(spec: Spec, action: torch.Tensor, name: str) -> None:
    if spec.discrete:
        good = ((action == 0) | (action == 1)).all(1) & (action.sum(1) == 1)  # t
        if not good.all():
            raise UserError(f"{name}: action at time step {int((~good).nonzero()[0])} is not one-hot")
    elif action.numel() and action.abs().max() > 1 + 1e-6:
        step = int(action.abs().amax(1).argmax())
        raise UserError(f"{name}: action at time step {step} leaves [-1, 1]: {action[step].tolist()}; scale it first")
