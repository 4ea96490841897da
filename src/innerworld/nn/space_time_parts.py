"""The parts of a space-time transformer: attention, what steers a part, where tokens are, and imagined futures.

DiT's blocks (arXiv 2212.09748) over frames of many tokens; `r f s d` are rows, frames, tokens of a frame, channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.backbone.futures import Futures, past
from innerworld.nn.frames import Grid
from innerworld.nn.linear import Linear
from innerworld.nn.rms_norm import RMSNorm
from innerworld.nn.rotary import Turn, grid_positions, rotate, turn

Through = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""How places look through time: a layer's number, q, k and v, each `r s head f d` → what they saw, likewise."""

Layers = list[tuple[Tensor, Tensor]]
"""Keys and values of new frames, each `r s head f d`, of each layer that attends through time."""


class Block(nn.Module):
    """Attention within the frame, attention through time if `timed`, and an MLP: one, or with `feeds` after each.

    `parts` of them are shifted, scaled and gated if it is `steered`.
    """

    def __init__(
        self, dim: int, heads: int, hidden: int, steered: bool, timed: bool, feeds: bool, qk_norm: bool
    ) -> None:
        super().__init__()
        self.parts = 2 + timed + (timed and feeds)
        self.norms = nn.ModuleList(norm_before(dim, steered) for _ in range(self.parts))
        self.space = Attention(dim, heads, qk_norm)
        self.between = Feed(dim, hidden) if timed and feeds else None
        self.time = Attention(dim, heads, qk_norm) if timed else None
        self.feed = Feed(dim, hidden)

    def forward(
        self, x: Tensor, steers: Sequence[Steer], place: Turn | None, by: Turn, through: Through, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Tokens `r f s d`, each part by its own of `steers`; also keys and values `r s head f d`, where it attends
        through time."""
        around = zip(self.norms, steers, strict=True)
        norm, steer = next(around)
        x = gated(x, self.space.within(shifted(norm(x), steer), place), steer)
        if self.between is not None:
            norm, steer = next(around)
            x = gated(x, self.between(shifted(norm(x), steer)), steer)
        found = None
        if self.time is not None:
            norm, steer = next(around)
            q, k, v = self.time.through(shifted(norm(x), steer), by)
            found = k, v
            x = gated(x, self.time.back(through(layer, q, k, v)), steer)
        norm, steer = next(around)
        return gated(x, self.feed(shifted(norm(x), steer)), steer), found


Steer = Sequence[Tensor] | None
"""Shift, scale and gate of a part, each `r f 1 d`, 0, 1 and 0 at the start; none: as it is."""


def steers_of(by: nn.Linear | None, steer: Tensor | None, dim: int) -> Iterator[Tensor] | None:
    """What `by` makes of the frames' vectors `r f e`: three tensors `r f 1 d` for each part in turn."""
    return None if by is None or steer is None else iter(by(steer).unsqueeze(-2).split(dim, dim=-1))


def part_steers(steers: Iterator[Tensor] | None, parts: int) -> list[Steer]:
    """The next of them, for the parts of one block."""
    return [None if steers is None else list(islice(steers, 3)) for _ in range(parts)]


def norm_before(dim: int, steered: bool) -> nn.LayerNorm:
    """Where it is steered, what steers it does what the norm's own weights would."""
    return nn.LayerNorm(dim, eps=1e-6, elementwise_affine=not steered)


def shifted(x: Tensor, steer: Steer) -> Tensor:
    return x if steer is None else torch.addcmul(steer[0], x, steer[1])


def gated(x: Tensor, more: Tensor, steer: Steer) -> Tensor:
    return x + more if steer is None else torch.addcmul(x, steer[2], more)


class Feed(nn.Sequential):
    """The MLP of a block: `... d` → `... d`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(Linear(dim, hidden), nn.GELU(approximate="tanh"), Linear(hidden, dim))


class Attention(nn.Module):
    """Queries, keys and values of tokens, and the way back; who looks at whom is said from outside."""

    def __init__(self, dim: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.qkv = Linear(dim, 3 * dim, bias=False)
        self.out = Linear(dim, dim)
        self.norms = nn.ModuleList([RMSNorm(self.head_dim, eps=1e-6) for _ in range(2)]) if qk_norm else None

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens `... d` → q, k, v, each `... head d`."""
        q, k, v = self.qkv(x).view(*x.shape[:-1], 3, self.heads, self.head_dim).unbind(-3)
        return (q, k, v) if self.norms is None else (self.norms[0](q), self.norms[1](k), v)

    def within(self, x: Tensor, by: Turn | None) -> Tensor:
        """All tokens of a frame see each other: `r f s d` → the same, turned `by` row and column."""
        q, k, v = (each.transpose(1, 2) for each in self.project(x.flatten(0, 1)))  # (r f) head s d
        if by is not None:
            q, k = rotate(q, by), rotate(k, by)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(x.shape))

    def through(self, x: Tensor, by: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v of each place's course through time: `r f s d` → each `r s head f d`, turned `by` time."""
        q, k, v = (each.permute(0, 2, 3, 1, 4) for each in self.project(x))
        q, k = rotate(torch.stack((q, k)), by)
        return q, k, v

    def back(self, mixed: Tensor) -> Tensor:
        """What places saw through time, `r s head f d` → `r f s d`."""
        return self.out(mixed.permute(0, 3, 1, 2, 4).flatten(3))


def look(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, causal: bool = False) -> Tensor:
    """Attention over the last but one axis, `r s head f d`, where `seen` `r f k` or `1 f k` (none: everywhere)."""
    r, s = q.shape[:2]
    if seen is not None:
        seen = (seen if len(seen) == 1 else seen.repeat_interleave(s, 0))[:, None]
    q, k, v = (each.flatten(0, 1) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal).unflatten(0, (r, s))


class Branch:
    """Attention through time of k futures of b rows, from windows of keys and values `b k s head slot d`.

    Where futures share storage, the past is looked at once for all of them (`nn/backbone/futures.py`).
    """

    def __init__(self, keys: Tensor, values: Tensor, age: Tensor, window: int, horizon: int) -> None:
        b, k, s = keys.shape[:3]
        self.sizes = b, k, s
        keys, values = (of.transpose(1, 2).flatten(0, 1) for of in (keys, values))  # (b s) k head slot d
        ages = age[:, None].expand(b, s, k).flatten(0, 1)
        self.futures = Futures(past(keys, values, ages), window, horizon)

    def look(self, q: Tensor, key: Tensor, value: Tensor, keep: bool) -> Tensor:
        """The next step of each, `(b k) s head 1 d` → what it saw, likewise; remembered only to `keep`."""
        found = self.futures.attend(*(self._sorted(of) for of in (q, key, value)))
        if not keep:
            self.futures.forget()
        b, k, s = self.sizes
        return rearrange(found.transpose(1, 2).reshape(b, s, k, *q.shape[2:]), "b s k h f d -> (b k) s h f d")

    def _sorted(self, of: Tensor) -> Tensor:
        """`(b k) s head 1 d` → rows and futures as `Futures` computes them, `row head future d`."""
        b, k, _ = self.sizes
        of = rearrange(of, "(b k) s h 1 d -> (b s k) h d", b=b, k=k)
        return of.unflatten(0, self.futures.shape).transpose(1, 2)


def waves(head_dim: int) -> Tensor:
    """The frequencies of time, `d/2`: from 1 down to nearly 1 / 10000."""
    return 10000.0 ** (-torch.arange(head_dim // 2, dtype=torch.float64) / (head_dim // 2))


def time_turn(clock: Tensor, waves: Tensor) -> Turn:
    """The turn of frames at times `r f` (or `1 f`), for tokens `r s head f d`; in float64, so that long streams stay
    exact."""
    angle = clock[:, None, None, :, None] * waves  # r 1 1 f d/2
    cos, sin = angle.cos().float(), angle.sin().float()
    return torch.stack((cos, cos), dim=-1).flatten(-2), torch.stack((-sin, sin), dim=-1).flatten(-2)


def place_turn(grids: Sequence[Grid], beside: int, head_dim: int) -> Turn:
    """The turn of a frame's tokens by row and column; pictures lie side by side, other tokens to their right.

    Raises `UserError` for heads too narrow for two axes.
    """
    if head_dim < 4:
        raise UserError(f"rotary places turn rows and columns: heads need 4 channels or more, got {head_dim}")
    placed, left = [], 0
    for y, x in [*grids, *[(1, 1)] * beside]:
        placed.append(grid_positions(1, y, x)[:, 1:] + torch.tensor([0, left]))
        left += x
    return turn(torch.cat(placed), head_dim, "standard")
