"""Frames are looked at once: a store of the same experience, and the tokens that eyes or a tokenizer make of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from innerworld import checkpoint
from innerworld.data import Store
from innerworld.data.store.remake import extend
from innerworld.errors import UserError
from innerworld.models.codec import Codec, CodecConfig
from innerworld.models.eyes import BorrowConfig, borrow
from innerworld.models.tokens import look, stored_as
from innerworld.perception import ENCODERS, Encoder, Tokenizer
from innerworld.types import Clip, Obs, Spec, each


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

    `eyes` is a run of an encoder or a tokenizer, or whatever `pretrained` takes; `size` the side at which they see,
    pixels (none: as they are used to); `sensors` are the images to look at (none: all). A model that is taught with the
    same eyes finds the tokens by itself. Raises `UserError`, among others where there is no image, and if `out` has
    content.
    """
    if not store.spec.images():
        raise UserError(f"{store.name} has no image to look at: its sensors are {', '.join(store.spec.obs)}")
    images = list(sensors or store.spec.images())
    spec = store.spec.only(*images)
    if spec.vectors():
        raise UserError(f"eyes see images, and {', '.join(spec.vectors())} is none: choose other --sensors")
    looking = _looking(eyes, size, spec, device)

    @torch.no_grad()
    def tokens(clip: Clip) -> dict[str, Tensor]:
        return looking.look(each(lambda frames: frames.to(device), {name: clip.obs[name] for name in images}))

    first = tokens(store.episode(0).cut(0, 1)) if len(store) else {}
    shapes = {name: tuple(value.shape[2:]) for name, value in first.items()}
    about = store.meta.about
    whose = {"eyes": eyes, "size": looking.size}
    told = {**about.more, "tokens": {**about.more.get("tokens", {}), looking.fingerprint: whose}}
    return extend(store, out, shapes, tokens, about.model_copy(update={"more": told}), progress)


@dataclass(frozen=True)
class _Looking:
    """Who looks: a fingerprint, the side at which pictures are seen, and what is made of them, by its stored name."""

    fingerprint: str
    size: int | None
    look: Callable[[Obs], dict[str, Tensor]]


def _looking(eyes: str, size: int | None, spec: Spec, device: torch.device | str) -> _Looking:
    if _is_tokenizer(eyes):
        if size is not None:
            raise UserError(f"{eyes} is a tokenizer, which sees at its own size: leave out --size")
        codec = Codec(CodecConfig(checkpoint=eyes), spec).to(device).eval()
        return _Looking(codec.config.fingerprint, codec.config.image_size, codec.coded)
    found, borrowed = borrow(BorrowConfig(checkpoint=eyes, size=size), spec, None)
    for own in borrowed:
        own.to(device).eval()

    def seen(obs: Obs) -> dict[str, Tensor]:
        names = {name: stored_as(name, found.fingerprint) for name in obs}
        return {names[name]: look(own, obs, name) for name, own in zip(obs, borrowed, strict=True)}

    return _Looking(found.fingerprint, found.size, seen)


def _is_tokenizer(eyes: str) -> bool:
    """Is it the run of one? Told by the run's header, so that large eyes are read once."""
    if not (checkpoint.exists(eyes) or checkpoint.is_checkpoint(Path(eyes))):
        return False
    return issubclass(ENCODERS.get(checkpoint.read_header(eyes).family, Encoder), Tokenizer)
