import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.nn.backbone import projection


@pytest.fixture(params=[False, True])
def by_images(request, monkeypatch) -> bool:
    """Both ways on every machine: an AVX-512 that is not there only makes images slow."""
    monkeypatch.setattr(projection, "_unused", lambda: request.param)
    return request.param


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def convolutions(monkeypatch) -> list[Tensor]:
    seen: list[Tensor] = []
    convolve = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, *rest: seen.append(x) or convolve(x, *rest))
    return seen


@pytest.mark.parametrize("shape", [(16, 32, 24), (512, 24), (2, 4, 64, 24)])
def test_it_and_its_gradients_are_torchs(shape, by_images, monkeypatch):
    seen = convolutions(monkeypatch)
    x, weight, to_y = drawn(*shape).requires_grad_(), drawn(40, 24, seed=1).requires_grad_(), drawn(*shape[:-1], 40)
    y, expected = projection.linear(x, weight), F.linear(x, weight)
    assert len(seen) == by_images and y.is_contiguous()
    assert not seen or seen[0].data_ptr() == x.data_ptr()  # no copy
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    right = torch.autograd.grad(expected, [x, weight], to_y)
    with torch.no_grad():
        by_hand = projection.gradients(to_y, x, weight)
    for found in (torch.autograd.grad(y, [x, weight], to_y), by_hand):
        for one, other in zip(found, right, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("tokens", [0, 1, projection.WORTH - 32, projection.WORTH + 1])
def test_few_tokens_and_what_makes_no_images_go_by_torchs_own(tokens, monkeypatch):
    monkeypatch.setattr(projection, "_unused", lambda: True)
    seen, x, weight = convolutions(monkeypatch), drawn(tokens, 24), drawn(40, 24, seed=1)
    assert torch.equal(projection.linear(x, weight), F.linear(x, weight)) and not seen


def test_other_dtypes_autocast_and_strided_tokens_go_by_torchs_own(monkeypatch):
    monkeypatch.setattr(projection, "_unused", lambda: True)
    seen, x, weight = convolutions(monkeypatch), drawn(512, 24), drawn(40, 24, seed=1)
    assert torch.equal(projection.linear(x.double(), weight.double()), F.linear(x.double(), weight.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert projection.linear(x, weight).dtype == torch.bfloat16
    wide = drawn(512, 48)[:, :24]
    assert torch.equal(projection.linear(wide, weight), F.linear(wide, weight)) and not seen


def test_a_gradient_that_is_not_contiguous_is_taken_too(monkeypatch):
    monkeypatch.setattr(projection, "_unused", lambda: True)
    x, weight = drawn(512, 24), drawn(40, 24, seed=1)
    spread = drawn(40, seed=2).expand(512, 40)
    for one, other in zip(
        projection.gradients(spread, x, weight), projection.gradients(spread.contiguous(), x, weight), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)
    x.requires_grad_()
    projection.linear(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(512, 24), atol=1e-4, rtol=1e-5)
