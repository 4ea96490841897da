"""A plain vision transformer: one picture in, one vector out (ViT, arXiv 2010.11929)."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.linear import Linear


class ViT(nn.Module):
    """Pre-norm ViT with a class token and learned positions; the output is the normed class token `b d`.

    Raises `UserError` for a picture that patches do not tile, or a width that heads cannot share.
    """

    def __init__(self, channels: int, size: int, patch: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        if size % patch:
            raise UserError(f"a picture of {size}×{size} cannot be cut into patches of {patch}: choose a divisor")
        if dim % heads:
            raise UserError(f"a ViT of width {dim} cannot be shared by {heads} heads: choose a multiple")
        self.patch = nn.Conv2d(channels, dim, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim) * 0.02)
        self.blocks = nn.ModuleList([_Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Images `b c y x` → `b d`."""
        x = rearrange(self.patch(x), "b d y x -> b (y x) d")
        x = torch.cat([repeat(self.token, "1 1 d -> b 1 d", b=x.shape[0]), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = Linear(dim, 3 * dim)
        self.out = Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(Linear(dim, 4 * dim), nn.GELU(), Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b s (three h d) -> three b h s d", three=3, h=self.heads)
        x = x + self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h s d -> b s (h d)"))
        return x + self.mlp(self.norm_mlp(x))
