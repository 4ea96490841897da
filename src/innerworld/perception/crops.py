"""Random crops and colours of pictures and films, on the tensors' own device, each row its own."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def random_crop(
    x: Tensor,
    size: tuple[int, int],
    scale: tuple[float, float],
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
    rng: Generator | None = None,
) -> Tensor:
    """One random window of each picture `b c y x` or film `b c t y x`, resized to `size` (y, x), half of them mirrored.

    `scale` is the window's share of the area, `aspect` its width by its height. A film's frames share their window.
    """
    b, height, width = x.shape[0], x.shape[-2], x.shape[-1]
    share = scale[0] + torch.rand(b, generator=rng) * (scale[1] - scale[0])
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = (low + torch.rand(b, generator=rng) * (high - low)).exp()
    h = ((share * height * width / ratio).sqrt() / height).clamp(max=1)  # of the whole
    w = ((share * height * width * ratio).sqrt() / width).clamp(max=1)
    shift_y = (2 * torch.rand(b, generator=rng) - 1) * (1 - h)
    shift_x = (2 * torch.rand(b, generator=rng) - 1) * (1 - w)
    mirror = torch.where(torch.rand(b, generator=rng) < 0.5, -1.0, 1.0) if flip else torch.ones(b)
    nought = torch.zeros(b)
    window = torch.stack([w * mirror, nought, shift_x, nought, h, shift_y], dim=-1).unflatten(-1, (2, 3))
    return _windows(x, window.to(x), size, shrunk=max(height / size[0], width / size[1]))


def jitter(x: Tensor, strength: float = 0.4, gray: float = 0.2, rng: Generator | None = None) -> Tensor:
    """Brightness, contrast and saturation of each picture `b c y x` in [0, 1] by up to `strength`; some lose colour."""
    by = (1 + (2 * torch.rand(3, len(x), 1, 1, 1, generator=rng) - 1) * strength).to(x)
    x = x * by[0]
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * by[1] + mean
    luminance = x.mean(dim=1, keepdim=True)
    pale = (torch.rand(len(x), 1, 1, 1, generator=rng) < gray).to(x)
    return ((x - luminance) * by[2] * (1 - pale) + luminance).clamp(0, 1)


def _windows(x: Tensor, window: Tensor, size: tuple[int, int], shrunk: float) -> Tensor:
    """Sample affine windows `b 2 3` bilinearly; several samples a pixel where the picture gets much smaller."""
    flat = x.flatten(1, -3) if x.ndim == 5 else x
    fine = max(1, math.ceil(shrunk / 2))
    grid = F.affine_grid(window, [len(x), 1, size[0] * fine, size[1] * fine], align_corners=False)
    found = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    found = F.avg_pool2d(found, fine) if fine > 1 else found
    return found.unflatten(1, x.shape[1:-2]) if x.ndim == 5 else found
