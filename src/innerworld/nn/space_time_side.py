"""A side branch of a space-time transformer: copies of some of its blocks, told more, that add to what it computes.

ControlNet (arXiv 2302.05543): what is told comes in, and what is made of it goes out, through layers that are zero at
the start, so that the trunk begins as if there were no branch. Cosmos-Transfer2.5 spreads its copies evenly over the
trunk's blocks, and what a copy says is added after the block that it is a copy of; so do we.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.nn.rotary import Turn
from innerworld.nn.space_time_parts import Block, Layers, Through, part_steers, steers_of


class Side(nn.Module):
    """`count` of `blocks`, and of what steers them, copied; what they are told has `width` numbers a token.

    Nothing is drawn from chance. Raises `UserError` for more copies than blocks.
    """

    def __init__(self, blocks: Sequence[nn.Module], by: nn.Linear | None, dim: int, count: int, width: int) -> None:
        super().__init__()
        if not 1 <= count <= len(blocks):
            raise UserError(
                f"a branch of {count} copied blocks: the transformer has {len(blocks)}, copy 1 of them or more"
            )
        self.dim = dim
        self.at = tuple(i * len(blocks) // count for i in range(count))
        self.blocks = nn.ModuleList(deepcopy(blocks[i]) for i in self.at)
        self.layers = sum(cast(Block, block).time is not None for block in self.blocks)  # that attend through time
        rows = 3 * dim * sum(cast(Block, block).parts for block in self.blocks)
        self.by = None if by is None else _linear(by.in_features, rows, blocks[0])
        self.enter = _zero(width, dim, blocks[0], bias=False)  # what is told nothing enters as it is
        self.leave = nn.ModuleList(_zero(dim, dim, blocks[0]) for _ in self.at)
        self.copy(blocks, by)

    @torch.no_grad()
    def copy(self, blocks: Sequence[nn.Module], by: nn.Linear | None) -> None:
        """Begin anew as these blocks are, for example once the trunk's weights were loaded."""
        rows, start = [], 0
        for i, block in enumerate(blocks):
            size = 3 * self.dim * cast(Block, block).parts
            if i in self.at:
                self.blocks[self.at.index(i)].load_state_dict(block.state_dict())
                rows.append(slice(start, start + size))
            start += size
        if self.by is not None and by is not None:
            self.by.weight.copy_(torch.cat([by.weight[own] for own in rows]))
            self.by.bias.copy_(torch.cat([by.bias[own] for own in rows]))

    def forward(
        self,
        x: Tensor,
        told: Tensor | None,
        steer: Tensor | None,
        place: Turn | None,
        by: Turn,
        through: Through,
        layers: Layers,
    ) -> dict[int, Tensor]:
        """What is added to the trunk's tokens after each of the blocks that were copied; nothing where nothing is told.

        `x` `r f s d` are the tokens that the trunk begins with, `told` `r f s width+1`, the last how much the answer
        counts. Keys and values of what attends through time are appended to `layers`, told or not, so that who comes
        after sees them.
        """
        if told is not None:
            x = x + self.enter(told[..., :-1])
        steers = steers_of(self.by, steer, self.dim)
        added = {}
        for i, block, leave in zip(self.at, self.blocks, self.leave, strict=True):
            x, found = block(x, part_steers(steers, cast(Block, block).parts), place, by, through, len(layers))
            if found is not None:
                layers.append(found)
            if told is not None:
                added[i] = leave(x) * told[..., -1:]
        return added


def _zero(width: int, dim: int, like: nn.Module, bias: bool = True) -> nn.Linear:
    layer = _linear(width, dim, like, bias)
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


def _linear(width: int, dim: int, like: nn.Module, bias: bool = True) -> nn.Linear:
    """Its weights are whatever was there; where `like` is."""
    layer = nn.utils.skip_init(nn.Linear, width, dim, bias=bias, device=next(like.parameters()).device)
    return cast(nn.Linear, layer)
