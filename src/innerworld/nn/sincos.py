"""Frozen sine and cosine position tables of two and three axes, and tables of other sizes from learned ones."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.errors import UserError

Order = Literal["column_first", "row_first"]
"""Which axis fills the first half of the channels: I-JEPA's table begins with columns, V-JEPA's with rows."""


def sincos(positions: Tensor, dim: int) -> Tensor:
    """Positions `n` → `n dim`: sines, then cosines, of frequencies from 1 down to nearly 1/10000, in float64."""
    half = dim // 2
    frequency = 10000.0 ** (-torch.arange(half, device=positions.device, dtype=torch.float64) / half)
    angle = positions.double()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def sincos_2d(dim: int, y: int, x: int, order: Order, device: torch.device | None = None) -> Tensor:
    """The table `(y x) dim` of a picture's patches. Raises `UserError` unless 4 divides `dim`."""
    if dim % 4:
        raise UserError(f"a position table of two axes needs a width that 4 divides, got {dim}")
    rows = _axis(y, dim // 2, device)[:, None].expand(-1, x, -1)
    columns = _axis(x, dim // 2, device)[None].expand(y, -1, -1)
    return torch.cat([columns, rows] if order == "column_first" else [rows, columns], dim=-1).flatten(0, 1)


def sincos_3d(dim: int, t: int, y: int, x: int, device: torch.device | None = None) -> Tensor:
    """V-JEPA's table `(t y x) dim`: time, rows and columns share the channels evenly, the last is cut at `dim`."""
    each = 2 * math.ceil(dim / 6)
    time = _axis(t, each, device)[:, None, None].expand(-1, y, x, -1)
    rows = _axis(y, each, device)[None, :, None].expand(t, -1, x, -1)
    columns = _axis(x, each, device)[None, None].expand(t, y, -1, -1)
    return torch.cat([time, rows, columns], dim=-1)[..., :dim].flatten(0, 2)


def resized(table: Tensor, y: int, x: int, antialias: bool = False) -> Tensor:
    """A learned table `y' x' d` at another size, bicubic, as DINOv2 and I-JEPA's port do: `(y x) d`.

    DINOv2 with registers wants `antialias`, which is another bicubic curve and not only a smoother one.
    """
    if tuple(table.shape[:2]) != (y, x):
        seen = table.permute(2, 0, 1)[None]
        seen = seen if seen.dtype == torch.float64 else seen.float()  # bicubic in half precision shifts positions
        table = F.interpolate(seen, (y, x), mode="bicubic", antialias=antialias)[0].permute(1, 2, 0).to(table.dtype)
    return table.flatten(0, 1)


def _axis(n: int, dim: int, device: torch.device | None) -> Tensor:
    return sincos(torch.arange(n, device=device), dim)
