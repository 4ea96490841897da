"""Which past moments are most like this one: cosines of features, the k best of each row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Similar:
    """The moments most similar to what was asked for, best first; where there are fewer: NaN, and -1."""

    similarity: Tensor  # b k   cosine, in [-1, 1]
    cost: Tensor  # b k
    time: Tensor  # b k
    episode: Tensor  # b k   its number


def cosines(query: Tensor, features: Tensor) -> Tensor:
    """How similar `b d` is to each of `m d`, or of its own `b m d`: `b m`."""
    query, features = F.normalize(query, dim=-1), F.normalize(features, dim=-1)
    return torch.einsum("bd,md->bm" if features.ndim == 2 else "bd,bmd->bm", query, features)


def best(similarity: Tensor, cost: Tensor, time: Tensor, episode: Tensor, k: int) -> Similar:
    """The k most similar of m candidates, each `b m` or `1 m`; those whose similarity is not finite are none."""
    b, m = similarity.shape
    similarity = similarity.masked_fill(~similarity.isfinite(), -torch.inf)
    top, index = similarity.topk(min(k, m), dim=1)
    none, missing = top.isneginf(), k - top.shape[1]

    def of(values: Tensor, nothing: float) -> Tensor:
        chosen = values.expand(b, m).gather(1, index).masked_fill(none, nothing)
        return F.pad(chosen, (0, missing), value=nothing)

    return Similar(of(similarity, torch.nan), of(cost, torch.nan), of(time, -1), of(episode, -1))


def nothing(query: Tensor, k: int) -> Similar:
    """What is similar to `b d` where nothing is remembered."""
    none = query.new_zeros(len(query), 0)
    return best(none, none, none.long(), none.long(), k)
