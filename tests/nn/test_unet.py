"""The U-Net: shapes, steering, what it begins as, and sides that do not halve."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.unet import Descent, ResidualBlock, SelfAttention, SteeredNorm, UNet

Net = TypeVar("Net", bound=nn.Module)


@torch.no_grad()
def stirred(module: Net) -> Net:
    """What begins with zeros would hide mistakes."""
    torch.manual_seed(1)
    for value in module.parameters():
        value.add_(0.2 * torch.randn_like(value))
    return module


@pytest.mark.parametrize("size", [(8, 8), (9, 6)])
def test_the_picture_keeps_its_size(size: tuple[int, int]) -> None:
    net = stirred(UNet(4, (8, 16, 16), (1, 2, 1)))
    assert net(torch.randn(2, 8, *size), net.steer(torch.randn(2, 4))).shape == (2, 8, *size)


def test_padding_is_at_the_far_sides() -> None:
    net = stirred(UNet(4, (8, 8), (1, 1))).eval()
    x, steering = torch.randn(1, 8, 7, 5), net.steer(torch.randn(1, 4))
    torch.testing.assert_close(net(x, steering), net(F.pad(x, (0, 1, 0, 1)), steering)[..., :7, :5])


def test_each_picture_is_steered_by_its_own_vector() -> None:
    net = stirred(UNet(4, (8, 16), (1, 1), (True, False)))
    x, vectors = torch.randn(1, 8, 8, 8).expand(2, -1, -1, -1), torch.randn(2, 4)
    both = net(x, net.steer(vectors))
    assert (both[0] - both[1]).abs().max() > 1e-2
    alone = net(x[1:], net.steer(vectors[1:]))
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


def test_steering_of_many_steps_can_be_had_at_once() -> None:
    net = stirred(UNet(4, (8, 16), (1, 2)))
    vectors = torch.randn(3, 2, 4)  # steps r e
    for i, vector in enumerate(vectors):
        for once, apart in zip(net.steer(vectors), net.steer(vector), strict=True):
            torch.testing.assert_close(once[i], apart)


def test_a_steered_norm_is_a_norm_then_scale_shift_and_silu() -> None:
    norm, x, vector = SteeredNorm(64, 3), torch.randn(2, 64, 4, 4), torch.randn(2, 3)
    scale, shift = norm.linear(vector).chunk(2, dim=1)
    parts = [F.layer_norm(part, part.shape[1:]) for part in x.chunk(2, dim=1)]  # 64 channels are two groups
    expected = F.silu(torch.cat(parts, dim=1) * (1 + scale)[..., None, None] + shift[..., None, None])
    torch.testing.assert_close(norm(x, norm.linear(vector)), expected, rtol=1e-4, atol=1e-5)


def test_blocks_begin_as_their_shortcut() -> None:
    block, x = ResidualBlock(8, 8, 4, attends=False), torch.randn(2, 8, 4, 4)
    nn.init.zeros_(block.conv2.bias)  # pyright: ignore[reportArgumentType]
    steering = iter([part.linear(torch.randn(2, 4)) for part in (block.norm1, block.norm2)])
    torch.testing.assert_close(block(x, steering), x)


def test_attention_is_that_of_the_textbook() -> None:
    layer, x = stirred(SelfAttention(16)), torch.randn(2, 16, 3, 5)
    normed = layer.norm(x)
    q, k, v = layer.qkv(normed).reshape(2, 3, 2, 8, 15).unbind(1)  # b heads channels pixels
    weights = (q.transpose(-1, -2) @ k / 8**0.5).softmax(-1)
    mixed = (v @ weights.transpose(-1, -2)).reshape(2, 16, 3, 5)
    torch.testing.assert_close(layer(x), normed + layer.out(mixed), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (9, 6)])
def test_the_way_down_names_its_width(size: tuple[int, int]) -> None:
    net = Descent(4, (8, 8, 16), (1, 1, 2))
    out: Tensor = net(torch.randn(2, 8, *size), net.steer(torch.randn(2, 4)))
    assert out.flatten(1).shape == (2, net.width(size))


def test_channels_that_do_not_make_groups_are_refused() -> None:
    with pytest.raises(UserError, match="100 channels do not make 3 equal groups"):
        UNet(4, (100,), (1,))
    with pytest.raises(UserError, match="heads of 8"):
        UNet(4, (28,), (1,))


def test_without_gradients_nothing_given_is_changed() -> None:
    net, x = stirred(UNet(4, (8, 8), (1, 1))), torch.randn(1, 8, 4, 4)
    before, steering = x.clone(), net.steer(torch.randn(1, 4))
    learning = net(x, steering)
    with torch.inference_mode():
        torch.testing.assert_close(net(x, steering), learning)
    assert torch.equal(x, before)
