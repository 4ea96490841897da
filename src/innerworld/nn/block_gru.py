"""A recurrent cell whose memory is cut into blocks that see only themselves and the inputs (DreamerV3)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.mlp import EPS, MLP, init_, linear


class BlockLinear(nn.Module):
    """A Linear with a block-diagonal matrix: `... (g i)` → `... (g o)`, block g from block g.

    The initial weights are those of a full matrix, so `fan_in` counts all inputs, not a block's (a known trap).
    """

    def __init__(self, in_dim: int, out_dim: int, blocks: int, fan_in: int | None = None) -> None:
        super().__init__()
        if in_dim % blocks or out_dim % blocks:
            raise UserError(f"{in_dim} inputs and {out_dim} outputs do not divide into {blocks} blocks")
        self.blocks = blocks
        self.weight = nn.Parameter(torch.empty(blocks, in_dim // blocks, out_dim // blocks))  # g i o
        self.bias = nn.Parameter(torch.zeros(out_dim))
        init_(self.weight, fan_in or in_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.einsum("...gi,gio->...go", x.unflatten(-1, (self.blocks, -1)), self.weight)
        return x.flatten(-2) + self.bias


class BlockGRU(nn.Module):
    """Memory `b d`, latent `b s` and action `b a` → memory `b d` (DreamerV3, `_core`).

    The paper repeats the embedded inputs for every block and multiplies block by block. That is one dense matrix for
    the inputs plus a block-diagonal one for the memory, which is how it is computed here: the same function, the same
    number of parameters, no copies. `push` is the action's share, apart because it can be had for all times at once.
    """

    def __init__(self, deter: int, stoch: int, action: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.deter, self.stoch, self.blocks = deter, stoch, blocks
        fan_in = deter + 3 * hidden * blocks  # of the layer as the paper writes it, inputs repeated
        self.memory = MLP(deter, hidden, layers=1)
        self.latent = MLP(stoch, hidden, layers=1)
        self.action = MLP(action, hidden, layers=1)
        self.from_memory = BlockLinear(deter, deter, blocks, fan_in)
        self.from_inputs = linear(2 * hidden, deter, bias=False, fan_in=fan_in)
        self.from_action = linear(hidden, deter, bias=False, fan_in=fan_in)
        self.norm = nn.RMSNorm(deter, eps=EPS)
        self.gates = BlockLinear(deter, 3 * deter, blocks)

    def push(self, action: Tensor) -> Tensor:
        """What the actions `... a` add to the cell's hidden layer: `... d`."""
        action = action / action.detach().abs().clamp(min=1)
        return self.from_action(self.action(action))

    def forward(self, deter: Tensor, stoch: Tensor, push: Tensor) -> Tensor:
        inputs = torch.cat([self.memory(deter), self.latent(stoch)], dim=-1)
        hidden = F.silu(self.norm(self.from_memory(deter) + self.from_inputs(inputs) + push))
        gates = rearrange(self.gates(hidden), "... (g r d) -> r ... (g d)", g=self.blocks, r=3)
        reset, candidate, update = gates.unbind(0)
        update = torch.sigmoid(update - 1)  # the shift makes forgetting slow at the start
        return update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * deter
