"""The LSTM against torch's own, which has a second bias."""

from __future__ import annotations

import torch
from torch import nn

from innerworld.nn.lstm import LSTM


def test_it_is_torchs_with_one_bias() -> None:
    torch.manual_seed(0)
    ours, theirs = LSTM(3, 5), nn.LSTMCell(3, 5)
    with torch.no_grad():
        theirs.weight_ih.copy_(_torchs_order(ours.inputs.weight))
        theirs.weight_hh.copy_(_torchs_order(ours.memory.weight))
        theirs.bias_ih.copy_(_torchs_order(ours.inputs.bias))
        theirs.bias_hh.zero_()
    x, h, c = torch.randn(4, 3), torch.randn(4, 5), torch.randn(4, 5)
    found, expected = ours(ours.push(x), h, c), theirs(x, (h, c))
    torch.testing.assert_close(found, expected)


def test_it_begins_remembering() -> None:
    bias = LSTM(2, 4).inputs.bias.detach()
    assert bias[4:8].tolist() == [1.0] * 4 and not bias[:4].any() and not bias[8:].any()


def _torchs_order(rows: torch.Tensor) -> torch.Tensor:
    """in, forget, out, new → in, forget, new, out."""
    into, forget, out, new = rows.chunk(4)
    return torch.cat([into, forget, new, out])
