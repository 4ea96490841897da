"""The plain layer stack, Linear → norm → activation, with DreamerV3's initialisation (arXiv 2301.04104)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from innerworld.nn.linear import Linear
from innerworld.nn.rms_norm import RMSNorm

EPS = 1e-4  # of every norm, as in DreamerV3

Norm = Literal["rms", "layer", "none"]
Activation = Literal["silu", "elu", "relu"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"silu": nn.SiLU, "elu": nn.ELU, "relu": nn.ReLU}


class MLP(nn.Module):
    """`layers` × (Linear, norm, activation), then a plain Linear to `out_dim` if one is given: `... i` → `... o`.

    `outscale` multiplies the initial weights of that last Linear; 0 makes the output exactly 0 at the start. `bias` is
    that of the others.
    """

    def __init__(
        self,
        in_dim: int,
        units: int,
        layers: int,
        out_dim: int | None = None,
        norm: Norm = "rms",
        activation: Callable[[], nn.Module] = nn.SiLU,
        outscale: float = 1.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        stack: list[nn.Module] = []
        for i in range(layers):
            stack += [linear(in_dim if i == 0 else units, units, bias), norm_layer(norm, units), activation()]
        if out_dim is not None:
            stack.append(linear(units if layers else in_dim, out_dim, scale=outscale))
        self.stack = nn.Sequential(*stack)

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(x)


def linear(in_dim: int, out_dim: int, bias: bool = True, fan_in: int | None = None, scale: float = 1.0) -> nn.Linear:
    """A Linear with `init_` weights and zero bias. Give `fan_in` when it is one part of a wider layer."""
    with maybe_no_inputs():
        layer = Linear(in_dim, out_dim, bias=bias)
    init_(layer.weight, fan_in or in_dim, scale)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


@contextmanager
def maybe_no_inputs() -> Iterator[None]:
    """Build layers of actions in this: where nobody acts an action has no numbers, and torch warns of empty weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        yield


def norm_layer(norm: Norm, units: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    return RMSNorm(units, eps=EPS) if norm == "rms" else nn.LayerNorm(units, eps=EPS)


@torch.no_grad()
def init_(weight: Tensor, fan_in: float, scale: float = 1.0) -> None:
    """Fill `weight` from a normal cut at two deviations, with variance scale² / fan_in after the cut."""
    if not weight.numel():
        return
    std = 1.1368 / math.sqrt(fan_in)  # the cut leaves 0.8796 of the deviation: 1.1368 = 1 / 0.8796
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
    weight.mul_(scale)
