"""The pre-norm transformer block that vision transformers and masked predictors are made of."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.linear import Linear
from innerworld.nn.rotary import Turn, rotate


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a shortcut: `b s d` → `b s d`.

    `scale` multiplies each branch by a learned gain that starts there (LayerScale, arXiv 2103.17239, as in DINOv2);
    `gated` makes the MLP a SwiGLU of `mlp` channels. Raises `UserError` for a width that heads cannot share.
    """

    def __init__(
        self, dim: int, heads: int, mlp: int, eps: float = 1e-6, scale: float | None = None, gated: bool = False
    ) -> None:
        super().__init__()
        if dim % heads:
            raise UserError(f"a width of {dim} cannot be shared by {heads} heads: choose a multiple")
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = SwiGLU(dim, mlp) if gated else MLP(dim, mlp)
        self.scale1 = nn.Parameter(torch.full((dim,), scale)) if scale is not None else None
        self.scale2 = nn.Parameter(torch.full((dim,), scale)) if scale is not None else None

    def forward(self, x: Tensor, turn: Turn | None = None, seen: Tensor | None = None) -> Tensor:
        """`turn` gives the positions (rotary), `seen` `s s` says who may look at whom (none: all)."""
        mixed = self.attention(self.norm1(x), turn, seen)
        x = x + (mixed if self.scale1 is None else mixed * self.scale1)
        mixed = self.mlp(self.norm2(x))
        return x + (mixed if self.scale2 is None else mixed * self.scale2)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.out = Linear(dim, dim)

    def forward(self, x: Tensor, turn: Turn | None = None, seen: Tensor | None = None) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b s (three h d) -> three b h s d", three=3, h=self.heads)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out(rearrange(mixed, "b h s d -> b s (h d)"))


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    """SwiGLU (arXiv 2002.05202); `fc1` gives the gate, then the value."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, 2 * hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * value)


@torch.no_grad()
def init_(module: nn.Module, rescale: bool) -> None:
    """Linear weights from a normal of deviation 0.02, biases zero, as all JEPAs begin.

    With `rescale` the last layers of the branches of block i = 1, 2, … shrink by √(2 i), as V-JEPA 2's do; I-JEPA's
    code means to and then overwrites them.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    blocks = [part for part in module.modules() if isinstance(part, Block)] if rescale else []
    for i, block in enumerate(blocks, start=1):
        block.attention.out.weight.div_(math.sqrt(2 * i))
        block.mlp.fc2.weight.div_(math.sqrt(2 * i))
