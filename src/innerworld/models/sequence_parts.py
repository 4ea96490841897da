"""The parts of a sequence model, as its settings want them: what makes tokens, and what carries them through time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.models.sequence_config import BackboneConfig, Kind, SequenceConfig
from innerworld.nn.backbone.absolute import AbsoluteTransformer
from innerworld.nn.backbone.attention import AttentionLayer
from innerworld.nn.backbone.layer import Layer, Stack
from innerworld.nn.backbone.mamba2 import Mamba2
from innerworld.nn.backbone.recurrent import GRULayer
from innerworld.nn.backbone.residual import FeedForward
from innerworld.nn.backbone.s4 import S4Layer
from innerworld.nn.backbone.s5 import S5Layer
from innerworld.nn.mlp import ACTIVATIONS, MLP, linear, norm_layer


class Stem(nn.Module):
    """Latent `... (g k)` and action `... a` → token `... d`. Beyond [-1, 1] actions are cut, as a world's are."""

    def __init__(self, config: SequenceConfig, flat: int, action: int) -> None:
        super().__init__()
        d = config.backbone.dim
        bias, activation = config.dense_bias, ACTIVATIONS[config.activation]
        self.layers = MLP(flat + action, d, config.stem_layers, None, config.norm, activation, bias=bias)
        self.out = nn.Identity() if config.stem_out == "none" else linear(d, d, bias or config.stem_out == "linear")
        self.norm = norm_layer(config.norm, d) if config.stem_out == "norm" else nn.Identity()

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        action = action / action.detach().abs().clamp(min=1)
        return self.norm(self.out(self.layers(torch.cat([latent, action], dim=-1))))


def build_backbone(config: BackboneConfig, recompute: bool) -> tuple[Layer, int]:
    """What carries tokens through time, and how wide what it says is."""
    if config.kind == "attention" and config.positions in ("learned", "sines"):
        layer = AbsoluteTransformer(
            config.dim,
            config.layers,
            config.heads,
            config.mlp,
            config.window,
            config.context,
            config.head_dim,
            "learned" if config.positions == "learned" else "sines",
            config.norms,
            config.dropout,
            config.activation,
            config.every,
            config.eps,
            recompute,
        )
        return layer, config.dim * (config.layers if config.every else 1)
    finish = None if config.norm == "none" else norm_layer(config.norm, config.dim)
    return Stack(list(_layers(config)), finish, recompute), config.dim


def _layers(config: BackboneConfig) -> Iterator[Layer]:
    """Layers of the stack; a feed-forward layer follows those that have none of their own."""
    if config.kind == "hybrid" and config.attention_every > config.layers:
        raise UserError(
            f"a hybrid of {config.layers} layers with attention in every {config.attention_every}th has none: "
            f"set backbone.attention_every={config.layers}, or more backbone.layers"
        )
    for i in range(1, config.layers + 1):
        kind = config.kind
        if kind == "hybrid":
            kind = "mamba2" if i % config.attention_every else "attention"
        yield _layer(config, kind)
        if config.feed and kind != "attention" and i % config.feed_every == 0:
            yield FeedForward(config.dim, config.feed, dropout=config.dropout)


def _layer(config: BackboneConfig, kind: Kind) -> Layer:
    d = config.dim
    if kind == "mamba2":
        return Mamba2(d, config.mamba2, config.layers)
    if kind == "s4" or kind == "s4d":
        return S4Layer(d, config.state, kind, dropout=config.dropout)
    if kind == "s5":
        return S5Layer(d, config.state, dropout=config.dropout)
    if kind == "gru":
        return GRULayer(d)
    if config.positions == "learned" or config.positions == "sines":
        raise UserError(f"positions={config.positions}: between other layers attention takes rotary or relative ones")
    return AttentionLayer(
        d,
        config.heads,
        config.mlp,
        config.window,
        config.head_dim,
        config.positions,
        config.norms,
        config.dropout,
        config.activation,
        config.eps,
    )
