"""The scan is the recurrence, real and complex, with episodes that begin anywhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from innerworld.nn.backbone.linear_scan import scan


def recurrence(x: Tensor, decay: Tensor, first: Tensor | None) -> Tensor:
    total, totals = torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        if first is not None:
            total = torch.where(first[:, t, None], 0.0, total)
        total = decay * total + x[:, t]
        totals.append(total)
    return torch.stack(totals, dim=1)


@pytest.mark.parametrize("t", [1, 2, 3, 8, 13, 64])
@pytest.mark.parametrize("often", [None, 0.0, 0.2, 1.0])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.complex64, 1e-5), (torch.complex128, 1e-12), (torch.float32, 1e-5)]
)
def test_scan_is_the_recurrence(t, often, dtype, tolerance):
    torch.manual_seed(t)
    x = torch.randn(3, t, 4, dtype=dtype)
    decay = torch.randn(4, dtype=dtype)
    decay = decay / decay.abs() * torch.tensor([0.1, 0.9, 0.999, 1.0])
    first = None if often is None else torch.rand(3, t) < often
    given = x.clone()
    torch.testing.assert_close(scan(x, decay, first), recurrence(x, decay, first), rtol=0, atol=tolerance)
    assert torch.equal(x, given)


def test_gradients():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, dtype=torch.complex128, requires_grad=True)
    decay = (0.5 * torch.randn(3, dtype=torch.complex128)).requires_grad_()
    first = torch.rand(2, 5) < 0.3
    assert torch.autograd.gradcheck(lambda x, decay: scan(x, decay, first), (x, decay))


def test_nothing_of_another_episode_comes_through():
    x = torch.ones(1, 6, 1)
    x[0, 2] = torch.inf
    first = torch.tensor([[False, False, False, True, False, False]])
    assert scan(x, torch.tensor([0.5]), first)[0, 3:, 0].tolist() == [1.0, 1.5, 1.75]
