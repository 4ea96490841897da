"""Clips cut where episodes begin: each piece is run as a clip of its own, and the outcome is put back in its place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def segmented(run: Callable[[Tensor], Tensor], x: Tensor, first: Tensor | None) -> Tensor:
    """What causal `run`, `n w i` → `n w o`, makes of `b t i` if each row is cut before every token of `first` `b t`.

    Pieces of similar length go together, so at most twice as many tokens are computed as there are.
    """
    if first is None or not bool(first[:, 1:].any()):
        return run(x)
    tokens = x.flatten(0, 1)
    found, places = [], []
    for start, length in _alike(first):
        offset = torch.arange(int(length.max()), device=x.device)
        place = start[:, None] + offset  # n w
        real = offset < length[:, None]
        piece = tokens[place.clamp(max=len(tokens) - 1)].masked_fill(~real[..., None], 0.0)
        found.append(run(piece)[real])
        places.append(place[real])
    return torch.cat(found)[torch.cat(places).argsort()].unflatten(0, first.shape)


def _alike(first: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Starts and lengths of the pieces, over all rows laid end to end, in groups whose lengths are within twofold."""
    begins = first.clone()
    begins[:, 0] = True
    start = begins.flatten().nonzero()[:, 0]
    length = start.diff(append=start.new_tensor([first.numel()]))
    size = (length - 1).clamp(min=1).log2().floor()
    return [(start[size == each], length[size == each]) for each in size.unique()]
