"""Where pictures have edges: the contrast of neighbouring pixels (Sobel's), as a picture of one channel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.nn.sensors import image_in


@torch.no_grad()
def edges(frames: Tensor, threshold: float = 0.0) -> Tensor:
    """Frames `... y x c` (uint8, or float in [0, 1]) → `... y x 1` in [0, 1]: 1 where contrast exceeds `threshold`.

    At a threshold of 0 the contrast itself: 1 for a straight edge from black to white, of colours that of the channel
    that has most. Beyond its border a picture goes on as it ends.
    """
    x = F.pad(image_in(frames), (1, 1, 1, 1), mode="replicate")  # (...) c y+2 x+2
    contrast = torch.hypot(_slope(x), _slope(x.mT).mT).amax(dim=1).clamp(max=1)  # (...) y x
    found = contrast if threshold == 0 else (contrast > threshold).to(contrast.dtype)
    return found[..., None].reshape(*frames.shape[:-1], 1)


def _slope(x: Tensor) -> Tensor:
    """From left to right, of rows blurred a little; exactly 0 where all is even: `... y+2 x+2` → `... y x`."""
    rows = (x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 4
    return rows[..., 2:] - rows[..., :-2]
