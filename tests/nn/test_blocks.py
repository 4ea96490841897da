"""The transformer block: gains, gates, masks and initial weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerworld.errors import UserError
from innerworld.nn.blocks import Block, SwiGLU, init_


def test_a_gain_of_zero_leaves_the_shortcut() -> None:
    x = torch.randn(2, 5, 12)
    assert torch.equal(Block(12, 2, 24, scale=0.0)(x), x)
    assert not torch.equal(Block(12, 2, 24)(x), x)


def test_a_mask_hides() -> None:
    block, x = Block(12, 2, 24), torch.randn(1, 4, 12)
    seen = torch.ones(4, 4, dtype=torch.bool).tril()
    other = x.clone()
    other[:, 3] = torch.randn(12)
    assert torch.equal(block(x, seen=seen)[:, :3], block(other, seen=seen)[:, :3])
    assert not torch.equal(block(x)[:, :3], block(other)[:, :3])


def test_a_gate() -> None:
    layer, x = SwiGLU(4, 6), torch.randn(3, 4)
    gate, value = layer.fc1(x)[:, :6], layer.fc1(x)[:, 6:]
    torch.testing.assert_close(layer(x), layer.fc2(gate * gate.sigmoid() * value))


@pytest.mark.parametrize("rescale", [True, False])
def test_initial_weights(rescale: bool) -> None:
    blocks = nn.ModuleList([Block(64, 2, 256) for _ in range(4)])
    init_(blocks, rescale)
    stds = [block.mlp.fc2.weight.std().item() for block in blocks]
    wanted = [0.02 / (2 * i) ** 0.5 if rescale else 0.02 for i in (1, 2, 3, 4)]
    assert stds == pytest.approx(wanted, rel=0.05)
    assert blocks[3].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not blocks[0].attention.qkv.bias.any()


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match="a width of 10 cannot be shared by 4 heads"):
        Block(10, 4, 20)
