"""A causal transformer over time whose blocks are steered by the action (AdaLN-zero) and which can go step by step."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.linear import Linear


class SteeredTransformer(nn.Module):
    """Each token looks at itself and the `window - 1` before it; the action shifts, scales and gates every block.

    Settings as in LeWorldModel (arXiv 2603.19312), but with rotary instead of learned absolute positions: only then are
    keys and values that were computed once still right when the window slides, which is what makes imagining cheap.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, head_dim: int, mlp: int, window: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if head_dim % 2:
            raise UserError(f"head_dim must be even, for positions turn channels in pairs; got {head_dim}")
        self.heads, self.head_dim, self.window = heads, head_dim, window
        self.blocks = nn.ModuleList([_Block(dim, heads, head_dim, mlp, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, action: Tensor) -> Tensor:
        """All steps of a clip at once: tokens `b t d`, embedded actions `b t d` → `b t d`."""
        t = x.shape[1]
        position = torch.arange(t, device=x.device)
        distance = position[:, None] - position[None, :]
        seen = (distance >= 0) & (distance < self.window)  # t t
        turn = rotation(position, self.head_dim)
        for block in self.blocks:
            x = block(x, action, turn, seen)
        return self.norm(x)

    def blank(self, b: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The memory before anything was seen: keys and values, each `b layer window-1 head d`, all zero."""
        shape = (b, len(self.blocks), self.window - 1, self.heads, self.head_dim)
        return like.new_zeros(shape), like.new_zeros(shape)

    def step(
        self, x: Tensor, action: Tensor, past: tuple[Tensor, Tensor], time: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One more token: `b d`, its memory and its index in time `b` → output `b d` and the memory after it."""
        x = x[:, None]  # one candidate
        own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.blocks]
        out = self.branch(x, action[:, None], past, own, time, 0)
        keys = torch.stack([rows[0][0][:, 0] for rows in own], dim=1)  # b layer head d
        values = torch.stack([rows[0][1][:, 0] for rows in own], dim=1)
        keys = torch.cat([past[0], keys[:, :, None]], dim=2)[:, :, 1:]
        values = torch.cat([past[1], values[:, :, None]], dim=2)[:, :, 1:]
        return out[:, 0], (keys, values)

    def branch(
        self,
        x: Tensor,
        action: Tensor,
        past: tuple[Tensor, Tensor],
        own: list[list[tuple[Tensor, Tensor]]],
        time: Tensor,
        h: int,
    ) -> Tensor:
        """Step h of n candidates that share one past: tokens `b n d` → `b n d`.

        `own` holds, for each layer, the keys and values `b n head d` of the candidates' own steps so far, and grows by
        this one; `past` is shared and never repeated; `time` `b` is the index of the first own token.
        """
        turn = rotation(time[:, None] + h, self.head_dim)  # b 1 d/2
        shared = max(self.window - 1 - h, 0)  # how many tokens of the shared past are still in the window
        first = max(h + 1 - self.window, 0)
        slots = torch.arange(self.window - 1, device=x.device) >= self.window - 1 - time[:, None]  # b s: seen already
        for i, block in enumerate(self.blocks):
            keys = past[0][:, i, self.window - 1 - shared :]
            values = past[1][:, i, self.window - 1 - shared :]
            assert isinstance(block, _Block)
            x = block.branch(x, action, (keys, values), slots[:, self.window - 1 - shared :], own[i], first, turn)
        return self.norm(x)


class _Block(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the action; gates start at zero (DiT, arXiv 2212.09748)."""

    def __init__(self, dim: int, heads: int, head_dim: int, mlp: int, dropout: float) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads, self.dropout = heads, dropout
        self.norm_attention = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.norm_in = nn.LayerNorm(dim)  # LeWorldModel's attention has a norm of its own
        self.qkv = Linear(dim, 3 * inner, bias=False)
        self.out = Linear(inner, dim)
        self.mlp = nn.Sequential(
            Linear(dim, mlp), nn.GELU(), nn.Dropout(dropout), Linear(mlp, dim), nn.Dropout(dropout)
        )
        self.steer = Linear(dim, 6 * dim)
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)

    def forward(self, x: Tensor, action: Tensor, turn: Tensor, seen: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.steer(F.silu(action)).chunk(6, dim=-1)
        q, k, v = self._project(self.norm_attention(x) * (1 + scale_a) + shift_a)  # b t head d
        q, k, v = (rearrange(each, "b t h d -> b h t d") for each in (rotate(q, turn), rotate(k, turn), v))
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)
        mixed = self.out(rearrange(mixed, "b h t d -> b t (h d)"))
        x = x + gate_a * F.dropout(mixed, self.dropout, self.training)
        return x + gate_m * self.mlp(self.norm_mlp(x) * (1 + scale_m) + shift_m)

    def branch(
        self,
        x: Tensor,
        action: Tensor,
        past: tuple[Tensor, Tensor],
        seen: Tensor,
        own: list[tuple[Tensor, Tensor]],
        first: int,
        turn: Tensor,
    ) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.steer(F.silu(action)).chunk(6, dim=-1)
        q, k, v = self._project(self.norm_attention(x) * (1 + scale_a) + shift_a)  # b n head d
        q, k = rotate(q, turn), rotate(k, turn)
        own.append((k, v))
        mixed = self.out(_attend(q, past, seen, own[first:]).flatten(-2))
        x = x + gate_a * mixed
        return x + gate_m * self.mlp(self.norm_mlp(x) * (1 + scale_m) + shift_m)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(self.norm_in(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return q, k, v


def _attend(q: Tensor, past: tuple[Tensor, Tensor], seen: Tensor, own: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Queries `b n head d` over a shared past (`b s head d`, `seen` `b s`) and each candidate's own steps."""
    q = q * q.shape[-1] ** -0.5
    score = torch.cat(
        [
            torch.einsum("bnhd,bshd->bnhs", q, past[0]).masked_fill(~seen[:, None, None], float("-inf")),
            *((q * k).sum(-1, keepdim=True) for k, _ in own),
        ],
        dim=-1,
    )
    weight = score.softmax(dim=-1)  # b n head s
    s = seen.shape[1]
    mixed = torch.einsum("bnhs,bshd->bnhd", weight[..., :s], past[1])
    for j, (_, v) in enumerate(own):
        mixed = torch.addcmul(mixed, weight[..., s + j, None], v)
    return mixed


def rotation(position: Tensor, size: int) -> Tensor:
    """Rotary positions (RoFormer, arXiv 2104.09864) as unit complex numbers: positions `...` → `... size/2`."""
    frequency = 10000 ** (-torch.arange(0, size, 2, device=position.device, dtype=torch.float32) / size)
    angle = position[..., None].float() * frequency
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turn each pair of neighbouring channels: `... t head d` by `t d/2` (a batch axis may lead)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn.unsqueeze(-2)).flatten(-2).to(x.dtype)
