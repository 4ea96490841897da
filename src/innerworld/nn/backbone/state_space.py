"""What linear state-space layers share: HiPPO's beginnings, step sizes, and continuous systems made discrete.

A real system of N numbers is kept as n = N/2 complex ones, of which each stands for itself and its conjugate, so what
is read off it is twice a real part. Complex numbers leave this room as real pairs, `... 2`.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from innerworld.errors import UserError

Method = Literal["zoh", "bilinear"]
MIN_STEP, MAX_STEP = 0.001, 0.1  # of time within a token, drawn log-uniform: 10 to 1,000 tokens of memory


class Hippo(NamedTuple):
    """HiPPO-LegS, -A = normal + low-rank, in the base where its normal part is diagonal (S4, arXiv 2111.00396, §3)."""

    poles: Tensor  # n: the eigenvalues of the normal part that turn forward
    low: Tensor  # n: the low-rank part, P
    inputs: Tensor  # n: what the inputs are multiplied by, B
    base: Tensor  # N n: their eigenvectors, V


def hippo(state: int) -> Hippo:
    """The system of `state` real numbers that remembers all inputs by Legendre polynomials, as n = state / 2 pairs."""
    if state < 2 or state % 2:
        raise UserError(f"a state-space memory of {state} numbers: it takes an even number, for they go in pairs")
    order = torch.arange(state, dtype=torch.float64)
    low, inputs = (order + 0.5).sqrt(), (2 * order + 1).sqrt()
    legs = -(torch.tril(torch.outer(inputs, inputs), -1) + torch.diag(order + 1))
    skew = legs + torch.outer(low, low) + 0.5 * torch.eye(state)  # the normal part is this less a half
    turn, base = torch.linalg.eigh(-1j * skew.to(torch.complex128))
    turn, base = turn[state // 2 :], base[:, state // 2 :]
    adjoint = base.conj().T
    return Hippo(torch.complex(torch.full_like(turn, -0.5), turn), adjoint @ (low + 0j), adjoint @ (inputs + 0j), base)


def log_steps(*shape: int) -> Tensor:
    """Logarithms of step sizes, drawn uniformly."""
    low, high = math.log(MIN_STEP), math.log(MAX_STEP)
    return low + (high - low) * torch.rand(*shape)


def discrete(poles: Tensor, step: Tensor, method: Method, who: str) -> tuple[Tensor, Tensor]:
    """The decay of a step and the inputs' weight in it, of diagonal poles and step sizes. Raises `UserError` if a pole
    is not finite or does not decay."""
    if not bool(((poles.real < 0) & (poles.abs() < math.inf) & (step > 0) & (step < math.inf)).all()):
        raise UserError(
            f"{who}: a decay is not finite or grows with time; the weights are spoilt: go back to an earlier checkpoint"
        )
    if method == "zoh":
        return torch.exp(step * poles), torch.expm1(step * poles) / poles
    half = 0.5 * step * poles
    return (1 + half) / (1 - half), step / (1 - half)


def pairs(z: Tensor) -> Tensor:
    """Complex `...` → real `... 2`, as float32."""
    return torch.view_as_real(z.resolve_conj().to(torch.complex64)).clone()


def complexed(x: Tensor) -> Tensor:
    """Real pairs `... 2` → complex `...`."""
    return torch.view_as_complex(x)
