"""A linear recurrence with constant decay over all times at once: s_t = decay · s_{t-1} + x_t."""

from __future__ import annotations

import torch
from torch import Tensor


def scan(x: Tensor, decay: Tensor, first: Tensor | None = None) -> Tensor:
    """The sums after each token, `b t n`, of inputs `b t n` and a decay `n`, real or complex.

    Before a token of `first` `b t` the sum is nothing. By doubling (Hillis and Steele, 1986): after round i each sum
    reaches back 2^i tokens, so there are log2 t rounds over all times.
    """
    alone = None if first is None else first[..., None]  # b t 1: nothing from further back is to be added
    reach = 1
    while reach < x.shape[1]:
        carried = decay * x[:, :-reach]
        if alone is not None:
            carried = carried.masked_fill(alone[:, reach:], 0.0)
            alone = torch.cat([alone[:, :reach], alone[:, reach:] | alone[:, :-reach]], dim=1)
        x = torch.cat([x[:, :reach], x[:, reach:] + carried], dim=1)
        decay = decay * decay
        reach *= 2
    return x
