import pytest
import torch
from torch import nn
from torch.nn import functional as F

from innerworld.nn.gru import GRU, NormGRUCell


def test_plain_cell_is_a_dense_layer_and_torchs_unit():
    torch.manual_seed(0)
    cell = GRU(8, 4, 3, 5)
    for bias in (cell.unit.bias_ih, cell.unit.bias_hh, cell.latent.bias):
        nn.init.normal_(bias)
    deter, stoch, action = torch.randn(2, 8), torch.randn(2, 4), 2 * torch.rand(2, 3) - 1
    unit = nn.GRUCell(5, 8)
    unit.load_state_dict(cell.unit.state_dict())
    weight = torch.cat([cell.latent.weight, cell.action.weight], dim=1)  # of latent and action beside each other
    x = F.elu(F.linear(torch.cat([stoch, action], dim=-1), weight, cell.latent.bias))
    found = cell(deter, stoch, cell.push(action))
    torch.testing.assert_close(found, unit(x, deter))
    # and torch's unit, written out
    r, u, c = F.linear(x, cell.unit.weight_ih, cell.unit.bias_ih).chunk(3, dim=-1)
    r_h, u_h, c_h = F.linear(deter, cell.unit.weight_hh, cell.unit.bias_hh).chunk(3, dim=-1)
    update = torch.sigmoid(u + u_h)
    torch.testing.assert_close(found, (1 - update) * torch.tanh(c + torch.sigmoid(r + r_h) * c_h) + update * deter)


def test_normed_unit_is_the_formula():
    """danijar/dreamerv2: one layer over [inputs, memory], one norm over its three parts, the update shifted by -1."""
    torch.manual_seed(0)
    d = 8
    unit = NormGRUCell(5, d)
    for p in (unit.inputs.bias, unit.norm.weight, unit.norm.bias):
        nn.init.normal_(p)
    x, deter = torch.randn(2, 5), torch.randn(2, d)
    weight = torch.cat([unit.inputs.weight, unit.memory.weight], dim=1)
    parts = torch.cat([x, deter], dim=-1) @ weight.T + unit.inputs.bias
    mean, variance = parts.mean(dim=-1, keepdim=True), parts.var(dim=-1, keepdim=True, unbiased=False)
    parts = (parts - mean) / (variance + 1e-3).sqrt() * unit.norm.weight + unit.norm.bias
    reset, candidate, update = parts[:, :d], parts[:, d : 2 * d], parts[:, 2 * d :]
    update = torch.sigmoid(update - 1)
    expected = update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * deter
    torch.testing.assert_close(unit(x, deter), expected)


@pytest.mark.parametrize("normed", [False, True])
def test_push_of_all_times_is_push_of_each(normed):
    cell = GRU(8, 4, 2, 4, normed, norm="layer")
    action = torch.rand(3, 5, 2)
    torch.testing.assert_close(cell.push(action)[:, 2], cell.push(action[:, 2]))


def test_an_action_that_no_world_takes_is_cut():
    """A normal's draws lie beyond [-1, 1], what was lived does not: dreams must not go where nothing was learnt."""
    cell = GRU(8, 4, 2, 4)
    action = torch.tensor([[3.0, -0.5], [-1.5, 1.0]], requires_grad=True)
    push = cell.push(action)
    torch.testing.assert_close(push, cell.push(action.clamp(-1, 1)))
    push.sum().backward()
    assert action.grad is not None and bool((action.grad != 0).all())  # the actor still learns through it


def test_nobody_acts():
    cell = GRU(8, 4, 0, 4)
    assert cell(torch.zeros(2, 8), torch.randn(2, 4), cell.push(torch.zeros(2, 0))).shape == (2, 8)
