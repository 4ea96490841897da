"""The recurrent cells of PlaNet, Dreamer v1 and v2: a dense layer of latent and action, then a gated recurrent unit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerworld.nn.mlp import ACTIVATIONS, Activation, Norm, init_, linear, norm_layer

GRU_EPS = 1e-3  # of the layer norm within the unit, as in Dreamer v2


class GRU(nn.Module):
    """Memory `b d`, latent `b s` and action `b a` → memory `b d`, as `BlockGRU`.

    Plain, the unit is torch's (Dreamer v1); `normed`, all its gates are layer-normed together (Dreamer v2). `push` is
    the action's share of the dense layer, apart because it can be had for all times at once.
    """

    def __init__(
        self,
        deter: int,
        stoch: int,
        action: int,
        hidden: int,
        normed: bool = False,
        norm: Norm = "none",
        activation: Activation = "elu",
    ) -> None:
        super().__init__()
        self.deter, self.stoch = deter, stoch
        self.latent = linear(stoch, hidden, fan_in=stoch + action)
        self.action = linear(action, hidden, bias=False, fan_in=stoch + action)
        self.finish = nn.Sequential(norm_layer(norm, hidden), ACTIVATIONS[activation]())
        self.unit = NormGRUCell(hidden, deter) if normed else _begun(nn.GRUCell(hidden, deter))

    def push(self, action: Tensor) -> Tensor:
        """What the actions `... a` add to the dense layer: `... h`. Beyond [-1, 1] they are cut, as a world's are."""
        return self.action(action / action.detach().abs().clamp(min=1))

    def forward(self, deter: Tensor, stoch: Tensor, push: Tensor) -> Tensor:
        return self.unit(self.finish(self.latent(stoch) + push), deter)


class NormGRUCell(nn.Module):
    """Inputs `b i` and memory `b d` → memory `b d`: one layer norm over the three gates, a reset of the candidate's sum
    instead of the memory, and an update gate that begins nearly closed (Dreamer v2, arXiv 2010.02193)."""

    def __init__(self, inputs: int, deter: int) -> None:
        super().__init__()
        self.inputs = linear(inputs, 3 * deter, fan_in=inputs + deter)
        self.memory = linear(deter, 3 * deter, bias=False, fan_in=inputs + deter)
        self.norm = nn.LayerNorm(3 * deter, eps=GRU_EPS)

    def forward(self, x: Tensor, deter: Tensor) -> Tensor:
        reset, candidate, update = self.norm(self.inputs(x) + self.memory(deter)).chunk(3, dim=-1)
        return torch.lerp(deter, torch.tanh(torch.sigmoid(reset) * candidate), torch.sigmoid(update - 1))


def _begun(unit: nn.GRUCell) -> nn.GRUCell:
    """As Keras begins it: the memory's weights orthogonal, no bias."""
    init_(unit.weight_ih, unit.input_size)
    nn.init.orthogonal_(unit.weight_hh)
    nn.init.zeros_(unit.bias_ih)
    nn.init.zeros_(unit.bias_hh)
    return unit
