"""Rotary positions on three axes, time, row and column: any grid, any subset of it, in any order.

RoFormer (arXiv 2104.09864) carried to three axes as V-JEPA 2 does (arXiv 2506.09985): a head of d channels gives
2 ⌊⌊d/3⌋/2⌋ of them to each axis and leaves the rest as they are.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from innerworld.errors import UserError

Pairing = Literal["vjepa2", "standard"]
"""Which angle turns which channel. "standard" turns each pair of neighbours by one angle. V-JEPA 2's published weights
were trained with angles tiled instead, so that the two channels of a pair get different ones: no rotation any more, but
what those weights need. V-JEPA 2.1 went back to the standard."""

Turn = tuple[Tensor, Tensor]
"""Cosine and signed sine of the angle of each channel, each `... 1 s d`; the 1 stands for all heads."""


def grid_positions(t: int, y: int, x: int, device: torch.device | None = None) -> Tensor:
    """Time, row and column of each token of a grid, time first: `s 3` integers."""
    axes = [torch.arange(n, device=device) for n in (t, y, x)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


def turn(
    position: Tensor, head_dim: int, pairing: Pairing, dtype: torch.dtype = torch.float32, base: float = 10000.0
) -> Turn:
    """The turn of tokens at `position` `... s axes` (integers, or floats where a grid is stretched).

    Frequencies fall from 1 to nearly 1 / `base`. Raises `UserError` for a head too narrow for three axes.
    """
    axes = position.shape[-1]
    if axes == 3 and head_dim < 12:
        raise UserError(
            f"rotary positions on three axes need heads of 12 channels or more, got {head_dim}: fewer heads"
        )
    size = 2 * ((head_dim // axes) // 2)  # channels of an axis
    cos, sin = zip(*(_axis(position[..., i], size, pairing, dtype, base) for i in range(axes)), strict=True)
    rest = (*position.shape[:-1], head_dim - axes * size)
    still = torch.ones(rest, device=position.device, dtype=dtype)
    return torch.cat([*cos, still], -1).unsqueeze(-3), torch.cat([*sin, torch.zeros_like(still)], -1).unsqueeze(-3)


def rotate(x: Tensor, by: Turn) -> Tensor:
    """Queries or keys `... h s d`, each pair (a, b) → (a, b) cos + (−b, a) sin."""
    cos, sin = by
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * cos.to(x.dtype), swapped, sin.to(x.dtype))


def _axis(position: Tensor, size: int, pairing: Pairing, dtype: torch.dtype, base: float) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine for one axis: positions `... s` → each `... s size`."""
    half = size // 2
    frequency = base ** (-torch.arange(half, device=position.device, dtype=dtype) / half)
    angle = position.to(dtype).unsqueeze(-1) * frequency  # ... s half
    cos, sin = angle.cos(), angle.sin()
    sign = torch.tensor([-1.0, 1.0], device=position.device, dtype=dtype)
    if pairing == "standard":
        return cos.repeat_interleave(2, dim=-1), (sin.unsqueeze(-1) * sign).flatten(-2)
    return torch.cat([cos, cos], dim=-1), torch.cat([sin, sin], dim=-1) * sign.repeat(half)
