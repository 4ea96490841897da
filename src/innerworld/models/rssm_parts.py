"""The parts of an RSSM, as its settings want them: cell, networks, posterior, and the two KL terms of the loss."""

from __future__ import annotations

from torch import Tensor, nn

from innerworld.models.rssm_config import RSSMConfig
from innerworld.nn.block_gru import BlockGRU
from innerworld.nn.distributions import Latent, balanced_kl
from innerworld.nn.gru import GRU
from innerworld.nn.mlp import ACTIVATIONS, MLP, linear, norm_layer


def build_cell(config: RSSMConfig, flat: int, action: int) -> BlockGRU | GRU:
    """For latents of `flat` numbers and actions of `action`."""
    if config.cell == "block":
        return BlockGRU(config.deter, flat, action, config.hidden, config.blocks, config.norm, config.activation)
    normed = config.cell == "norm-gru"
    return GRU(config.deter, flat, action, config.hidden, normed, config.norm, config.activation)


def build_mlp(config: RSSMConfig, inputs: int, units: int, layers: int, out: int, outscale: float = 1.0) -> MLP:
    return MLP(inputs, units, layers, out, config.norm, ACTIVATIONS[config.activation], outscale)


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


def kl_terms(posterior: Latent, prior: Latent, config: RSSMConfig) -> tuple[Tensor, Tensor, Tensor]:
    """dyn, rep and the KL itself, means of all beliefs. Nats are free of each (V3), or of the mean (Dreamer v1, v2)."""
    dyn, rep = balanced_kl(posterior, prior, free_nats=0.0)
    kl = dyn.mean()
    if config.free == "each":
        return dyn.clamp(min=config.free_nats).mean(), rep.clamp(min=config.free_nats).mean(), kl
    return kl.clamp(min=config.free_nats), rep.mean().clamp(min=config.free_nats), kl
