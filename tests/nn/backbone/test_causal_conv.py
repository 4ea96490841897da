import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.nn.backbone.causal_conv import Convolution, pasts


def drawn(dtype: torch.dtype, t: int = 9, width: int = 4) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=rng, dtype=dtype) for shape in ((2, t, 6), (width, 6), (6,))]


@pytest.mark.parametrize("t", [1, 2, 9])
def test_it_is_torchs_convolution(t):
    x, taps, bias = drawn(torch.float32, t)
    expected = F.silu(F.conv1d(x.mT, taps.T[:, None], bias, padding=3, groups=6)[..., :t]).mT
    torch.testing.assert_close(Convolution.apply(x, taps, bias, None), expected)


def test_a_cut_is_a_new_clip():
    x, taps, bias = drawn(torch.float32)
    first = torch.zeros(2, 9, dtype=torch.bool)
    first[0, [4, 6]] = True
    found = Convolution.apply(x, taps, bias, first)
    pieces = [Convolution.apply(x[:1, piece], taps, bias, None) for piece in (slice(4), slice(4, 6), slice(6, 9))]
    torch.testing.assert_close(found[:1], torch.cat(pieces, dim=1))
    torch.testing.assert_close(found[1:], Convolution.apply(x[1:], taps, bias, None))


def test_nothing_before_a_cut_leaks_even_if_it_is_not_a_number():
    x, taps, bias = drawn(torch.float32)
    first = torch.zeros(2, 9, dtype=torch.bool)
    first[:, 4] = True
    x[:, :4] = torch.nan
    assert Convolution.apply(x, taps, bias, first)[:, 4:].isfinite().all()
    assert pasts(x, 4, first)[:, 4:].isfinite().all()


@pytest.mark.parametrize("cut", [False, True])
def test_its_gradients_are_right(cut):
    inputs = [part.requires_grad_() for part in drawn(torch.float64)]
    first = torch.rand(2, 9, generator=torch.Generator().manual_seed(1)) < 0.3 if cut else None
    assert torch.autograd.gradcheck(lambda *inputs: Convolution.apply(*inputs, first), inputs)


@pytest.mark.parametrize("width", [2, 4])
def test_pasts_slide_over_one_tensor_without_a_copy(width):
    x, _, _ = drawn(torch.float32)
    windows = pasts(x, width, None)
    padded = F.pad(x, (0, 0, width - 2, 0))
    torch.testing.assert_close(windows, torch.stack([padded[:, i : i + width - 1] for i in range(9)], dim=1))
    assert windows.stride(1) == windows.stride(2)
