"""A short causal convolution over time, each channel alone, that an episode's beginning cuts.

Axes: b rows, t times, c channels, w taps; within, n tokens soon after a cut.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Convolution(torch.autograd.Function):
    """silu(bias + Σ tap · token), each channel alone, causal and cut before each `first`: `b t c` → `b t c`.

    Shifted products: on a CPU a quarter of the time of torch's convolution, which would want its channels before times.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, bias: Tensor, first: Tensor | None) -> Tensor:
        before = torch.addcmul(bias, x, taps[-1])
        for k in range(1, len(taps)):
            before[:, k:].addcmul_(x[:, :-k], taps[-1 - k])
        ctx.cut = cut = None if first is None else _cut(first, len(taps))
        if cut is not None:  # few tokens are so near after a cut: they are done again
            before[cut.row, cut.time] = (cut.window(x) * taps).sum(1) + bias
        ctx.save_for_backward(x, taps, before)
        return F.silu(before)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, taps, before = ctx.saved_tensors
        gradient = torch.ops.aten.silu_backward(gradient, before)
        to_bias, cut = gradient.sum((0, 1)), ctx.cut
        apart = gradient[:0, 0, None] if cut is None else gradient[cut.row, cut.time, None]  # n 1 c
        if cut is not None:
            gradient[cut.row, cut.time] = 0
        t, to_x, to_taps = x.shape[1], gradient * taps[-1], torch.empty_like(taps)
        for k in range(len(taps)):
            shifted = gradient[:, k:]
            if k:
                to_x[:, :-k].addcmul_(shifted, taps[-1 - k])
            to_taps[-1 - k] = (shifted * x[:, : max(t - k, 0)]).sum((0, 1))
        if cut is not None:
            to_taps += (cut.window(x) * apart).sum(0)
            spread = (taps * apart).masked_fill_(cut.gone, 0)
            to_x.index_put_((cut.row[:, None], cut.place), spread, accumulate=True)
        return to_x, to_taps, to_bias, None


def pasts(mixed: Tensor, width: int, first: Tensor | None) -> Tensor:
    """After each token what the next one's convolution will see: `b t w-1 c`, a window that slides over one tensor,
    copied only where an episode begins within."""
    windows = F.pad(mixed, (0, 0, width - 2, 0)).unfold(1, width - 1, 1).mT
    if first is None:
        return windows
    return windows.masked_fill(_under_taps(first, width - 1)[1][..., None], 0)


class _Cut(NamedTuple):
    """The n tokens under whose taps an episode begins."""

    row: Tensor  # n
    time: Tensor  # n
    place: Tensor  # n w: of the tokens under the taps
    gone: Tensor  # n w 1: those before the clip or of another episode

    def window(self, x: Tensor) -> Tensor:
        """The tokens under their taps: `n w c`."""
        return x[self.row[:, None], self.place].masked_fill(self.gone, 0)


def _cut(first: Tensor, width: int) -> _Cut:
    place, gone, other = _under_taps(first, width)
    row, time = other.any(-1).nonzero(as_tuple=True)
    return _Cut(row, time, place[time], gone[row, time, :, None])


def _under_taps(first: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each token the places of the last `width`, `t w`; which do not count, which for another episode, `b t w`."""
    time = torch.arange(first.shape[1], device=first.device)
    place = time[:, None] - torch.arange(width - 1, -1, -1, device=first.device)
    before, place = place < 0, place.clamp(min=0)
    episode = first.cumsum(1)
    other = (episode[:, place] != episode[..., None]) & ~before
    return place, other | before, other
