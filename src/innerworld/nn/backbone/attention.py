"""Causal attention over a sliding window as a memory: keys and values that were computed once stay right as it slides.

Positions are relative, so nothing caps the length of a stream: rotary (RoFormer, arXiv 2104.09864), or Transformer-XL's
(arXiv 1901.02860, eq. 5 and appendix B). Absolute positions are in `absolute.py`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn import rotary
from innerworld.nn.backbone.futures import Futures, held, past
from innerworld.nn.backbone.layer import Layer, Memory, Roll
from innerworld.nn.backbone.residual import same_rows
from innerworld.nn.linear import Linear
from innerworld.nn.mlp import ACTIVATIONS, Activation
from innerworld.nn.sincos import sincos

Positions = Literal["rotary", "relative"]
Norms = Literal["pre", "post"]


class AttentionLayer(Layer):
    """One block, attention and MLP. Each token sees itself and the `window - 1` before it, never beyond `first`.

    Its memory is the keys and values of the last `window - 1` tokens, projected, `b head window-1 d`, newest last, of
    which `age` are filled. Rotary keys are turned by their absolute `time`, with angles in float64, so that a stream of
    any length stays exact. Dropout is for `forward` and `trace` in training; acting and imagining are without.
    Raises `UserError` for heads that do not fit.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp: int,
        window: int,
        head_dim: int | None = None,
        positions: Positions = "rotary",
        norm: Norms = "pre",
        dropout: float = 0.0,
        activation: Activation = "silu",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if window < 1:
            raise UserError(f"a window holds at least the token itself, so 1; got {window}")
        self.block = AttentionBlock(dim, heads, mlp, head_dim, norm, dropout, activation, eps)
        self.window, self.positions = window, positions
        if positions == "rotary" and self.block.head_dim % 2:
            raise UserError(
                f"rotary positions turn channels in pairs: head_dim must be even, got {self.block.head_dim}"
            )
        self.distances = _Distances(dim, heads, self.block.head_dim, window) if positions == "relative" else None

    def blank(self, b: int, like: Tensor) -> Memory:
        shape = (b, self.block.heads, self.window - 1, self.block.head_dim)
        memory = {"keys": like.new_zeros(shape), "values": like.new_zeros(shape)}
        return memory | {name: like.new_zeros(b, dtype=torch.long) for name in self._clocks}

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        return self._run(x, first)[0]

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        out, keys, values = self._run(x, None if first is None else first[:, :-1])
        b, t = x.shape[:2]
        now = torch.arange(t + 1, device=x.device)
        age = (now - begins(first, b, t + 1, x.device)).clamp(max=self.window - 1)
        clocks = {"age": age, "time": now.expand(b, t + 1)}
        memory = {"keys": self._windows(keys, x.dtype), "values": self._windows(values, x.dtype)}
        return out, memory | {name: clocks[name] for name in self._clocks}

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        same_rows(x, memory["age"])
        age = memory["age"]
        clock = memory["time"][:, None] if "time" in memory else None
        q, key, value = self._project(x[:, None], clock)
        keys = torch.cat([memory["keys"], key.to(memory["keys"].dtype)], dim=2)  # b head window d
        values = torch.cat([memory["values"], value.to(memory["values"].dtype)], dim=2)
        slot = torch.arange(self.window, device=x.device)
        seen = (slot >= self.window - 1 - age[:, None])[:, None, None]  # b 1 1 window
        mixed = self._attend(q, keys, values, seen, self.window - 1 - slot[None], 0.0)
        after = {"keys": keys[:, :, 1:], "values": values[:, :, 1:], "age": (age + 1).clamp(max=self.window - 1)}
        if clock is not None:
            after["time"] = memory["time"] + 1
        return self.block.finish(x[:, None], mixed, 0.0)[:, 0], after

    def roll(self, memory: Memory, horizon: int) -> Roll:
        futures = Futures(past(memory["keys"], memory["values"], memory["age"]), self.window, horizon)
        clock = memory["time"].reshape(futures.shape) if "time" in memory else None
        table = None if self.distances is None else self.distances.table(self.window)

        def step(x: Tensor) -> Tensor:
            same_rows(x, memory["age"])
            token = x.reshape(*futures.shape, -1)
            q, key, value = self._project(token, None if clock is None else clock + futures.steps)
            far = None
            if self.distances is not None and table is not None:
                q, far = self.distances.scores(q, table)
            return self.block.finish(token, futures.attend(q, key, value, far), 0.0).reshape(x.shape)

        return step

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        inner = self.block.heads * self.block.head_dim
        table = 0 if self.distances is None else self.window * inner
        return held(b, k, self.window, horizon, inner) + table

    @property
    def _clocks(self) -> tuple[str, ...]:
        return ("age", "time") if self.positions == "rotary" else ("age",)

    def _run(self, x: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """All tokens of a clip; also their keys and values `b head t d`."""
        b, t = x.shape[:2]
        now = torch.arange(t, device=x.device)
        q, keys, values = self._project(x, now[None] if self.positions == "rotary" else None)
        distance = now[:, None] - now[None]
        seen = None
        if first is not None or self.window < t or self.distances is not None:
            begin = begins(first, b, t, x.device)
            seen = ((distance >= 0) & (distance < self.window) & (now >= begin[..., None]))[:, None]  # b 1 t t
        dropout = self.block.dropout if self.training else 0.0
        mixed = self._attend(q, keys, values, seen, distance, dropout)
        return self.block.finish(x, mixed, dropout), keys, values

    def _project(self, x: Tensor, clock: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens `b s dim` → q, k, v, each `b head s d`, turned by the `clock` `b s` where there is one."""
        q, k, v = self.block.project(x)
        if clock is None:
            return q, k, v
        turn = rotary.turn(clock[..., None], self.block.head_dim, "standard", torch.float64)
        return rotary.rotate(q, turn), rotary.rotate(k, turn), v

    def _attend(
        self, q: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None, distance: Tensor, dropout: float
    ) -> Tensor:
        """Queries `b head s d` over keys `b head l d`, by `distance` `s l`, where `seen` (none: all before it)."""
        if self.distances is None or seen is None:
            return F.scaled_dot_product_attention(
                q, keys, values, attn_mask=seen, dropout_p=dropout, is_causal=seen is None
            )
        table = self.distances.table(min(self.window, keys.shape[2]))
        q, far = self.distances.scores(q, table)
        index = distance.clamp(0, table.shape[1] - 1).expand(*far.shape[:2], *distance.shape)
        bias = far.gather(-1, index).masked_fill(~seen, float("-inf"))
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=bias, dropout_p=dropout)

    def _windows(self, of: Tensor, dtype: torch.dtype) -> Tensor:
        """The last `window - 1` of `b head t d` before each time and after the last: `b t+1 head window-1 d`, views."""
        size = self.window - 1
        padded = F.pad(of.detach().to(dtype), (0, 0, size, 0))
        return padded.unfold(2, size, 1).permute(0, 2, 1, 4, 3)


class AttentionBlock(nn.Module):
    """What a token's attention is made of, but for who looks at whom: norms, projections, MLP and what is added up.

    Projections have no biases, the MLP has (STORM, arXiv 2310.09615, and TransDreamer, arXiv 2202.09481, alike).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp: int,
        head_dim: int | None,
        norm: Norms,
        dropout: float,
        activation: Activation,
        eps: float,
    ) -> None:
        super().__init__()
        if heads < 1 or (head_dim is None and dim % heads):
            raise UserError(f"{heads} heads do not divide a width of {dim}: choose others, or give head_dim")
        self.heads, self.head_dim = heads, dim // heads if head_dim is None else head_dim
        self.norm, self.dropout = norm, dropout
        inner = self.heads * self.head_dim
        self.qkv = Linear(dim, 3 * inner, bias=False)
        self.out = Linear(inner, dim, bias=False)
        self.mlp = nn.Sequential(Linear(dim, mlp), ACTIVATIONS[activation](), Linear(mlp, dim))
        self.norm_attention = nn.LayerNorm(dim, eps=eps)
        self.norm_mlp = nn.LayerNorm(dim, eps=eps)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens `b s dim` → q, k, v, each `b head s d`."""
        x = self.norm_attention(x) if self.norm == "pre" else x
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4).unbind()
        return q, k, v

    def finish(self, x: Tensor, mixed: Tensor, dropout: float) -> Tensor:
        """Tokens `b s dim` and what they saw, `b head s d` → the block's output `b s dim`."""
        x = x + F.dropout(self.out(mixed.transpose(1, 2).flatten(2)), dropout, dropout > 0)
        if self.norm == "post":
            x = self.norm_attention(x)
            return self.norm_mlp(x + F.dropout(self.mlp(x), dropout, dropout > 0))
        return x + F.dropout(self.mlp(self.norm_mlp(x)), dropout, dropout > 0)


class _Distances(nn.Module):
    """Transformer-XL's relative positions: sines of the distance, projected to keys, with a bias of each head."""

    def __init__(self, dim: int, heads: int, head_dim: int, window: int) -> None:
        super().__init__()
        if dim % 2:
            raise UserError(f"relative positions need an even width, got {dim}")
        self.project = Linear(dim, heads * head_dim, bias=False)
        self.content = nn.Parameter(torch.zeros(heads, 1, head_dim))
        self.position = nn.Parameter(torch.zeros(heads, 1, head_dim))
        self.register_buffer("sines", sincos(torch.arange(window), dim).float(), persistent=False)
        self.sines: Tensor

    def table(self, n: int) -> Tensor:
        """A key for each distance below n: `head n d`."""
        keys = self.project(self.sines[:n].to(self.project.weight.dtype))
        return keys.unflatten(-1, (self.content.shape[0], -1)).transpose(0, 1)

    def scores(self, q: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Queries `b head s d` for contents, and their scores of distances, `b head s n`."""
        scale = q.shape[-1] ** -0.5
        return q + self.content, ((q + self.position) * scale) @ table.mT


def begins(first: Tensor | None, b: int, t: int, device: torch.device) -> Tensor:
    """Where the episode of each token begins, `b t`: the last `first` up to it, or 0."""
    if first is None:
        return torch.zeros(b, t, dtype=torch.long, device=device)
    return (first * torch.arange(t, device=device)).cummax(dim=1).values
