"""A U-Net whose blocks are steered by adaptive group norms, and its way down alone (DIAMOND, arXiv 2405.12399).

Whatever steers (a noise level, actions) is one vector for each picture. `steer` turns it into the scales and shifts of
all norms, in the order in which they come; so those of many steps can be had in one go.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.linear import Linear

EPS = 1e-5
GROUP = 32  # channels of a group, about
HEAD = 8  # channels of a head


class UNet(nn.Module):
    """Pictures `r c y x` → `r c y x`, c = channels[0]: `depths[i]` blocks at side / 2^i going down, one more going up.

    `attention[i]` says which sides attend; the middle always does. Sides that do not halve are padded with zeros.
    """

    def __init__(
        self, steer: int, channels: Sequence[int], depths: Sequence[int], attention: Sequence[bool] | None = None
    ) -> None:
        super().__init__()
        attention = attention or [False] * len(channels)
        before = [channels[0], *channels[:-1]]
        sides = list(zip(before, channels, depths, attention, strict=True))
        self.down = nn.ModuleList(_down(*side, steer) for side in sides)
        self.middle = _Blocks([channels[-1]] * 2, [channels[-1]] * 2, steer, True)
        self.up = nn.ModuleList(
            _Blocks([2 * c] * n + [b + c], [c] * n + [b], steer, attends) for b, c, n, attends in reversed(sides)
        )
        self.halve = nn.ModuleList([nn.Identity(), *(Halve(c) for c in channels[:-1])])
        self.enlarge = nn.ModuleList([nn.Identity(), *(_Double(c) for c in reversed(channels[:-1]))])

    def steer(self, vector: Tensor) -> list[Tensor]:
        """Vectors `... e` → of every norm its scales and shifts, `... (2 c)`."""
        return _steered([*self.down, self.middle, *self.up], vector)

    def forward(self, x: Tensor, steering: Iterable[Tensor]) -> Tensor:
        steering = iter(steering)
        y, width = x.shape[-2:]
        whole = 2 ** (len(self.halve) - 1)
        if y % whole or width % whole:
            x = F.pad(x, (0, -width % whole, 0, -y % whole))
        kept: list[list[Tensor]] = []
        for blocks, halve in zip(self.down, self.halve, strict=True):
            x = halve(x)
            kept.append([x, *blocks(x, steering)])
            x = kept[-1][-1]
        x = self.middle(x, steering)[-1]
        for blocks, enlarge in zip(self.up, self.enlarge, strict=True):
            x = blocks(enlarge(x), steering, kept.pop()[::-1])[-1]
        return x[..., :y, :width]


class Descent(nn.Module):
    """The way down alone, ending with two blocks that attend: pictures `r c y x` → `r c' y' x'`."""

    def __init__(
        self, steer: int, channels: Sequence[int], depths: Sequence[int], attention: Sequence[bool] | None = None
    ) -> None:
        super().__init__()
        attention = attention or [False] * len(channels)
        before = [channels[0], *channels[:-1]]
        self.blocks = nn.ModuleList(
            [
                *(_down(*side, steer) for side in zip(before, channels, depths, attention, strict=True)),
                _Blocks([channels[-1]] * 2, [channels[-1]] * 2, steer, True),
            ]
        )
        self.halve = nn.ModuleList([nn.Identity(), *(Halve(c) for c in channels[:-1]), nn.Identity()])
        self.channels, self.halvings = channels[-1], len(channels) - 1

    def width(self, size: tuple[int, int]) -> int:
        """How many numbers come out of a picture of that size."""
        return self.channels * math.prod(-(-side // 2**self.halvings) for side in size)

    def steer(self, vector: Tensor) -> list[Tensor]:
        """As `UNet.steer`."""
        return _steered(self.blocks, vector)

    def forward(self, x: Tensor, steering: Iterable[Tensor]) -> Tensor:
        steering = iter(steering)
        for blocks, halve in zip(self.blocks, self.halve, strict=True):
            x = blocks(halve(x), steering)[-1]
        return x


class ResidualBlock(nn.Module):
    """Twice norm, steered, SiLU and convolution, beside a shortcut; then, where it `attends`, attention.

    The last convolution begins with zeros.
    """

    def __init__(self, before: int, after: int, steer: int, attends: bool) -> None:
        super().__init__()
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.norm1 = SteeredNorm(before, steer)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = SteeredNorm(after, steer)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.attention = SelfAttention(after) if attends else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, steering: Iterator[Tensor]) -> Tensor:
        inner = self.conv1(self.norm1(x, next(steering)))
        inner = self.conv2(self.norm2(inner, next(steering)))
        return self.attention(inner + self.shortcut(x))


class SteeredNorm(nn.Module):
    """A group norm whose scale and shift are made from a vector, `linear` (AdaGN, arXiv 2105.05233), and a SiLU."""

    def __init__(self, channels: int, steer: int) -> None:
        super().__init__()
        self.groups = groups_of(channels)
        self.linear = Linear(steer, 2 * channels)

    def forward(self, x: Tensor, steering: Tensor) -> Tensor:
        """Pictures `r c y x`, and of the norm its scales and shifts `r (2 c)`."""
        scale, shift = steering[:, :, None, None].chunk(2, dim=1)
        x = torch.addcmul(shift, F.group_norm(x, self.groups, eps=EPS), 1 + scale)
        return F.silu(x, inplace=not torch.is_grad_enabled())


class SelfAttention(nn.Module):
    """Every pixel looks at every other of its picture, in heads of 8 channels; begins as a norm alone.

    What is found is added to what was normed, as in DIAMOND's code, where others add it to what came in.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        if channels % self.heads:
            raise UserError(f"{channels} channels do not make heads of {HEAD}: choose a multiple of {HEAD}")
        self.norm = nn.GroupNorm(groups_of(channels), channels, eps=EPS)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        r, c, y, width = x.shape
        x = self.norm(x)
        qkv = self.qkv(x).reshape(r, 3 * self.heads, c // self.heads, y * width).transpose(2, 3)
        q, k, v = qkv.contiguous().chunk(3, dim=1)  # r heads (y x) channels
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(2, 3).reshape(r, c, y, width))


