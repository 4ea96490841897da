"""A causal transformer with absolute positions, as STORM and TransDreamer have it: its memory is a context of inputs.

STORM (arXiv 2310.09615) learns its positions and has norms after each part; TransDreamer (arXiv 2202.09481) takes sines
and has norms before. A position is counted from the oldest token that is remembered, so keys cannot be kept when that
context slides: what is remembered are the inputs, and whoever looks again reads them again. Imagined futures go on from
there with keys and values that are computed once.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from innerworld.errors import UserError
from innerworld.nn.backbone.attention import AttentionBlock, Norms, begins
from innerworld.nn.backbone.futures import Futures, held, past
from innerworld.nn.backbone.layer import Layer, Memory, Roll
from innerworld.nn.backbone.residual import same_rows
from innerworld.nn.mlp import Activation
from innerworld.nn.sincos import sincos

Table = Literal["learned", "sines"]


class AbsoluteTransformer(Layer):
    """`depth` blocks over at most `positions` tokens of an episode.

    Memory: the last `positions - 1` inputs, `b positions-1 d`, newest last, of which `age` are remembered. `step` adds
    one, until positions are exhausted; `trim` forgets all but the last `context - 1`, so that whoever steps and then
    trims reads `context` tokens each time, as STORM (16) and TransDreamer (48) do when they act. The memories of a
    trace are trimmed. With `every`, the outputs of all blocks side by side, `b t depth·d` (TransDreamer), else those of
    the last. Dropout is for `forward` and `trace` in training; `recompute` saves memory there: what is within a
    block is computed twice. Raises `UserError` for heads that do not divide and a context longer than the positions
    allow.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        mlp: int,
        positions: int = 64,
        context: int = 16,
        head_dim: int | None = None,
        table: Table = "learned",
        norm: Norms = "post",
        dropout: float = 0.1,
        activation: Activation = "relu",
        every: bool = False,
        eps: float = 1e-6,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= context < positions:
            raise UserError(
                f"a context of {context} tokens and a step beyond it need more than {positions} positions: "
                "choose a shorter context or more positions"
            )
        self.dim, self.positions, self.context, self.every, self.dropout = dim, positions, context, every, dropout
        self.recompute = recompute
        parts = [AttentionBlock(dim, heads, mlp, head_dim, norm, dropout, activation, eps) for _ in range(depth)]
        self.blocks = nn.ModuleList(parts)
        self.norm = nn.LayerNorm(dim, eps=eps) if norm == "post" else nn.Identity()
        self.table = nn.Embedding(positions, dim) if table == "learned" else _Sines(positions, dim)

    def blank(self, b: int, like: Tensor) -> Memory:
        return {"inputs": like.new_zeros(b, self.positions - 1, self.dim), "age": like.new_zeros(b, dtype=torch.long)}

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        b, t = x.shape[:2]
        begin = begins(first, b, t, x.device)
        position = torch.arange(t, device=x.device) - begin
        if t > self.positions:  # also where episodes are shorter: tomorrow's may not be
            raise UserError(f"a clip of {t} tokens is longer than {self.positions} positions: cut it, or allow more")
        return self._read(x, position, None if first is None else begin, self.dropout if self.training else 0.0)

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        b, t = x.shape[:2]
        size = self.positions - 1
        inputs = F.pad(x.detach(), (0, 0, size, 0)).unfold(1, size, 1).transpose(2, 3)  # b t+1 size d, a view
        age = torch.arange(t + 1, device=x.device) - begins(first, b, t + 1, x.device)
        out = self(x, None if first is None else first[:, :-1])
        return out, self.trim({"inputs": inputs, "age": age})

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Read what is remembered and one more token. Raises `UserError` when all positions are taken: trim before."""
        same_rows(x, memory["age"])
        n = self._room(memory["age"], 1)
        inputs = torch.cat([memory["inputs"], x[:, None].to(memory["inputs"].dtype)], dim=1)
        position = torch.arange(n + 1, device=x.device) - (n - memory["age"][:, None])
        read = torch.cat([inputs[:, self.positions - 1 - n : -1], x[:, None]], dim=1)
        out = self._read(read, position.clamp(min=0), n - memory["age"][:, None], 0.0)
        return out[:, -1], {"inputs": inputs[:, 1:], "age": memory["age"] + 1}

    def trim(self, memory: Memory) -> Memory:
        """Remember only the last `context - 1` inputs, whose positions then begin at 0."""
        return memory | {"age": memory["age"].clamp(max=self.context - 1)}

    def roll(self, memory: Memory, horizon: int) -> Roll:
        """As in `Layer`: what is remembered is read once, and shared by futures that have one and the same memory."""
        n = self._room(memory["age"], horizon)
        inputs, age = memory["inputs"][:, :, self.positions - 1 - n :], memory["age"]
        if inputs.stride(1) == 0 and age.shape[1] > 1 and bool((age == age[:, :1]).all()):
            read = self._prefill(inputs[:, 0], age[:, 0])
            pasts = [tuple(of[:, None].expand(-1, age.shape[1], -1, -1, -1) for of in layer) for layer in read]
        else:
            read = self._prefill(inputs.flatten(0, 1), age.flatten())
            pasts = [tuple(of.unflatten(0, age.shape) for of in layer) for layer in read]
        futures = [Futures(past(keys, values, age), n + horizon, horizon) for keys, values in pasts]
        start = age.reshape(futures[0].shape)

        def step(x: Tensor) -> Tensor:
            same_rows(x, memory["age"])
            token = x.reshape(*futures[0].shape, -1)
            token = self.norm(token + self.table(start + futures[0].steps))
            outs = []
            for block, future in zip(self._blocks, futures, strict=True):
                token = block.finish(token, future.attend(*block.project(token)), 0.0)
                outs.append(token)
            return self._chosen(outs).reshape(*x.shape[:-1], -1)

        return step

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        """From trimmed memories; `shared` where all futures of a row have one and the same, not those of a trace."""
        inner = self._blocks[0].heads * self._blocks[0].head_dim
        context = max(min(self.context - 1, self.positions - horizon), 0)
        read = 2 * b * (1 if shared else k) * context * inner
        return len(self.blocks) * (read + held(b, k, horizon, horizon, inner))

    @property
    def _blocks(self) -> list[AttentionBlock]:
        return [block for block in self.blocks if isinstance(block, AttentionBlock)]

    def _room(self, age: Tensor, steps: int) -> int:
        """How many inputs are remembered at most. Raises `UserError` where no position is left for the steps."""
        n = int(age.max()) if age.numel() else 0
        if n + steps > self.positions:
            raise UserError(
                f"{n} remembered tokens and {steps} more exceed {self.positions} positions: "
                "trim the memory, imagine less far or allow more positions"
            )
        return n

    def _read(self, x: Tensor, position: Tensor, begin: Tensor | None, dropout: float) -> Tensor:
        """Tokens `b t d` at positions `b t`; each sees those from its `begin` (`b t`, or `b 1` for all) to itself."""
        x = self._placed(x, position, dropout)
        seen = None if begin is None else _seen(begin, x.shape[1])
        again = self.recompute and self.training and torch.is_grad_enabled()
        outs = []
        for block in self._blocks:
            given = (block, x, seen, dropout)
            x = cast(Tensor, checkpoint(_pass, *given, use_reentrant=False)) if again else _pass(*given)
            outs.append(x)
        return self._chosen(outs)

    def _prefill(self, x: Tensor, age: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values `b head t d` of each block for inputs `b t d`, of which the last `age` are remembered."""
        begin = x.shape[1] - age[:, None]
        position = (torch.arange(x.shape[1], device=x.device) - begin).clamp(min=0)
        x, seen, read = self._placed(x, position, 0.0), _seen(begin, x.shape[1]), []
        for block in self._blocks:
            q, keys, values = block.project(x)
            read.append((keys.contiguous(), values.contiguous()))  # which also lets go of the queries
            if len(read) < len(self.blocks):  # nobody looks at what comes of the last
                x = block.finish(x, _attend(q, keys, values, seen, 0.0), 0.0)
        return read

    def _placed(self, x: Tensor, position: Tensor, dropout: float) -> Tensor:
        place = self.table(position)
        if isinstance(self.table, _Sines):  # STORM has no dropout here
            place = F.dropout(place, dropout, dropout > 0)
        return self.norm(x + place.to(x.dtype))

    def _chosen(self, outs: list[Tensor]) -> Tensor:
        return torch.cat(outs, dim=-1) if self.every else outs[-1]


class _Sines(nn.Module):
    """Sines and cosines of the position, not learned."""

    def __init__(self, positions: int, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise UserError(f"positions of sines need an even width, got {dim}")
        self.register_buffer("places", sincos(torch.arange(positions), dim).float(), persistent=False)
        self.places: Tensor

    def forward(self, position: Tensor) -> Tensor:
        return self.places[position]


def _seen(begin: Tensor, t: int) -> Tensor:
    """Who sees whom, `b 1 t t`: those before it from its `begin` on; what comes before all sees itself."""
    now = torch.arange(t, device=begin.device)
    causal = (now <= now[:, None]) & (now >= begin[..., None])
    return (causal | (now == now[:, None]))[:, None]


def _pass(block: AttentionBlock, x: Tensor, seen: Tensor | None, dropout: float) -> Tensor:
    return block.finish(x, _attend(*block.project(x), seen, dropout), dropout)


def _attend(q: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None, dropout: float) -> Tensor:
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=seen, dropout_p=dropout, is_causal=seen is None)
