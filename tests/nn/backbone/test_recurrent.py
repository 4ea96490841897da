"""The GRU is torch's, with a memory of any size."""

from __future__ import annotations

import torch
from torch import nn

from innerworld.nn.backbone.recurrent import GRULayer, Recurrent


def test_it_is_torchs_unit():
    torch.manual_seed(0)
    layer = Recurrent(4, 4)
    unit = nn.GRU(4, 4, batch_first=True)
    unit.load_state_dict(layer.unit.state_dict())
    x = torch.randn(2, 6, 4)
    torch.testing.assert_close(layer(x), unit(x)[0])


def test_the_layer_adds_what_the_unit_says_of_the_norm():
    torch.manual_seed(0)
    layer = GRULayer(4, 7)
    x = torch.randn(2, 6, 4)
    normed = nn.functional.layer_norm(x, (4,))
    torch.testing.assert_close(layer(x), x + layer.core(normed))
    assert layer.blank(3, x)["state"].shape == (3, 7)


def test_parameters():
    """Three gates over inputs and memory, two biases of each; a norm; a way back to d only where the sizes differ."""
    gates = lambda d, h: 3 * h * (d + h + 2)
    assert sum(p.numel() for p in GRULayer(8).parameters()) == gates(8, 8) + 16
    assert sum(p.numel() for p in GRULayer(8, 12).parameters()) == gates(8, 12) + 16 + 12 * 8 + 8


def test_it_begins_with_an_orthogonal_memory_and_no_bias():
    inputs, memory, *biases = Recurrent(5, 5).unit.all_weights[0]
    torch.testing.assert_close(memory.T @ memory, torch.eye(5))
    assert not any(bias.any() for bias in biases) and inputs.std() > 0.1