class Halve(nn.Conv2d):
    """Half the sides, rounded up, by a convolution that begins orthogonal."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)
        nn.init.orthogonal_(self.weight)


def groups_of(channels: int) -> int:
    """How many groups are normed apart. Raises `UserError` for channels that do not make groups."""
    groups = max(1, channels // GROUP)
    if channels % groups:
        raise UserError(f"{channels} channels do not make {groups} equal groups: choose a multiple of {GROUP}")
    return groups


class _Double(nn.Module):
    """Every pixel made four, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class _Blocks(nn.ModuleList):
    """Residual blocks one after another; what each says is kept, for another way to read."""

    def __init__(self, before: Sequence[int], after: Sequence[int], steer: int, attends: bool) -> None:
        super().__init__(ResidualBlock(b, a, steer, attends) for b, a in zip(before, after, strict=True))

    def forward(self, x: Tensor, steering: Iterator[Tensor], beside: Sequence[Tensor] | None = None) -> list[Tensor]:
        """With `beside`, one for each block, each reads that as well."""
        said = []
        for i, block in enumerate(self):
            x = block(x if beside is None else torch.cat([x, beside[i]], dim=1), steering)
            said.append(x)
        return said


def _down(before: int, channels: int, depth: int, attends: bool, steer: int) -> _Blocks:
    """The blocks at one side, going down."""
    return _Blocks([before] + [channels] * (depth - 1), [channels] * depth, steer, attends)


def _steered(blocks: Iterable[nn.Module], vector: Tensor) -> list[Tensor]:
    return [part.linear(vector) for some in blocks for part in some.modules() if isinstance(part, SteeredNorm)]
