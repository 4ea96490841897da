"""A recurrent cell whose memory is cut into blocks that see only themselves and the inputs (DreamerV3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.nn.linear import faster, product
from innerworld.nn.mlp import ACTIVATIONS, MLP, Activation, Norm, init_, linear, norm_layer


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
        return self.apart(x.flatten(0, -2)).transpose(0, 1).reshape(*x.shape[:-1], -1)

    def apart(self, x: Tensor) -> Tensor:
        """`n (g i)` → `g n o`: the blocks as they are computed."""
        blocks, bias = x.unflatten(-1, (self.blocks, -1)).transpose(0, 1), self.bias.unflatten(0, (self.blocks, -1))
        weights = self.weight.mT  # g o i
        if faster(blocks[0], weights[0]):
            return torch.stack([product(*of) for of in zip(blocks, weights, bias, strict=True)])
        return torch.baddbmm(bias.unsqueeze(1), blocks, self.weight)


class BlockGRU(nn.Module):
    """Memory `b d`, latent `b s` and action `b a` → memory `b d` (DreamerV3, `_core`).

    The paper repeats the embedded inputs for every block and multiplies block by block. That is one dense matrix for
    the inputs plus a block-diagonal one for the memory, which is how it is computed here: the same function, the same
    number of parameters, no copies. `push` is the action's share, apart because it can be had for all times at once.
    """

    def __init__(
        self,
        deter: int,
        stoch: int,
        action: int,
        hidden: int,
        blocks: int,
        norm: Norm = "rms",
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.deter, self.stoch, self.blocks = deter, stoch, blocks
        fan_in = deter + 3 * hidden * blocks  # of the layer as the paper writes it, inputs repeated
        embed = lambda inputs: MLP(inputs, hidden, 1, norm=norm, activation=ACTIVATIONS[activation])
        self.memory, self.latent, self.action = embed(deter), embed(stoch), embed(action)
        self.from_memory = BlockLinear(deter, deter, blocks, fan_in)
        self.from_inputs = linear(2 * hidden, deter, bias=False, fan_in=fan_in)
        self.from_action = linear(hidden, deter, bias=False, fan_in=fan_in)
        self.norm = norm_layer(norm, deter)
        self.activation = ACTIVATIONS[activation]()
        self.gates = BlockLinear(deter, 3 * deter, blocks)

    def push(self, action: Tensor) -> Tensor:
        """What the actions `... a` add to the cell's hidden layer: `... d`."""
        action = action / action.detach().abs().clamp(min=1)
        return self.from_action(self.action(action))

    def forward(self, deter: Tensor, stoch: Tensor, push: Tensor) -> Tensor:
        inputs = torch.cat([self.memory(deter), self.latent(stoch)], dim=-1)
        hidden = push + self.from_inputs(inputs) + self.from_memory(deter)
        reset, candidate, update = self.gates.apart(self.activation(self.norm(hidden))).chunk(3, dim=-1)  # g b d/g
        update = torch.sigmoid(update - 1)  # the shift makes forgetting slow at the start
        new = tanh(torch.sigmoid(reset) * candidate)
        blocks = deter.unflatten(-1, (self.blocks, -1)).transpose(0, 1)
        return torch.lerp(blocks, new, update).transpose(0, 1).flatten(1)


def tanh(x: Tensor) -> Tensor:
    """By a sigmoid on a CPU, where torch's own takes four times as long; not in half precision, too coarse for it."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return torch.tanh(x)
    return torch.add(-1, torch.sigmoid(2 * x), alpha=2)
