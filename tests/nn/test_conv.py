import pytest
import torch
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.conv import ChannelNorm, ConvDecoder, ConvEncoder, DoublingConv, PixelDecoder


@pytest.mark.parametrize(("resize", "kernel"), [("strided", 4), ("strided", 5), ("strided", 3), ("maxpool", 5)])
@pytest.mark.parametrize("size", [16, 48, (16, 32)])
def test_there_and_back(size, resize, kernel):
    y, x = (size, size) if isinstance(size, int) else size
    encoder = ConvEncoder(3, size, 4, (1, 2, 3, 4), kernel, resize)
    decoder = ConvDecoder(3, size, 4, (1, 2, 3, 4), kernel, resize)
    picture = torch.rand(2, 3, y, x)
    z = encoder(picture)
    assert z.shape == (2, encoder.width) == (2, 16 * (y // 16) * (x // 16))
    again = decoder(z.unflatten(1, decoder.start))
    assert again.shape == picture.shape
    assert again.min() >= 0 and again.max() <= 1


@pytest.mark.parametrize("resize", ["strided", "maxpool"])
def test_a_first_stage_may_keep_the_sides(resize):
    """As DRAMA's: the first of three stages does not halve, the last of three does not double."""
    encoder = ConvEncoder(3, 20, 4, (1, 2, 3), 5, resize, "batch", stem=True)
    decoder = ConvDecoder(3, 20, 4, (1, 2, 3), 5, resize, norm="batch", stem=True)
    picture = torch.rand(2, 3, 20, 20)
    assert encoder.stages[:3](picture).shape == (2, 4, 20, 20)
    assert encoder.width == 12 * 5 * 5 and decoder.start == (12, 5, 5)
    assert decoder(encoder(picture).unflatten(1, decoder.start)).shape == picture.shape


def test_a_first_stage_that_cannot_keep_the_sides_is_named():
    with pytest.raises(UserError, match="needs an odd kernel and zeros around the picture, not kernel=4 and strided"):
        ConvEncoder(3, 16, 4, kernel=4, stem=True)
    with pytest.raises(UserError, match="not kernel=5 and valid"):
        ConvEncoder(3, 64, 4, kernel=5, resize="valid", stem=True)
    with pytest.raises(UserError, match="not kernel=4 and maxpool"):
        ConvDecoder(3, 16, 4, kernel=4, resize="maxpool", stem=True)


@pytest.mark.parametrize("resize", ["strided", "maxpool"])
def test_only_a_norm_makes_a_bias_superfluous(resize):
    """The last convolution has none behind it."""
    shapes = 3, 16, 4, (1, 2), 3, resize
    encoder, decoder = ConvEncoder(*shapes, "batch", bias=False), ConvDecoder(*shapes, norm="batch", bias=False)
    biases = [layer.bias is not None for part in (encoder, decoder) for layer in part.modules() if _convolves(layer)]
    assert biases == [False, False, False, True]
    bare = ConvEncoder(*shapes, "none", bias=False)
    assert all(layer.bias is not None for layer in bare.modules() if _convolves(layer))
    painter = PixelDecoder(3, 2, norm="batch", bias=False)
    assert [layer.bias is not None for layer in painter.modules() if _convolves(layer)] == [False, False, False, True]


def _convolves(layer):
    return isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d)


def test_batch_norm_sees_the_picture_as_it_is():
    """Nothing is taken off it: the norm finds the mean itself, and what is around the picture is black."""
    encoder = ConvEncoder(1, 8, 2, (1,), norm="batch", activation="relu")
    picture = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(encoder(picture), encoder.stages(picture).flatten(1))


def test_sides_that_cannot_be_halved_are_named():
    with pytest.raises(UserError, match="20×20 cannot be halved 3 times: choose sides divisible by 8"):
        ConvEncoder(3, 20, 4)


def test_max_pool_keeps_a_dot_wherever_it_lies():
    """The reason for the dear variant: a shift by one pixel may not lose a one-pixel dot."""
    torch.manual_seed(0)
    encoder = ConvEncoder(1, 8, 4, (1,), kernel=1, resize="maxpool")
    one, two = torch.zeros(2, 1, 1, 8, 8)
    one[..., 2, 2] = two[..., 3, 3] = 1
    torch.testing.assert_close(encoder(one), encoder(two))


def test_channel_norm_is_per_pixel():
    x = torch.randn(2, 6, 3, 3)
    y = ChannelNorm(6)(x)
    torch.testing.assert_close(y[0, :, 1, 2], x[0, :, 1, 2] / (x[0, :, 1, 2].square().mean() + 1e-4).sqrt())


def test_a_linear_decoder_is_not_squashed():
    torch.manual_seed(0)
    decoder = ConvDecoder(1, 16, 4, output="linear")
    assert decoder(torch.randn(2, *decoder.start)).min() < 0


def test_valid_convolutions_and_a_pixel_are_the_old_papers():
    """PlaNet, Dreamer v1 and v2: 64 → 31, 14, 6, 2 pixels, and 1 → 5, 13, 30, 64."""
    encoder = ConvEncoder(3, 64, 2, (1, 2, 4, 8), 4, "valid", "none", "relu")
    sides = []
    x = torch.rand(1, 3, 64, 64)
    for layer in encoder.stages:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            sides.append(x.shape[-1])
    assert sides == [31, 14, 6, 2] and encoder.width == 2 * 2 * 16
    decoder = PixelDecoder(3, 2)
    assert decoder.start == (64, 1, 1) and decoder.side == 64
    sides = []
    x = torch.rand(1, 64, 1, 1)
    for layer in decoder.stages:
        x = layer(x)
        if isinstance(layer, torch.nn.ConvTranspose2d):
            sides.append(x.shape[-1])
    assert sides == [5, 13, 30, 64] and x.shape[1] == 3
    assert isinstance(list(decoder.stages)[-1], torch.nn.ConvTranspose2d)  # the last is not rectified


def test_nothing_told_is_painted_grey():
    decoder = PixelDecoder(1, 2)
    torch.testing.assert_close(decoder(torch.zeros(1, 64, 1, 1)), torch.full((1, 1, 64, 64), 0.5))


def test_a_pixel_keeps_the_size_of_the_signal():
    torch.manual_seed(0)
    decoder = PixelDecoder(3, 16, activation="elu")
    painted = decoder(torch.randn(8, *decoder.start)) - 0.5
    assert 0.1 < painted.std() < 2


def test_pictures_too_small_for_valid_convolutions_are_named():
    with pytest.raises(UserError, match="16×16 is too small for 4 stages"):
        ConvEncoder(3, 16, 4, (1, 2, 4, 8), 4, "valid")
    with pytest.raises(UserError, match="no mirror image"):
        ConvDecoder(3, 64, 4, (1, 2, 4, 8), 4, "valid")


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
def test_doubling_without_doubling_is_the_same_function(kernel):
    """As if every pixel were made four and then convolved, with the same gradients."""
    torch.manual_seed(0)
    layer = DoublingConv(3, 2, kernel)
    assert layer.bias is not None
    small = torch.randn(2, 3, 4, 6, requires_grad=True)
    around = ((kernel - 1) // 2, kernel // 2) * 2
    large = F.conv2d(F.pad(F.interpolate(small, scale_factor=2), around), layer.weight, layer.bias)
    found, goal = layer(small), torch.randn_like(large)
    torch.testing.assert_close(found, large)
    slopes = [torch.autograd.grad(y, [small, layer.weight, layer.bias], goal) for y in (found, large)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)
