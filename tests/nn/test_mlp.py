import math

import pytest
import torch
from torch import nn

from innerworld.nn.mlp import MLP, init_, linear


def test_initial_weights_keep_the_size_of_the_signal():
    torch.manual_seed(0)
    weight = torch.empty(512, 256)
    init_(weight, fan_in=256)
    assert weight.std().item() == pytest.approx(1 / math.sqrt(256), rel=0.02)
    assert weight.abs().max() <= 2 * 1.1368 / math.sqrt(256) + 1e-6


def test_outscale_zero_gives_zero():
    assert torch.equal(MLP(3, 8, 2, out_dim=4, outscale=0.0)(torch.randn(5, 3)), torch.zeros(5, 4))


def test_layers_and_norms():
    x = torch.randn(2, 7, 3)
    for norm, kind in (("rms", nn.RMSNorm), ("layer", nn.LayerNorm), ("none", nn.Identity)):
        mlp = MLP(3, 8, 2, norm=norm, activation=nn.Mish)
        assert mlp(x).shape == (2, 7, 8)
        assert sum(isinstance(layer, kind) for layer in mlp.stack) == 2
    assert MLP(3, 8, 0, out_dim=4)(x).shape == (2, 7, 4)


def test_rms_norm_is_the_papers():
    x = torch.randn(4, 8)
    norm = MLP(8, 8, 1).stack[1]
    torch.testing.assert_close(norm(x), x / (x.square().mean(dim=-1, keepdim=True) + 1e-4).sqrt())


def test_linear_as_a_part_of_a_wider_layer_starts_smaller():
    torch.manual_seed(0)
    assert linear(64, 64, fan_in=6400).weight.std().item() == pytest.approx(1 / 80, rel=0.05)
