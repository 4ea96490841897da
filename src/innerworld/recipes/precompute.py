"""Frames are looked at once: a store of the same experience, with the tokens that frozen eyes make of its images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from innerworld.data import Store
from innerworld.data.store.remake import extend
from innerworld.errors import UserError
from innerworld.models.eyes import BorrowConfig, borrow
from innerworld.models.tokens import look, stored_as
from innerworld.types import Clip, each


def precompute(
    store: Store,
    out: str | Path,
    eyes: str,
    size: int | None = None,
    sensors: Sequence[str] = (),
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Store:
    """Copy a store to `out` with the tokens of its images, in half precision, beside them.

    `eyes` is a run of an encoder or whatever `pretrained` takes; `size` the side at which they see, pixels (none: as
    they are used to); `sensors` are the images to look at (none: all). A model that is taught with the same eyes finds
    the tokens by itself. Raises `UserError`, among others where there is no image, and if `out` has content.
    """
    if not store.spec.images():
        raise UserError(f"{store.name} has no image to look at: its sensors are {', '.join(store.spec.obs)}")
    images = list(sensors or store.spec.images())
    spec = store.spec.only(*images)
    if spec.vectors():
        raise UserError(f"eyes see images, and {', '.join(spec.vectors())} is none: choose other --sensors")
    found, borrowed = borrow(BorrowConfig(checkpoint=eyes, size=size), spec, None)
    for each_eyes in borrowed:
        each_eyes.to(device).eval()

    @torch.no_grad()
    def tokens(clip: Clip) -> dict[str, Tensor]:
        obs = each(lambda frames: frames.to(device), {name: clip.obs[name] for name in images})
        return {
            stored_as(name, found.fingerprint): look(own, obs, name) for name, own in zip(images, borrowed, strict=True)
        }

    first = tokens(store.episode(0).cut(0, 1)) if len(store) else {}
    shapes = {name: tuple(value.shape[2:]) for name, value in first.items()}
    about = store.meta.about
    whose = {"eyes": found.origin, "size": found.size}
    told = {**about.more, "tokens": {**about.more.get("tokens", {}), found.fingerprint: whose}}
    return extend(store, out, shapes, tokens, about.model_copy(update={"more": told}), progress)
