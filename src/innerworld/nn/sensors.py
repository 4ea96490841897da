"""The one place where images turn: `uint8` `y x c` as stored ↔ float `c y x` as networks want them."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def image_in(frames: Tensor, size: int | None = None) -> Tensor:
    """Frames `... y x c` (uint8, or float in [0, 1]) → float `(...) c size size` in [0, 1], shrunk by area means."""
    x = rearrange(frames.reshape(-1, *frames.shape[-3:]), "b y x c -> b c y x")
    unit = 255 if x.dtype == torch.uint8 else 1
    x = x.float().contiguous()
    if size is not None and x.shape[-2:] != (size, size):
        whole = x.shape[-2] % size == 0 and x.shape[-1] % size == 0
        if whole:
            x = F.avg_pool2d(x, (x.shape[-2] // size, x.shape[-1] // size))
        else:
            x = F.interpolate(x, (size, size), mode="area")
    return x / unit  # last, where there are fewest numbers


def image_out(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Float `b c y x` → `b y x c` of the sensor's own `shape` (y, x, c), enlarged by repetition where needed."""
    if tuple(x.shape[-2:]) != tuple(shape[:2]):
        x = F.interpolate(x, (shape[0], shape[1]), mode="nearest")
    return rearrange(x, "b c y x -> b y x c")


def to_uint8(image: Tensor) -> Tensor:
    """Float in [0, 1] → `uint8`, rounded and clipped."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): squeezes large values, keeps small ones (DreamerV3, arXiv 2301.04104, eq. 9)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return x.sign() * x.abs().expm1()
