import torch
from torch import nn

from innerworld.nn.rms_norm import WORTH, RMSNorm


def test_large_and_small_batches_are_normed_as_by_torch():
    torch.manual_seed(0)
    ours, theirs = RMSNorm(64, eps=1e-4), nn.RMSNorm(64, eps=1e-4)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    for rows in (2, WORTH // 32):
        x = torch.randn(rows, 2, 64, requires_grad=True)
        weight = torch.randn_like(x)
        found = [torch.autograd.grad((weight * norm(x)).sum(), [x, norm.weight]) for norm in (ours, theirs)]
        torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found[0][1], found[1][1], atol=1e-2, rtol=1e-4)  # sums over thousands of rows


def test_large_batches_take_the_short_way():
    x = torch.randn(WORTH // 64, 64, requires_grad=True)
    assert RMSNorm(64)(x[:2]).grad_fn.name() != "_NormBackward"
    assert RMSNorm(64, eps=1e-4)(x).grad_fn.name() == "_NormBackward"


def test_half_precision_is_normed_in_full():
    """As under autocast: the numbers are coarse, the norm is not, and torch has nothing to warn of."""
    norm, x = RMSNorm(64, eps=1e-4), torch.randn(3, 64, dtype=torch.bfloat16)
    assert torch.equal(norm(x), norm(x.float())) and norm(x).dtype == torch.float32
