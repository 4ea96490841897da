"""What stands around a layer in a stack: a norm before it, a gate and the residual after it, a feed-forward beside it.

`Residual` is S4's, S5's and the GRU's; `FeedForward` is the layer between them that has no memory.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.nn.backbone import Layer, Memory, Roll
from innerworld.nn.mlp import linear

Gate = Literal["glu", "half_glu", "none"]


class Residual(Layer):
    """x + finish(core(norm(x))): pre-norm, `b t d` → `b t d`; what the core remembers is all that is remembered."""

    def __init__(self, core: Layer, dim: int, finish: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.core = core
        self.finish = finish or nn.Identity()

    def blank(self, b: int, like: Tensor) -> Memory:
        return self.core.blank(b, like)

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        return x + self.finish(self.core(self.norm(x), first))

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        out, memory = self.core.trace(self.norm(x), first)
        return x + self.finish(out), memory

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        out, memory = self.core.step(self.norm(x), memory)
        return x + self.finish(out), memory

    def roll(self, memory: Memory, horizon: int) -> Roll:
        core = self.core.roll(memory, horizon)
        return lambda x: x + self.finish(core(self.norm(x)))

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        return self.core.held(b, k, horizon, shared)


class Gated(nn.Module):
    """GELU, then `... d` by a gate: `glu` two linear maps, one the other's gate (S4); `half_glu` its own gate (S5)."""

    def __init__(self, dim: int, gate: Gate, dropout: float = 0.0) -> None:
        super().__init__()
        self.value = linear(dim, dim) if gate == "glu" else nn.Identity()
        self.gate = linear(dim, dim) if gate != "none" else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(nn.functional.gelu(x))
        return x if self.gate is None else self.dropout(self.value(x) * torch.sigmoid(self.gate(x)))


class FeedForward(Layer):
    """x + down(GELU(up(norm(x)))) of each token alone; with `glu` another linear map of it gates what GELU gives."""

    def __init__(self, dim: int, hidden: int, glu: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = linear(dim, hidden), linear(hidden, dim)
        self.gate = linear(dim, hidden) if glu else None
        self.dropout = nn.Dropout(dropout)

    def blank(self, b: int, like: Tensor) -> Memory:
        return {}

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        inputs = self.norm(x)
        hidden = nn.functional.gelu(self.up(inputs))
        if self.gate is not None:
            hidden = hidden * self.gate(inputs)
        return x + self.dropout(self.down(self.dropout(hidden)))

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        return self(x), {}

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        return self(x), {}

    def roll(self, memory: Memory, horizon: int) -> Roll:
        return lambda x: self(x)

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        return 0


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
