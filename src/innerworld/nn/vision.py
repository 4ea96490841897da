"""A vision transformer for pictures and films of any size, which computes only the tokens that it is asked for.

One module for I-JEPA, V-JEPA 1, 2 and 2.1, LeJEPA and DINOv2: they differ in what `ViTConfig` says. (`nn/vit.py` is
LeWorldModel's, whose output is one vector.)
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld.config import Config, build
from innerworld.errors import UserError, choose
from innerworld.nn.blocks import Block, init_
from innerworld.nn.patches import Patches, take
from innerworld.nn.rotary import Pairing, Turn, grid_positions, turn
from innerworld.nn.sincos import Order, resized, sincos_2d, sincos_3d

Grid = tuple[int, int, int]
"""Tokens in time, rows and columns."""


class ViTConfig(Config):
    dim: int = Field(default=192, description="width of a token", ge=1)
    depth: int = Field(default=12, description="blocks", ge=1)
    heads: int = Field(default=3, description="attention heads", ge=1)
    mlp: int = Field(default=768, description="hidden width of a block's MLP", ge=1)
    patch: int = Field(default=16, description="side of a patch, pixels", ge=1)
    tubelet: int = Field(default=1, description="frames of a token", ge=1)
    positions: Literal["rope", "rope_centred", "sincos_2d", "sincos_3d", "table"] = Field(
        default="rope",
        description="how tokens know where they are: turned (rope_centred: DINOv3), a frozen table, or a learned one",
    )
    pairing: Pairing = Field(default="standard", description="rope: which channels turn together")
    rope_grid: int | None = Field(
        default=None, description="rope: stretch rows and columns to a grid of this side (V-JEPA 2.1: 16)", ge=2
    )
    order: Order = Field(default="row_first", description="sincos_2d: which axis comes first")
    table: tuple[int, int] = Field(default=(1, 1), description="table: rows and columns it was learned for")
    table_antialias: bool = Field(default=False, description="table: how it is resized (DINOv2 with registers: so)")
    class_token: bool = Field(default=False, description="one more token, for the whole picture, before the others")
    registers: int = Field(default=0, description="tokens without a place or meaning, after the class token", ge=0)
    layer_scale: float | None = Field(default=None, description="initial gain of the branches; none: no gain")
    gated: bool = Field(default=False, description="SwiGLU instead of GELU")
    levels: tuple[int, ...] = Field(
        default=(), description="blocks whose outputs are normed and given, from 0 (none: the last)"
    )
    image_patch: bool = Field(
        default=False, description="pictures have an embedding of their own, and each kind a learned mark (V-JEPA 2.1)"
    )
    eps: float = Field(default=1e-6, description="of the LayerNorms", gt=0)
    rescale: bool = Field(default=True, description="smaller initial weights in later blocks (V-JEPA 2)")


SIZES: dict[str, ViTConfig] = {
    "tiny": ViTConfig(dim=192, depth=12, heads=3, mlp=768),
    "small": ViTConfig(dim=384, depth=12, heads=6, mlp=1536),
    "base": ViTConfig(dim=768, depth=12, heads=12, mlp=3072),
    "large": ViTConfig(dim=1024, depth=24, heads=16, mlp=4096),
    "huge": ViTConfig(dim=1280, depth=32, heads=16, mlp=5120),
    "giant": ViTConfig(dim=1408, depth=40, heads=16, mlp=6144),  # I-JEPA's
    "giant22": ViTConfig(dim=1408, depth=40, heads=22, mlp=6144),  # V-JEPA 2's: heads of 64
    "gigantic": ViTConfig(dim=1664, depth=48, heads=26, mlp=8192),  # V-JEPA 2.1's G
}
"""The published sizes; `sized` makes an encoder of one."""


def sized(size: str, **change: Any) -> ViTConfig:
    """A published size with other settings changed. Raises `UserError` for a size or a field that there is not."""
    return build(ViTConfig, choose("size", size, SIZES).model_dump() | change)


class VisionTransformer(nn.Module):
    """Pictures `b c y x` or films `b c t y x` → tokens `b s d`, time first, then rows, then columns.

    Class token and registers, if any, come before them. With several `levels` their outputs are side by side in d.
    Where tubelets have several frames and there is no embedding for pictures, a picture is shown as a film of itself.
    """

    def __init__(self, config: ViTConfig, channels: int = 3) -> None:
        super().__init__()
        self.config = config
        self.patches = Patches(channels, config.dim, config.patch, config.tubelet)
        self.image_patches = Patches(channels, config.dim, config.patch) if config.image_patch else None
        self.marks = nn.Parameter(torch.randn(2, config.dim) * 1e-6) if config.image_patch else None  # film, picture
        self.class_token = nn.Parameter(torch.randn(1, config.dim) * 0.02) if config.class_token else None
        self.registers = nn.Parameter(torch.randn(config.registers, config.dim) * 0.02) if config.registers else None
        if config.positions == "table":
            self.table = nn.Parameter(torch.randn(*config.table, config.dim) * 0.02)
        own = config.class_token and config.positions == "table"
        self.class_place = nn.Parameter(torch.randn(1, config.dim) * 0.02) if own else None  # its row of the table
        shape = config.dim, config.heads, config.mlp, config.eps, config.layer_scale, config.gated
        self.blocks = nn.ModuleList([Block(*shape) for _ in range(config.depth)])
        self.levels = config.levels or (config.depth - 1,)
        if not all(0 <= level < config.depth for level in self.levels):
            raise UserError(f"levels {list(self.levels)} are not blocks of a ViT of depth {config.depth}, from 0")
        self.norms = nn.ModuleList([nn.LayerNorm(config.dim, eps=config.eps) for _ in self.levels])
        if config.positions == "rope":
            turn(torch.zeros(1, 3), config.dim // config.heads, config.pairing)  # refuses narrow heads now, not later
        init_(self, config.rescale)

    @property
    def prefix(self) -> int:
        """Tokens before those of the patches."""
        return int(self.config.class_token) + self.config.registers

    def grid(self, x: Tensor) -> Grid:
        """The grid of tokens of these pictures or films. Raises `UserError` where patches do not tile them."""
        film, patches = self._film(x)
        return patches.grid(film)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """With `keep` `b n` the other tokens are never computed, not even their patches looked at: `b n d`."""
        film, patches = self._film(x)
        grid = patches.grid(film)
        tokens = patches(film, keep)
        if self.marks is not None:
            tokens = tokens + self.marks[0 if patches is self.patches else 1]
        tokens = tokens + self._absolute(grid, keep, tokens)
        by = self._turn(grid, keep, tokens)
        tokens = torch.cat([*(token.expand(len(tokens), -1, -1) for token in self._before()), tokens], dim=1)
        return self._through(tokens, by)

    def _film(self, x: Tensor) -> tuple[Tensor, Patches]:
        if x.ndim == 4 and self.image_patches is not None:
            return x.unsqueeze(2), self.image_patches
        if x.ndim == 4:
            return x.unsqueeze(2).expand(-1, -1, self.config.tubelet, -1, -1), self.patches
        if x.ndim != 5:
            raise UserError(f"an encoder sees pictures (b, c, y, x) or films (b, c, t, y, x), got {tuple(x.shape)}")
        return x, self.patches

    def _before(self) -> list[Tensor]:
        """Class token and registers, each `n d`."""
        token = self.class_token
        if token is not None and self.class_place is not None:
            token = token + self.class_place
        return [token for token in (token, self.registers) if token is not None]

    def _absolute(self, grid: Grid, keep: Tensor | None, like: Tensor) -> Tensor | float:
        """What is added to the tokens to say where they are: `s d`, or `b n d` with `keep`."""
        if self.config.positions in ("rope", "rope_centred"):
            return 0.0
        if self.config.positions == "table":
            place = resized(self.table, *grid[1:], antialias=self.config.table_antialias).repeat(grid[0], 1)
        else:
            place = frozen_table(self.config, self.config.dim, grid, like)
        return place if keep is None else take(place.expand(len(keep), -1, -1), keep)

    def _turn(self, grid: Grid, keep: Tensor | None, like: Tensor) -> Turn | None:
        if self.config.positions not in ("rope", "rope_centred"):
            return None
        return rope_turn(self.config, self.config.dim // self.config.heads, grid, keep, like)

    def _through(self, x: Tensor, by: Turn | None) -> Tensor:
        if by is not None and self.prefix:
            by = _still(by, self.prefix)
        found: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(x, by)
            found += [self.norms[j](x) for j, level in enumerate(self.levels) if level == i]
        return torch.cat(found, dim=-1) if len(found) > 1 else found[0]


def frozen_table(config: ViTConfig, dim: int, grid: Grid, like: Tensor) -> Tensor:
    """The frozen positions `s dim` of a grid, for an encoder of this kind or a predictor behind it."""
    if config.positions == "sincos_3d":
        return sincos_3d(dim, *grid, device=like.device).to(like.dtype)
    return sincos_2d(dim, *grid[1:], order=config.order, device=like.device).repeat(grid[0], 1).to(like.dtype)


def rope_turn(config: ViTConfig, head_dim: int, grid: Grid, keep: Tensor | None, like: Tensor) -> Turn:
    """The turn of a grid's tokens (of those in `keep` `b n`), in float32 at least: bfloat16 is too coarse."""
    position = grid_positions(*grid, device=like.device)  # s 3
    dtype = torch.promote_types(like.dtype, torch.float32)
    if config.positions == "rope_centred":  # DINOv3: centres of patches, each side from -1 to 1, full circles
        sides = torch.tensor(grid[1:], device=like.device, dtype=dtype)
        place = 2 * torch.pi * (2 * (position[:, 1:] + 0.5) / sides - 1)
        return turn(place if keep is None else place[keep], head_dim, config.pairing, dtype, base=100.0)
    if config.rope_grid is not None:
        last = torch.tensor([1, max(1, grid[1] - 1), max(1, grid[2] - 1)], device=like.device, dtype=dtype)
        full = torch.tensor([1, config.rope_grid - 1, config.rope_grid - 1], device=like.device, dtype=dtype)
        position = position * (full / last)
    return turn(position if keep is None else position[keep], head_dim, config.pairing, dtype)


def _still(by: Turn, prefix: int) -> Turn:
    """Tokens without a place do not turn: put `prefix` of those before the others."""
    cos, sin = by
    still = torch.ones_like(cos[..., :1, :]).expand(*cos.shape[:-2], prefix, -1)
    return torch.cat([still, cos], dim=-2), torch.cat([torch.zeros_like(still), sin], dim=-2)
