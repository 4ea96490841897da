"""Drawing for worlds of ours: an anti-aliased disc over each of many pictures, at the cost of its patch alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def paint_disc(
    background: NDArray[np.uint8],
    position: NDArray[np.float32],
    radius: NDArray[np.float32],
    color: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Pictures `n y x 3` with a disc at `n 2` (x, y), of a radius `n` in pixels and a colour `n 3` in [0, 1]."""
    n, size = background.shape[:2]
    half = int(np.ceil(radius.max() + 1))
    offset = np.arange(-half, half + 1)
    corner = np.floor(position).astype(np.int64)
    column = np.clip(corner[:, :1] + offset, 0, size - 1)  # n k
    row = np.clip(corner[:, 1:] + offset, 0, size - 1)
    dx = column + 0.5 - position[:, :1]
    dy = row + 0.5 - position[:, 1:]
    distance = np.sqrt(dy[:, :, None] ** 2 + dx[:, None, :] ** 2)
    alpha = np.clip(radius[:, None, None] + 0.5 - distance, 0, 1)[..., None].astype(np.float32)
    index = (np.arange(n)[:, None, None], row[:, :, None], column[:, None, :])
    picture = background.copy()
    patch = background[index]
    picture[index] = np.round(alpha * color[:, None, None] * 255 + (1 - alpha) * patch).astype(np.uint8)
    return picture
