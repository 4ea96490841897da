import math

import pytest
import torch
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.block_gru import BlockGRU, BlockLinear


def test_block_linear_is_a_block_diagonal_matrix():
    layer = BlockLinear(6, 4, blocks=2)
    torch.nn.init.normal_(layer.bias)
    dense = torch.block_diag(*layer.weight)
    x = torch.randn(3, 5, 6)
    torch.testing.assert_close(layer(x), x @ dense + layer.bias)


def test_block_linear_starts_with_the_full_fan_in():
    torch.manual_seed(0)
    assert BlockLinear(512, 512, blocks=8).weight.std().item() == pytest.approx(1 / math.sqrt(512), rel=0.05)


def test_blocks_must_divide():
    with pytest.raises(UserError, match="do not divide into 4 blocks"):
        BlockLinear(6, 8, blocks=4)


def test_cell_equals_the_papers_form():
    """DreamerV3 writes one block layer over each block's memory beside a copy of all embedded inputs."""
    torch.manual_seed(0)
    d, s, a, h, g = 16, 6, 3, 5, 4
    cell = BlockGRU(d, s, a, h, blocks=g)
    deter, stoch, action = torch.randn(2, d), torch.randn(2, s), torch.randn(2, a)

    bounded = action / action.abs().clamp(min=1)
    inputs = torch.cat([cell.memory(deter), cell.latent(stoch), cell.action(bounded)], dim=-1)
    shared = torch.cat([cell.from_inputs.weight, cell.from_action.weight], dim=1)  # d 3h
    update = []
    hidden = []
    for i in range(g):
        rows = slice(i * d // g, (i + 1) * d // g)
        weight = torch.cat([cell.from_memory.weight[i], shared[rows].T])  # (d/g + 3h) d/g
        hidden.append(torch.cat([deter[:, rows], inputs], dim=-1) @ weight + cell.from_memory.bias[rows])
    x = F.silu(cell.norm(torch.cat(hidden, dim=-1)))
    for i in range(g):
        rows = slice(i * d // g, (i + 1) * d // g)
        bias = cell.gates.bias[3 * i * d // g : 3 * (i + 1) * d // g]
        r, c, u = (x[:, rows] @ cell.gates.weight[i] + bias).chunk(3, dim=-1)
        u = torch.sigmoid(u - 1)
        update.append(u * torch.tanh(torch.sigmoid(r) * c) + (1 - u) * deter[:, rows])
    torch.testing.assert_close(cell(deter, stoch, cell.push(action)), torch.cat(update, dim=-1))


def test_push_of_all_times_is_push_of_each():
    cell = BlockGRU(8, 4, 2, 4, blocks=2)
    action = torch.rand(3, 5, 2)
    torch.testing.assert_close(cell.push(action)[:, 2], cell.push(action[:, 2]))
