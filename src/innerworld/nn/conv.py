"""Pictures to vectors and back, by stages that halve or double the sides (DreamerV3's encoder and decoder)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.nn.mlp import EPS, init_

Resize = Literal["strided", "maxpool"]
Output = Literal["sigmoid", "linear"]


class ConvEncoder(nn.Module):
    """Pictures float in [0, 1] `b c y x` → `b d`, d = `width`. Stage i has depth · mults[i] channels.

    "strided" halves by a stride of 2; "maxpool" by a 2×2 maximum after a full-size convolution: DreamerV3's default,
    about four times dearer. Raises `UserError` for sides that the stages cannot halve.
    """

    def __init__(
        self,
        channels: int,
        size: int | tuple[int, int],
        depth: int,
        mults: Sequence[int] = (1, 2, 4),
        kernel: int = 4,
        resize: Resize = "strided",
    ) -> None:
        super().__init__()
        start = start_shape(size, depth, mults)
        depths = [depth * mult for mult in mults]
        stages: list[nn.Module] = []
        for before, after in pairwise([channels, *depths]):
            stages += [*_halve(before, after, kernel, resize), ChannelNorm(after), nn.SiLU()]
        self.stages = nn.Sequential(*stages)
        self.width = math.prod(start)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x - 0.5).flatten(1)


class ConvDecoder(nn.Module):
    """A start map `b c y x` of shape `start` → pictures `b c y x`: the encoder's mirror image.

    "sigmoid" keeps them in [0, 1] (DreamerV3) but learns slowly where pictures are black or white; "linear" does not
    (PlaNet, Dreamer v1 and v2), so clip what is shown.
    """

    def __init__(
        self,
        channels: int,
        size: int | tuple[int, int],
        depth: int,
        mults: Sequence[int] = (1, 2, 4),
        kernel: int = 4,
        resize: Resize = "strided",
        output: Output = "sigmoid",
    ) -> None:
        super().__init__()
        self.start = start_shape(size, depth, mults)
        depths = [depth * mult for mult in reversed(mults)]
        stages: list[nn.Module] = []
        for before, after in pairwise(depths):
            stages += [*_double(before, after, kernel, resize), ChannelNorm(after), nn.SiLU()]
        stages += _double(depths[-1], channels, kernel, resize)
        self.stages = nn.Sequential(*stages, nn.Sigmoid()) if output == "sigmoid" else nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)


class ChannelNorm(nn.Module):
    """Root-mean-square norm over the channels of each pixel: `b c y x` → same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def start_shape(size: int | tuple[int, int], depth: int, mults: Sequence[int]) -> tuple[int, int, int]:
    """The smallest map (c, y, x) between the two halves. Raises `UserError` for sides that do not halve so often."""
    y, x = (size, size) if isinstance(size, int) else size
    factor = 2 ** len(mults)
    if y % factor or x % factor:
        raise UserError(f"a picture of {y}×{x} cannot be halved {len(mults)} times: choose sides divisible by {factor}")
    return depth * mults[-1], y // factor, x // factor


def _halve(before: int, after: int, kernel: int, resize: Resize) -> list[nn.Module]:
    if resize == "strided":
        return [_conv(nn.Conv2d(before, after, kernel, stride=2, padding=(kernel - 1) // 2))]
    return [_conv(nn.Conv2d(before, after, kernel, padding="same")), nn.MaxPool2d(2)]


def _double(before: int, after: int, kernel: int, resize: Resize) -> list[nn.Module]:
    if resize == "strided":
        pad, odd = (kernel - 1) // 2, kernel % 2
        return [_conv(nn.ConvTranspose2d(before, after, kernel, stride=2, padding=pad, output_padding=odd))]
    return [nn.Upsample(scale_factor=2), _conv(nn.Conv2d(before, after, kernel, padding="same"))]


def _conv(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    assert layer.bias is not None
    init_(layer.weight, layer.in_channels * math.prod(layer.kernel_size))
    nn.init.zeros_(layer.bias)
    return layer
