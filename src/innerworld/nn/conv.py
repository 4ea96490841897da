"""Pictures to vectors and back, by stages that halve or double the sides (DreamerV3's encoder and decoder)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.mlp import ACTIVATIONS, Activation, Norm, init_, norm_layer

Resize = Literal["strided", "maxpool", "valid"]
Output = Literal["sigmoid", "linear"]
ImageNorm = Norm | Literal["batch"]


class ConvEncoder(nn.Module):
    """Pictures float in [0, 1] `b c y x` → `b d`, d = `width`. Stage i has depth · mults[i] channels.

    "strided" halves by a stride of 2; "maxpool" by a 2×2 maximum after a full-size convolution: DreamerV3's default,
    about four times dearer; "valid" by a stride of 2 with nothing around the picture, so that sides need not be even:
    64 → 31, 14, 6, 2 with the kernel 4 of PlaNet, Dreamer v1 and v2. With `stem` the first stage keeps the sides
    (DRAMA); without `bias` a convolution before a norm has none (STORM). Raises `UserError` for sides that do not fit.
    """

    def __init__(
        self,
        channels: int,
        size: int | tuple[int, int],
        depth: int,
        mults: Sequence[int] = (1, 2, 4),
        kernel: int = 4,
        resize: Resize = "strided",
        norm: ImageNorm = "rms",
        activation: Activation = "silu",
        bias: bool = True,
        stem: bool = False,
    ) -> None:
        super().__init__()
        _check_stem(kernel, resize, stem)
        start = start_shape(size, depth, mults, stem) if resize != "valid" else _valid_shape(size, depth, mults, kernel)
        depths = [depth * mult for mult in mults]
        stages: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise([channels, *depths])):
            biased = bias or norm == "none"
            same = stem and i == 0
            stages += _keep(before, after, kernel, biased) if same else _halve(before, after, kernel, resize, biased)
            stages += _finish(after, norm, activation)
        self.stages = nn.Sequential(*stages)
        self.width = math.prod(start)
        self.grey = 0.0 if norm == "batch" else 0.5  # batch norm finds the mean itself (STORM, DRAMA)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(_channels_last(x - self.grey)).flatten(1)


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
        norm: ImageNorm = "rms",
        activation: Activation = "silu",
        bias: bool = True,
        stem: bool = False,
    ) -> None:
        super().__init__()
        if resize == "valid":
            raise UserError("resize=valid has no mirror image: paint from a single pixel (`PixelDecoder`)")
        _check_stem(kernel, resize, stem)
        self.start = start_shape(size, depth, mults, stem)
        depths = [depth * mult for mult in reversed(mults)]
        stages: list[nn.Module] = []
        for before, after in pairwise(depths):
            stages += _double(before, after, kernel, resize, bias or norm == "none")
            stages += _finish(after, norm, activation)
        stages += _keep_back(depths[-1], channels, kernel) if stem else _double(depths[-1], channels, kernel, resize)
        self.stages = nn.Sequential(*stages, nn.Sigmoid()) if output == "sigmoid" else nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(_channels_last(x)).contiguous()


class PixelDecoder(nn.Module):
    """A single pixel `b c 1 1` of shape `start` → square pictures `b c y x`, by transposed convolutions of stride 2.

    Each stage turns s pixels into 2 (s - 1) + kernel: 1 → 5, 13, 30, 64 with the kernels 5, 5, 6, 6 of PlaNet, Dreamer
    v1 and v2, which have no other decoder. What is painted is added to a grey of 0.5.
    """

    def __init__(
        self,
        channels: int,
        depth: int,
        mults: Sequence[int] = (1, 2, 4, 8),
        kernels: Sequence[int] = (5, 5, 6, 6),
        norm: ImageNorm = "none",
        activation: Activation = "relu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if len(mults) != len(kernels):
            raise UserError(
                f"{len(kernels)} kernels paint in as many stages, mults has {len(mults)}: give one for each"
            )
        self.start = 4 * depth * mults[-1], 1, 1
        depths = [self.start[0], *(depth * mult for mult in reversed(mults[:-1])), channels]
        stages: list[nn.Module] = []
        side = 1
        for i, ((before, after), kernel) in enumerate(zip(pairwise(depths), kernels, strict=True)):
            reach = kernel**2 / 4 if side > 1 else 1  # pixels that one of the next stage is made of
            biased = bias or norm == "none" or i == len(kernels) - 1
            layer = nn.ConvTranspose2d(before, after, kernel, stride=2, bias=biased)
            stages += [_begin(layer, before * reach), *_finish(after, norm, activation)]
            side = 2 * (side - 1) + kernel
        self.side = side
        self.stages = nn.Sequential(*stages[:-2])

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x) + 0.5


class DoublingConv(nn.Conv2d):
    """Every pixel made four, then a convolution with zeros around: `b i y x` → `b o 2y 2x`, with its parameters.

    Nothing is made four: of a kernel of 5×5 no pixel of the four sees more than 3×3 different ones, so that each has a
    kernel of its own, of sums of the 5×5. The same function with 0.36 of the multiplications.
    """

    def __init__(self, before: int, after: int, kernel: int, bias: bool = True) -> None:
        super().__init__(before, after, kernel, bias=bias)
        left = (kernel - 1) // 2  # zeros, as padding="same" has them
        self.reach = max((left + 1) // 2, (kernel - left) // 2)
        seen = torch.zeros(2, 2 * self.reach + 1, kernel)  # place of four, pixel, entry of the kernel that meets it
        for place in range(2):
            for entry in range(kernel):
                seen[place, (place + entry - left) // 2 + self.reach, entry] = 1
        self.seen: Tensor
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernels = torch.einsum("oiab,pya,qxb->pqoiyx", self.weight, self.seen, self.seen).flatten(0, 2)
        bias = None if self.bias is None else self.bias.repeat(4)
        fours = F.conv2d(x, kernels, bias, padding=self.reach)  # b (p q o) y x
        pixels = rearrange(fours, "b (p q o) y x -> b (y p) (x q) o", p=2, q=2)
        return pixels.permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    """Norm over the channels of each pixel: `b c y x` → same."""

    def __init__(self, channels: int, norm: Norm = "rms") -> None:
        super().__init__()
        self.norm = norm_layer(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def image_norm(channels: int, norm: ImageNorm) -> nn.Module:
    """Of maps `b c y x`: over the channels of each pixel, or of each channel over all pixels of the batch."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)  # training over several processes sees the batch of all (`norms_of_all`)
    return ChannelNorm(channels, norm) if norm != "none" else nn.Identity()


