"""The parts of an RSSM, as its settings want them: the cell, and the posterior that reads it."""

from __future__ import annotations

from torch import Tensor, nn

from innerworld.models.rssm_config import RSSMConfig
from innerworld.nn.block_gru import BlockGRU
from innerworld.nn.gru import GRU
from innerworld.nn.mlp import ACTIVATIONS, linear, norm_layer


def build_cell(config: RSSMConfig, flat: int, action: int) -> BlockGRU | GRU:
    """For latents of `flat` numbers and actions of `action`."""
    if config.cell == "block":
        return BlockGRU(config.deter, flat, action, config.hidden, config.blocks, config.norm, config.activation)
    normed = config.cell == "norm-gru"
    return GRU(config.deter, flat, action, config.hidden, normed, config.norm, config.activation)


class Posterior(nn.Module):
    """Memory `b d` and tokens `b e` → raw latent. One layer over both, split so that all tokens are read at once."""

    def __init__(self, config: RSSMConfig, tokens: int, raw: int) -> None:
        super().__init__()
        deter, hidden = config.deter, config.hidden
        self.memory = linear(deter, hidden, fan_in=deter + tokens)
        self.look = linear(tokens, hidden, bias=False, fan_in=deter + tokens)
        self.norm = norm_layer(config.norm, hidden)
        self.activation = ACTIVATIONS[config.activation]()
        self.out = linear(hidden, raw)

    def forward(self, deter: Tensor, look: Tensor) -> Tensor:
        return self.out(self.activation(self.norm(self.memory(deter) + look)))
