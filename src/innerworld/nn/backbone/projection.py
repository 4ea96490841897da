"""A matrix times many tokens, by oneDNN on a CPU with AVX-512: on AMD's in half the time of torch's own product.

torch multiplies float32 matrices by MKL, which takes a general path on processors that are not Intel's, and convolves
images by oneDNN, which does not ask who made them. A convolution of 1 × 1 is the same sum of the same float32 products
in another order, so many tokens are laid out as images, without a copy. Where a CPU has no AVX-512, on other devices,
in other dtypes and for few tokens it is `torch.nn.functional.linear`.

Axes: k images, m tokens of each, i numbers of a token that enter and o that leave.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad

IMAGES = 32  # from 16 on torch convolves by oneDNN on a single thread, too
WORTH = 256  # tokens, below which it is not faster


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x `... i` and weight `o i` → `... o`."""
    if not _by_images(x, weight):
        return F.linear(x, weight)
    return _tokens(F.conv2d(_images(x), weight[..., None, None]), x)


def gradients(to_y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient of `linear`, `... o`, that of x and that of weight: both new, without a graph."""
    if not (_by_images(x, weight) and _by_images(to_y, weight)):
        return to_y @ weight, to_y.flatten(0, -2).T @ x.flatten(0, -2)
    images, to_images, kernel = _images(x), _images(to_y), weight[..., None, None]
    to_x = grad.conv2d_input(list(images.shape), kernel, to_images)
    return _tokens(to_x, x), grad.conv2d_weight(images, list(kernel.shape), to_images)[..., 0, 0]


def _by_images(x: Tensor, weight: Tensor) -> bool:
    tokens = x.numel() // max(x.shape[-1], 1)
    many = tokens >= WORTH and tokens % IMAGES == 0 and x.is_contiguous()
    full = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return many and full and x.device.type == "cpu" and _unused() and not torch.compiler.is_compiling()


@functools.cache
def _unused() -> bool:
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _images(x: Tensor) -> Tensor:
    """`... i` → `k i m 1`, a view whose channels come last in memory."""
    return x.view(IMAGES, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)


def _tokens(y: Tensor, like: Tensor) -> Tensor:
    """`k o m 1` → `... o`, a view if its channels come last in memory, as they do after `_images`."""
    return y.permute(0, 2, 3, 1).reshape(*like.shape[:-1], -1)
