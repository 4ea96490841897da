"""What stands around a layer in a stack: a norm before it, a gate and the residual after it, a feed-forward beside it.

`Residual` is S4's, S5's and the GRU's; `FeedForward` is the layer between them that has no memory.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.backbone.layer import Layer, Memory, Roll
from innerworld.nn.mlp import linear

Gate = Literal["glu", "half_glu", "none"]


class Residual(Layer):
    """x + finish(core(norm(x))): pre-norm, `b t d` → `b t d`; what the core remembers is all that is remembered.

    Dropout is for `forward` and `trace` in training; acting and imagining are without.
    """

    def __init__(self, core: Layer, dim: int, finish: Gated | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.core = core
        self.finish = finish

    def blank(self, b: int, like: Tensor) -> Memory:
        return self.core.blank(b, like)

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        return self._add(x, self.core(self.norm(x), first), drop=self.training)

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        out, memory = self.core.trace(self.norm(x), first)
        return self._add(x, out, drop=self.training), memory

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        out, memory = self.core.step(self.norm(x), memory)
        return self._add(x, out, drop=False), memory

    def roll(self, memory: Memory, horizon: int) -> Roll:
        core = self.core.roll(memory, horizon)
        return lambda x: self._add(x, core(self.norm(x)), drop=False)

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        return self.core.held(b, k, horizon, shared)

    def _add(self, x: Tensor, out: Tensor, drop: bool) -> Tensor:
        return x + (out if self.finish is None else self.finish(out, drop))


class Gated(nn.Module):
    """GELU, then `... d` by a gate: `glu` two linear maps, one the other's gate (S4); `half_glu` its own gate (S5)."""

    def __init__(self, dim: int, gate: Gate, dropout: float = 0.0) -> None:
        super().__init__()
        self.value = linear(dim, dim) if gate == "glu" else nn.Identity()
        self.gate = linear(dim, dim) if gate != "none" else None
        self.dropout = dropout

    def forward(self, x: Tensor, drop: bool = False) -> Tensor:
        x = F.dropout(F.gelu(x), self.dropout, drop)
        return x if self.gate is None else F.dropout(self.value(x) * torch.sigmoid(self.gate(x)), self.dropout, drop)


class FeedForward(Layer):
    """x + down(GELU(up(norm(x)))) of each token alone; with `glu` another linear map of it gates what GELU gives.

    Dropout as in `Residual`.
    """

    def __init__(self, dim: int, hidden: int, glu: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = linear(dim, hidden), linear(hidden, dim)
        self.gate = linear(dim, hidden) if glu else None
        self.dropout = dropout

    def blank(self, b: int, like: Tensor) -> Memory:
        return {}

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        return self._add(x, drop=self.training)

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        return self(x), {}

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        return self._add(x, drop=False), {}

    def roll(self, memory: Memory, horizon: int) -> Roll:
        return lambda x: self._add(x, drop=False)

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        return 0

    def _add(self, x: Tensor, drop: bool) -> Tensor:
        inputs = self.norm(x)
        hidden = F.gelu(self.up(inputs))
        if self.gate is not None:
            hidden = hidden * self.gate(inputs)
        return x + F.dropout(self.down(F.dropout(hidden, self.dropout, drop)), self.dropout, drop)


def before(states: Tensor, first: Tensor | None) -> Tensor:
    """States after each token, `b t ...` → a trace's memories, `b t+1 ...`: before each token and after the last.

    They are zero at 0 and where `first` `b t+1`, and have no gradients.
    """
    states = states.detach()
    states = torch.cat([torch.zeros_like(states[:, :1]), states], dim=1)
    return states if first is None else states.masked_fill_(first.view(*first.shape, *[1] * (states.ndim - 2)), 0.0)


def same_rows(x: Tensor, state: Tensor) -> None:
    """Raise `UserError` unless there is one memory `b ...` (or `b k ...`) for each token `b d` (or `b k d`)."""
    rows, remembered = tuple(x.shape[:-1]), tuple(state.shape[: x.ndim - 1])
    if rows != remembered:
        raise UserError(f"tokens of {rows} rows with a memory of {remembered}: go on with the memory of the same rows")
