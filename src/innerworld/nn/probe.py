"""The attentive probe of the V-JEPA papers: a learned query reads frozen tokens, a linear layer names what it saw."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.nn.blocks import MLP, Block, init_
from innerworld.nn.linear import Linear


class AttentiveProbe(nn.Module):
    """`blocks` − 1 blocks of self-attention, one of cross-attention, a linear layer: tokens `b s d` → `b classes`.

    One block is V-JEPA's probe (arXiv 2404.08471), four are V-JEPA 2's (arXiv 2506.09985, §D). With more `queries`
    each gives its own row, `b queries classes`, as for EPIC-KITCHENS' verb, noun and action.
    """

    def __init__(
        self, dim: int, classes: int, heads: int = 16, blocks: int = 4, queries: int = 1, mlp: int | None = None
    ) -> None:
        super().__init__()
        mlp = 4 * dim if mlp is None else mlp
        self.before = nn.ModuleList([Block(dim, heads, mlp) for _ in range(blocks - 1)])
        self.query = nn.Parameter(torch.zeros(queries, dim))
        self.read = _Read(dim, heads, mlp)
        self.classify = Linear(dim, classes)
        init_(self, rescale=True)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.summary(tokens)
        return self.classify(seen.squeeze(1) if len(self.query) == 1 else seen)

    def summary(self, tokens: Tensor) -> Tensor:
        """What each query read, before the linear layer: `b queries d`."""
        for block in self.before:
            tokens = block(tokens)
        return self.read(self.query.expand(tokens.shape[0], -1, -1), tokens)


class _Read(nn.Module):
    """Cross-attention without an output layer, whose query is not normed, and an MLP, each beside a shortcut."""

    def __init__(self, dim: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.q = Linear(dim, dim)
        self.kv = Linear(dim, 2 * dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, mlp)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        q = rearrange(self.q(query), "b n (h d) -> b h n d", h=self.heads)
        k, v = rearrange(self.kv(self.norm1(tokens)), "b s (two h d) -> two b h s d", two=2, h=self.heads)
        seen = query + rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        return seen + self.mlp(self.norm2(seen))
