"""Matrices times many rows: on AMD's processors with AVX-512 by oneDNN, in half the time of torch's own product.

torch multiplies float32 matrices by MKL, which takes a general path on processors that are not Intel's; oneDNN, which
torch brings along, does not ask who made them. Both add the same float32 products, in another order. Elsewhere (other
processors, devices and dtypes, autocast, few products, `torch.compile`, `torch.func`, and where something watches every
operation, as a counter of FLOPs does) it is `torch.nn.functional.linear`.

Axes: n rows, i numbers of a row that enter and o that leave.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

WORTH = 2**21  # products n i o, from which it is faster
WORTH_GRAPH = 2**24  # the same where a graph is kept, which costs some 200 microseconds more


class Linear(nn.Linear):
    """torch's `Linear`, by `product`."""

    def forward(self, input: Tensor) -> Tensor:
        return product(input, self.weight, self.bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x `... i`, weight `o i` and bias `o` → `... o`, as `torch.nn.functional.linear`."""
    if not faster(x, weight, bias):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    y = _Product.apply(rows, weight, bias) if _graph(x, weight, bias) else _by_onednn(rows, weight, bias)
    return y.view(*x.shape[:-1], -1)


def faster(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Does their `product` go by oneDNN?"""
    many = x.numel() * weight.shape[0] >= (WORTH_GRAPH if _graph(x, weight, bias) else WORTH)
    return many and _foreign() and _plain(x, weight)


def gradients(to_y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient of `product`, `... o`, that of x and that of weight."""
    return product(to_y, weight.T), outer(to_y.flatten(0, -2), x.flatten(0, -2))


def outer(to_y: Tensor, x: Tensor) -> Tensor:
    """`n o` and `n i` → `o i`, added up over rows: the gradient of a weight."""
    if to_y.shape[1] > x.shape[1]:  # oneDNN wants the wider one as its matrix
        return product(x.T, to_y.T).T
    return product(to_y.T, x.T)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _by_onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, to_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            product(to_y, weight.T) if for_x else None,
            outer(to_y, x) if for_weight else None,
            to_y.sum(dim=0) if for_bias else None,
        )


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(_whole(x), _whole(weight), bias, "none", [], "")


def _whole(matrix: Tensor) -> Tensor:
    """Without gaps in memory, upright or transposed: others oneDNN takes, too, but a hundred times as long."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()


def _graph(*given: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(of is not None and of.requires_grad for of in given)


def _plain(x: Tensor, weight: Tensor) -> bool:
    """Ordinary tensors of full precision on a CPU, in ordinary differentiation, with nobody looking on."""
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and {type(x), type(weight)} <= {Tensor, nn.Parameter}
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.maybe_current_level() is None  # pyright: ignore[reportAttributeAccessIssue]
        and forward_ad._current_level < 0
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    )


@functools.cache
def _foreign() -> bool:
    """Is this a processor that MKL does not favour, and oneDNN at hand?"""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return wide and there and "AuthenticAMD" in _processor()


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    return told.read_text() if told.is_file() else platform.processor()
