"""A transformer over steps of several tokens each: a step sees itself and the steps before it, and can be added alone.

V-JEPA 2-AC's predictor (arXiv 2506.09985, §3.1) without what goes in and out. Keys and values that were computed once
are kept, so that a step costs its own tokens only, and candidate futures share those of their past.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.nn.blocks import Block
from innerworld.nn.rotary import Turn, rotate

Memory = tuple[Tensor, Tensor]
"""Keys and values of the last `window - 1` steps, each `b layer head p d` with p = (window - 1) · tokens of a step."""


class BlockCausal(nn.Module):
    """Within a step every token sees every other; of the steps before it sees the last `window - 1`."""

    def __init__(self, dim: int, depth: int, heads: int, mlp: int, window: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.heads, self.head_dim, self.window = heads, dim // heads, window
        self.blocks = nn.ModuleList([Block(dim, heads, mlp, eps) for _ in range(depth)])

    def forward(self, x: Tensor, by: Turn) -> Tensor:
        """All steps of a clip at once: `b t s d`, turned by `1 (t s) d` → `b t s d`."""
        t, s = x.shape[1:3]
        seen = block_causal(t, s, self.window, x.device) if t > 1 else None
        x = x.flatten(1, 2)
        for block in self.blocks:
            x = block(x, by, seen)
        return x.unflatten(1, (t, s))

    def blank(self, b: int, s: int, like: Tensor) -> Memory:
        """The memory before anything was seen: zeros that take no room."""
        shape = (b, len(self.blocks), self.heads, (self.window - 1) * s, self.head_dim)
        return like.new_zeros(()).expand(shape), like.new_zeros(()).expand(shape)


class Futures:
    """n candidate futures that share one past: add their steps one by one.

    `time` `b` says how many steps of the `past` there are, before the first of their own.
    """

    def __init__(self, body: BlockCausal, past: Memory, time: Tensor, s: int) -> None:
        self.body, self.s, self.n, self.added = body, s, 1, 0
        used = min(int(time.max()), body.window - 1)  # steps of the past that any row has
        self.keys, self.values = (part[..., part.shape[-2] - used * s :, :] for part in past)
        ago = torch.arange(used, 0, -1, device=time.device)  # steps
        known = (ago <= time[:, None]).repeat_interleave(s, dim=1)  # b p
        self.known = None if bool(known.all()) else known
        self.own: list[Memory | None] = [None] * len(body.blocks)

    def add(self, x: Tensor, by: Turn) -> Tensor:
        """One more step of each: tokens `b n s d`, turned by `b 1 1 s d` → `b n s d`."""
        self.n = x.shape[1]
        shared = min(self.keys.shape[-2], max(self.body.window - 1 - self.added, 0) * self.s)
        for i, block in enumerate(self.body.blocks):
            assert isinstance(block, Block)
            x = x + self._attend(i, block, block.norm1(x), by, self.keys.shape[-2] - shared)
            x = x + block.mlp(block.norm2(x))
        self.added += 1
        return x

    def memory(self, before: Memory) -> Memory:
        """What the first of the futures remembers, in the shape of the memory `before` it began."""
        size = before[0].shape[-2]
        if not size:
            return before
        own = [kept for kept in self.own if kept is not None]
        parts = (torch.stack([kept[j][:: self.n] for kept in own], dim=1) for j in (0, 1))  # each b layer head q d
        keys, values = (torch.cat([old, new], dim=-2)[..., -size:, :] for old, new in zip(before, parts, strict=True))
        return keys, values

    def _attend(self, i: int, block: Block, x: Tensor, by: Turn, skip: int) -> Tensor:
        q, k, v = rearrange(block.attention.qkv(x), "b n s (three h d) -> three b n h s d", three=3, h=self.body.heads)
        q, k, v = (part.flatten(0, 1) for part in (rotate(q, by), rotate(k, by), v))  # (b n) h s d
        keys, values = self._with_own(i, k, v)
        mask = None
        if self.keys.shape[-2] > skip:
            past = (part[:, i, :, skip:].repeat_interleave(self.n, dim=0) for part in (self.keys, self.values))
            mask = self._mask(skip, keys.shape[-2])
            keys, values = (torch.cat(pair, dim=-2) for pair in zip(past, (keys, values), strict=True))
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        return block.attention.out(rearrange(mixed, "(b n) h s d -> b n s (h d)", n=self.n))

    def _with_own(self, i: int, k: Tensor, v: Tensor) -> Memory:
        """The keys and values of the candidates' own steps that are in the window, the newest at the end."""
        kept = self.own[i]
        if kept is not None:
            k, v = (
                torch.cat(pair, dim=-2)[..., -self.body.window * self.s :, :] for pair in zip(kept, (k, v), strict=True)
            )
        self.own[i] = k, v
        return k, v

    def _mask(self, skip: int, own: int) -> Tensor | None:
        """Who is seen, `(b n) 1 1 p+q`; none where all are."""
        if self.known is None:
            return None
        known = self.known[:, skip:].repeat_interleave(self.n, dim=0)
        return torch.cat([known, known.new_ones(len(known), own)], dim=1)[:, None, None]


def block_causal(t: int, s: int, window: int, device: torch.device | None = None) -> Tensor:
    """Which token sees which, `(t s) (t s)`: all of its own step and of the `window - 1` steps before it."""
    step = torch.arange(t, device=device).repeat_interleave(s)
    ago = step[:, None] - step[None, :]
    return (ago >= 0) & (ago < window)
