"""HiPPO as published, and continuous systems made discrete as exact solutions say."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.nn.backbone.state_space import complexed, discrete, hippo, log_steps, pairs


def legs(n: int) -> torch.Tensor:
    """The matrix of HiPPO-LegS, entry by entry (S4, eq. 2)."""
    rows = [
        [-((2 * i + 1) ** 0.5) * (2 * j + 1) ** 0.5 if i > j else -(i + 1.0) * (i == j) for j in range(n)]
        for i in range(n)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_poles_and_low_rank_make_legs(n):
    """Both halves of the pairs together are the whole real matrix: V Λ V* − P P^T, and B."""
    found = hippo(n)
    base, poles = found.base, found.poles
    normal = 2 * (base @ torch.diag(poles) @ base.conj().T).real
    low = 2 * (base @ found.low).real
    torch.testing.assert_close(normal - torch.outer(low, low), legs(n), rtol=1e-9, atol=1e-9)
    inputs = 2 * (base @ found.inputs).real
    torch.testing.assert_close(inputs, (2 * torch.arange(n, dtype=torch.float64) + 1).sqrt(), rtol=1e-9, atol=1e-9)
    assert bool((poles.imag > 0).all()) and bool((poles.real == -0.5).all())


@pytest.mark.parametrize("n", [-2, 0, 1, 7])
def test_an_odd_memory(n):
    with pytest.raises(UserError, match=f"memory of {n} numbers"):
        hippo(n)


def test_steps_are_log_uniform():
    torch.manual_seed(0)
    steps = log_steps(4000).exp()
    assert steps.min() >= 0.001 and steps.max() <= 0.1
    assert (steps < 0.01).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_zero_order_hold_is_exact():
    """With a constant input the discrete steps lie on the solution of z' = pole z + 1."""
    pole, step = torch.tensor([-0.5 + 3j, -2 - 1j], dtype=torch.complex128), torch.tensor(0.1, dtype=torch.float64)
    decay, weight = discrete(pole, step, "zoh", "a test")
    z = torch.zeros(2, dtype=torch.complex128)
    for _ in range(7):
        z = decay * z + weight
    torch.testing.assert_close(z, (torch.exp(0.7 * pole) - 1) / pole)


def test_bilinear_is_the_trapezium_rule():
    pole, step = torch.tensor([-0.5 + 3j], dtype=torch.complex128), torch.tensor(0.1, dtype=torch.float64)
    decay, weight = discrete(pole, step, "bilinear", "a test")
    z = torch.tensor([0.3 + 0.2j], dtype=torch.complex128)
    after = decay * z + weight
    torch.testing.assert_close(after, z + step * (pole * (z + after) / 2 + 1))


@pytest.mark.parametrize(
    "pole", [complex(0.0, 1.0), complex(0.1, 0.0), complex("nan"), complex("-inf"), complex(-1.0, float("inf"))]
)
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_a_pole_that_does_not_decay(pole, method):
    with pytest.raises(UserError, match="a test: a decay is not finite or grows"):
        discrete(torch.tensor([-0.5, pole]), torch.tensor(0.1), method, "a test")


def test_a_step_that_is_not_finite():
    with pytest.raises(UserError, match="not finite"):
        discrete(torch.tensor([-0.5 + 1j]), torch.tensor(float("inf")), "zoh", "a test")


def test_pairs_there_and_back():
    z = torch.randn(3, 2, dtype=torch.complex128)
    assert torch.equal(complexed(pairs(z.conj())), z.conj().to(torch.complex64))
