"""How near are drawn pictures to the truth? PSNR and SSIM by horizon, beside copying the last frame and the codec.

What a picture loses is parted in two, as MIRA's evaluation does (package alakazam-mira-mini): the codec's floor, which
is the error of drawing what was just seen, and the drift away from what the codec would have drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.evaluate.bootstrap import with_interval
from innerworld.nn.sensors import image_in

ROUNDING = 1 / 255**2 / 12  # mean squared error of 8 bits, values in [0, 1]: nothing is told nearer, 58.9 dB
WINDOW, SPREAD = 11, 1.5  # of SSIM's Gaussian, pixels
K1, K2 = 0.01, 0.03


def psnr(shown: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of pictures `... y x c` uint8, in dB: `...`. Equal ones get 58.9, what 8 bits tell.

    10 log10(1 / mean squared error), values in [0, 1]; the error over all pixels and channels of a picture.
    """
    return -10 * torch.log10(squared_error(shown, true))


def squared_error(shown: Tensor, true: Tensor) -> Tensor:
    """Its mean over pictures `... y x c` uint8, values in [0, 1]: `...`, at least what rounding to 8 bits makes."""
    error = (shown.float() / 255 - true.float() / 255).square().flatten(-3).mean(dim=-1)
    return error.clamp_min(ROUNDING)


def ssim(shown: Tensor, true: Tensor) -> Tensor:
    """Structural similarity of pictures `... y x c` uint8 (Wang et al. 2004, eq. 13): `...`, 1 for equal ones.

    A Gaussian window of 11 × 11 pixels with deviation 1.5, only where it lies wholly within the picture, K1 = 0.01,
    K2 = 0.03, values in [0, 1]; the mean over places and channels. The window of a smaller picture is as large as fits.
    """
    lead = shown.shape[:-3]
    a, b = image_in(shown), image_in(true)  # n c y x
    side = min(WINDOW, *(size - 1 + size % 2 for size in a.shape[-2:]))
    a, b = (picture.flatten(0, 1)[:, None] for picture in (a, b))  # (n c) 1 y x
    kernel = _gaussian(side)
    mean_a, mean_b = _blurred(a, kernel), _blurred(b, kernel)
    var_a, var_b = _blurred(a * a, kernel) - mean_a**2, _blurred(b * b, kernel) - mean_b**2
    both = _blurred(a * b, kernel) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    like = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return like.flatten(1).mean(dim=1).unflatten(0, (-1, shown.shape[-1])).mean(dim=1).reshape(lead)


@dataclass(frozen=True)
class Drift:
    """PSNR in dB at each imagined step, each `b h`."""

    psnr: Tensor  # against the truth
    psnr_still: Tensor  # of the last frame that was seen, against the truth: copy-last
    psnr_codec: Tensor  # of what is drawn after really looking, against the truth: the codec's floor
    psnr_to_codec: Tensor  # of what is imagined, against that: drift alone

    def metrics(self, steps: Sequence[int], seed: int = 0) -> dict[str, float]:
        """At these steps, each a mean over clips with its interval; the codec's floor once, over all steps."""
        found: dict[str, float] = {}
        for name in ("psnr", "psnr_still", "psnr_to_codec"):
            values: Tensor = vars(self)[name]
            for step in steps:
                found |= with_interval(f"{name}_{step}", values[:, step - 1], seed)
        return found | with_interval("psnr_codec", self.psnr_codec.mean(dim=1), seed)


def drift(shown: Tensor, redrawn: Tensor, true: Tensor, last: Tensor) -> Drift:
    """Judge imagined frames `b h y x c` beside the frames really there and what the codec makes of those, of the same
    shape, and the last frame that was seen, `b y x c`; all uint8."""
    at_once = lambda a, b: torch.stack([psnr(a[:, t], b[:, t]) for t in range(true.shape[1])], dim=1)
    return Drift(
        psnr=at_once(shown, true),
        psnr_still=at_once(last[:, None].expand_as(true), true),
        psnr_codec=at_once(redrawn, true),
        psnr_to_codec=at_once(shown, redrawn),
    )


def likeness(shown: Tensor, true: Tensor, last: Tensor, steps: Sequence[int], seed: int = 0) -> dict[str, float]:
    """SSIM of the same frames at these steps, `ssim_h`, beside that of copying the last frame, `ssim_still_h`."""
    found: dict[str, float] = {}
    for step in steps:
        found |= with_interval(f"ssim_{step}", ssim(shown[:, step - 1], true[:, step - 1]), seed)
        found |= with_interval(f"ssim_still_{step}", ssim(last, true[:, step - 1]), seed)
    return found


@cache
def _gaussian(side: int) -> Tensor:
    """`side`, sums to 1."""
    away = torch.arange(side) - (side - 1) / 2
    weight = torch.exp(-(away**2) / (2 * SPREAD**2))
    return weight / weight.sum()


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """`n 1 y x` → each place's mean under the window, where that lies within."""
    return F.conv2d(F.conv2d(x, kernel[None, None, :, None]), kernel[None, None, None, :])