def start_shape(
    size: int | tuple[int, int], depth: int, mults: Sequence[int], stem: bool = False
) -> tuple[int, int, int]:
    """The smallest map (c, y, x) between the two halves. Raises `UserError` for sides that do not halve so often."""
    y, x = (size, size) if isinstance(size, int) else size
    halvings = len(mults) - stem
    factor = 2**halvings
    if y % factor or x % factor:
        raise UserError(f"a picture of {y}×{x} cannot be halved {halvings} times: choose sides divisible by {factor}")
    return depth * mults[-1], y // factor, x // factor


def _valid_shape(size: int | tuple[int, int], depth: int, mults: Sequence[int], kernel: int) -> tuple[int, int, int]:
    y, x = sides = (size, size) if isinstance(size, int) else size
    for _ in mults:
        y, x = (y - kernel) // 2 + 1, (x - kernel) // 2 + 1
    if min(y, x) < 1:
        raise UserError(
            f"a picture of {sides[0]}×{sides[1]} is too small for {len(mults)} stages of kernel {kernel} "
            "with nothing around it: enlarge it (image_size), or choose fewer stages"
        )
    return depth * mults[-1], y, x


def _check_stem(kernel: int, resize: Resize, stem: bool) -> None:
    if stem and (kernel % 2 == 0 or resize == "valid"):
        raise UserError(
            f"a first stage that keeps the sides needs an odd kernel and zeros around the picture, not kernel={kernel} "
            f"and {resize}"
        )


def _finish(channels: int, norm: ImageNorm, activation: Activation) -> list[nn.Module]:
    return [image_norm(channels, norm), ACTIVATIONS[activation]()]


def _keep(before: int, after: int, kernel: int, bias: bool) -> list[nn.Module]:
    return [_conv(nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bias))]


def _keep_back(before: int, after: int, kernel: int) -> list[nn.Module]:
    return [_conv(nn.ConvTranspose2d(before, after, kernel, padding=kernel // 2))]


def _halve(before: int, after: int, kernel: int, resize: Resize, bias: bool) -> list[nn.Module]:
    if resize == "valid":
        return [_conv(nn.Conv2d(before, after, kernel, stride=2, bias=bias))]
    if resize == "strided":
        return [_conv(nn.Conv2d(before, after, kernel, stride=2, padding=(kernel - 1) // 2, bias=bias))]
    return [_conv(nn.Conv2d(before, after, kernel, padding="same", bias=bias)), nn.MaxPool2d(2)]


def _double(before: int, after: int, kernel: int, resize: Resize, bias: bool = True) -> list[nn.Module]:
    if resize == "strided":
        pad, odd = (kernel - 1) // 2, kernel % 2
        layer = nn.ConvTranspose2d(before, after, kernel, stride=2, padding=pad, output_padding=odd, bias=bias)
        return [_conv(layer)]
    # The first was to double, the second to convolve: models that were saved then still fit.
    return [nn.Identity(), _conv(DoublingConv(before, after, kernel, bias))]


def _conv(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    return _begin(layer, layer.in_channels * math.prod(layer.kernel_size))


def _begin(layer: nn.Conv2d | nn.ConvTranspose2d, fan_in: float) -> nn.Module:
    init_(layer.weight, fan_in)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _channels_last(x: Tensor) -> Tensor:
    """On a CPU channels side by side in memory: few of them are convolved in half the time. Elsewhere as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x
