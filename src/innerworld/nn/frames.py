"""A transformer over frames of many patches: patches of a frame see each other, a frame sees itself and those before.

DINO-WM's predictor (arXiv 2411.04983), with JEPA-WMs' choices (arXiv 2512.24497): steered by actions, rotary positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.nn.linear import Linear
from innerworld.nn.rotary import Turn, grid_positions, rotate, turn

Grid = tuple[int, int]
"""Rows and columns of the patches of a picture."""


@dataclass(frozen=True)
class Past:
    """Frames that were computed already: what later ones need of them. A row may stand for several of theirs."""

    keys: list[Tensor]  # of each block, r head (f s) d
    values: list[Tensor]
    seen: Tensor | None  # r (f s)   which tokens there really were; none: all


class FrameTransformer(nn.Module):
    """Frames `r f s d` → `r f s d`, at slots 0, 1, … of a window of `history` frames.

    `grids` are those of the pictures that a frame consists of. Positions are learned for each slot and patch, or, with
    `rope`, time, row and column are turned; pictures then lie side by side. With `steered` the actions shift, scale and
    gate every block (AdaLN), else they are no business of this class.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        head_dim: int,
        mlp: int,
        history: int,
        grids: Sequence[Grid],
        rope: bool = False,
        steered: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.grids, self.head_dim = tuple(grids), head_dim
        self.s = sum(y * x for y, x in grids)
        self.place = None if rope else nn.Parameter(torch.randn(history, self.s, dim) * 0.02)
        self.blocks = nn.ModuleList([_Block(dim, heads, head_dim, mlp, steered, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        if rope:
            turn(torch.zeros(1, 3), head_dim, "standard")  # refuses narrow heads now, not later

    def forward(
        self, x: Tensor, slot: Tensor, action: Tensor | None = None, before: Sequence[Past] = ()
    ) -> tuple[Tensor, Past]:
        """New frames at `slot` `r f` (or `1 f`, for all rows) → what comes of them, and them as a past.

        They see the frames `before` and those of themselves that are no later. A slot below 0 holds no frame: nobody
        sees it, and what comes of it means nothing. `action` `r f d` steers.
        """
        by: Turn | None = None
        if self.place is None:
            by = turn(self._positions(slot), self.head_dim, "standard")  # r f 1 s d
        else:
            x = x + self.place[slot.clamp_min(0)]
        seen = None if bool((slot >= 0).all()) else (slot >= 0).repeat_interleave(self.s, dim=1)
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            x, k, v = block(x, by, action, [(past.keys[i], past.values[i], past.seen) for past in before], seen)
            keys.append(k)
            values.append(v)
        return self.norm(x), Past(keys, values, seen)

    def _positions(self, slot: Tensor) -> Tensor:
        """Time, row and column of every patch: `r f s 3`."""
        placed, left = [], 0
        for y, x in self.grids:
            placed.append(grid_positions(1, y, x, slot.device) + torch.tensor([0, 0, left], device=slot.device))
            left += x
        place = torch.cat(placed)  # s 3
        time = torch.zeros(*slot.shape, 1, 3, dtype=place.dtype, device=slot.device)
        time[..., 0] = slot[..., None]
        return place + time


Kept = tuple[Tensor, Tensor, Tensor | None]
"""Keys and values `r head k d` of one block, and which of them are seen `r k`."""


class _Block(nn.Module):
    """Attention and MLP, pre-norm; queries, keys and values without bias, heads of any width, as in DINO-WM."""

    def __init__(self, dim: int, heads: int, head_dim: int, mlp: int, steered: bool, dropout: float) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = Linear(dim, 3 * inner, bias=False)
        self.out = Linear(inner, dim)
        self.mlp = nn.Sequential(
            Linear(dim, mlp), nn.GELU(), nn.Dropout(dropout), Linear(mlp, dim), nn.Dropout(dropout)
        )
        self.steer = Linear(dim, 6 * dim) if steered else None
        if self.steer is not None:  # not AdaLN-zero: JEPA-WMs found ten times the usual deviation better
            nn.init.trunc_normal_(self.steer.weight, std=0.2)
            nn.init.zeros_(self.steer.bias)

    def forward(
        self, x: Tensor, by: Turn | None, action: Tensor | None, before: Sequence[Kept], seen: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Frames `r f s d` → the same and their keys and values `r head (f s) d`."""
        if self.steer is None or action is None:
            mixed, k, v = self._attend(self.norm1(x), by, before, seen)
            x = x + mixed
            return x + self.mlp(self.norm2(x)), k, v
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.steer(F.silu(action))[:, :, None].chunk(6, dim=-1)
        mixed, k, v = self._attend(self.norm1(x) * (1 + scale_a) + shift_a, by, before, seen)
        x = x + gate_a * mixed
        return x + gate_m * self.mlp(self.norm2(x) * (1 + scale_m) + shift_m), k, v

    def _attend(
        self, x: Tensor, by: Turn | None, before: Sequence[Kept], seen: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        r, f, s, _ = x.shape
        q, k, v = rearrange(self.qkv(x), "r f s (three h d) -> three r f h s d", three=3, h=self.heads)
        if by is not None:
            q, k = rotate(q, by), rotate(k, by)
        k, v = (rearrange(each, "r f h s d -> r h (f s) d") for each in (k, v))
        earlier = [_for_rows(kept, r) for kept in before]
        dropout = self.dropout if self.training else 0.0
        mixed = []
        for i in range(f):  # frame by frame: nothing is computed that would be masked away
            until = (i + 1) * s
            keys = torch.cat([*(kept[0] for kept in earlier), k[:, :, :until]], dim=2)
            values = torch.cat([*(kept[1] for kept in earlier), v[:, :, :until]], dim=2)
            mask = _mask(earlier, seen, i * s, s, r, x.device)
            mixed.append(F.scaled_dot_product_attention(q[:, i], keys, values, attn_mask=mask, dropout_p=dropout))
        joined = self.out(rearrange(torch.stack(mixed, dim=1), "r f h s d -> r f s (h d)"))
        return F.dropout(joined, self.dropout, self.training), k, v


def _for_rows(kept: Kept, r: int) -> Kept:
    """As many rows as `r`, each repeated as often as need be; it lives no longer than one block."""
    k, v, seen = kept
    n = r // len(k)
    if n == 1:
        return kept
    return k.repeat_interleave(n, 0), v.repeat_interleave(n, 0), None if seen is None else seen.repeat_interleave(n, 0)


def _mask(
    before: Sequence[Kept], seen: Tensor | None, until: int, s: int, r: int, device: torch.device
) -> Tensor | None:
    """Which keys a frame sees, `r 1 1 k`: of its own `s` tokens all; none where it sees everything."""
    if seen is None and all(kept[2] is None for kept in before):
        return None

    def which(seen: Tensor | None, k: int) -> Tensor:
        return torch.ones(r, k, dtype=torch.bool, device=device) if seen is None else seen[:, :k].expand(r, -1)

    masks = [which(kept[2], kept[0].shape[2]) for kept in before]
    return torch.cat([*masks, which(seen, until), which(None, s)], dim=1)[:, None, None]
