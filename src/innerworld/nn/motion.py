"""Which way things move in each patch, from two frames in closed form (Lucas and Kanade, IJCAI 1981)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

FLAT = 1e-2
"""Added to a patch's squared slopes, in the square of brightness in [0, 1]: what has no edges does not move."""


def patch_motion(frames: Tensor, patch: int) -> Tensor:
    """Films `b t c y x` in [0, 1] → pixels to the right and down that each patch moved since the last frame, `b t s 2`.

    Rows first, as patches are; at the first frame 0. Each axis alone: a patch with edges in one direction only tells
    nothing of the other. Steps longer than an edge is wide come out too short, but never the wrong way.
    """
    since = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    middle = (frames + since) / 2
    x = F.pad(middle.flatten(0, 2), (1, 1, 1, 1), mode="replicate").unflatten(0, frames.shape[:3])
    slopes = (x[..., 1:-1, 2:] - x[..., 1:-1, :-2]) / 2, (x[..., 2:, 1:-1] - x[..., :-2, 1:-1]) / 2
    moved = [-_summed((frames - since) * slope, patch) / (_summed(slope.square(), patch) + FLAT) for slope in slopes]
    return torch.stack(moved, dim=-1)


def _summed(of: Tensor, patch: int) -> Tensor:
    """`b t c y x` → `b t s`, over the pixels and channels of each patch."""
    return rearrange(of, "b t c (y i) (x j) -> b t (y x) c i j", i=patch, j=patch).sum(dim=(-3, -2, -1))
