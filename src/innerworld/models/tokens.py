"""Tokens of frozen eyes, computed once and kept in a store: how they are named, chosen, looked up and checked."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.nn.sensors import image_in
from innerworld.nn.vision import VisionTransformer
from innerworld.types import Obs, Spec

if TYPE_CHECKING:
    from innerworld.models.eyes import BorrowedEyes

FRAMES = 64
"""Looked at together, where there are many."""


def stored_as(sensor: str, fingerprint: str) -> str:
    """The sensor that holds these eyes' tokens of an image: its name says whose they are, so that none are confused."""
    return f"{sensor}@{fingerprint}"


def fingerprint(vit: VisionTransformer, size: int | None, pixels: str) -> str:
    """12 hexadecimal digits that differ where weights, size or scale of brightness do."""
    found = hashlib.sha256(f"{vit.config.model_dump_json()} {size} {pixels}".encode())
    for name, value in sorted(vit.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def to_read(spec: Spec, stored: Spec, fingerprint: str, pixels: bool = False) -> list[str]:
    """Which of a store's sensors the clips for a model of `spec` must carry: tokens, where it has them, for images.

    With `pixels` the images as well. Raises `UserError` where the store has tokens of an image, but of other eyes.
    """
    wanted = []
    for sensor in spec.obs:
        ready = stored_as(sensor, fingerprint)
        others = [name.rpartition("@")[2] for name in stored.obs if name.startswith(f"{sensor}@")]
        if others and ready not in stored.obs and len(spec.obs[sensor]) == 3:
            raise UserError(
                f"the tokens of {sensor!r} in the store are of the eyes {', '.join(others)}, the model's are "
                f"{fingerprint or 'fresh'}: give it that eyes.checkpoint and eyes.size, or run innerworld precompute"
            )
        wanted += [ready] if others else []
        wanted += [sensor] if pixels or not others else []
    return wanted


def look(eyes: BorrowedEyes, obs: Obs, sensor: str) -> Tensor:
    """What they see in a sensor, frames `... y x c`: tokens `... s d`, looked up where `obs` holds them already."""
    ready = obs.get(stored_as(sensor, eyes.fingerprint))
    if ready is not None:
        return ready.float()
    frames = obs[sensor]
    seen = [eyes.tokens(image_in(some, eyes.size)) for some in frames.flatten(0, -4).split(FRAMES)]
    return torch.cat(seen).unflatten(0, frames.shape[:-3])


def check_sizes(obs: Obs, spec: Spec, fingerprint: str) -> None:
    """Raise `UserError` where a sensor `... shape` is missing, but for tokens in its place, or not as `spec` says."""
    for name, shape in spec.obs.items():
        if stored_as(name, fingerprint) in obs:
            continue
        if name not in obs:
            raise UserError(f"no sensor {name!r} in what is seen: there are {', '.join(obs)}")
        found = tuple(obs[name].shape[-len(shape) :])
        if found != shape and len(shape) == 3:
            raise UserError(
                f"a picture of {name!r} is {'×'.join(map(str, found))} (y, x, channels), this model was made for "
                f"{'×'.join(map(str, shape))}: a goal must come from the same camera, at its size"
            )
        if found != shape:
            raise UserError(f"sensor {name!r} has {found[-1]} numbers, this model was made for {shape[0]}")


def check_action(action: Tensor, spec: Spec) -> None:
    """Raise `UserError` for actions `... a` of another size than `spec` says."""
    if action.shape[-1] != spec.action:
        raise UserError(
            f"an action has {action.shape[-1]} numbers, this model was made for {spec.action}: "
            "use the robot (and frame_skip) that it learnt from"
        )
