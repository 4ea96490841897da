"""Nearest neighbours: what does a model take for alike? The most similar moments that it finds in other episodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.errors import UserError


@dataclass(frozen=True)
class Neighbours:
    """The nearest first; `rows` are those of the gallery."""

    rows: Tensor  # m k
    cosine: Tensor  # m k


def nearest_neighbours(queries: Tensor, gallery: Tensor, episode: Tensor, k: int = 5) -> Neighbours:
    """The `k` rows of `gallery` `n d` with the highest cosine to each of `queries` `m d`, no two of one `episode` `n`.

    Both are taken off the gallery's mean first, for all moments of one scene have most in common. Fewer than `k` where
    the gallery has fewer episodes. Raises `UserError` for shapes that do not fit and features that are not finite.
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1] or not len(gallery):
        shapes = f"{tuple(queries.shape)} and {tuple(gallery.shape)}"
        raise UserError(f"neighbours: queries and gallery have shapes {shapes}, expected (m, d) and (n, d)")
    if episode.shape != gallery.shape[:1]:
        raise UserError(f"neighbours: {len(gallery)} rows of the gallery need as many episodes, got {len(episode)}")
    if not (torch.isfinite(queries).all() and torch.isfinite(gallery).all()):
        raise UserError("neighbours: the features are not finite")
    mean = gallery.detach().double().mean(dim=0)
    q, g = (F.normalize(x.detach().double() - mean, dim=-1) for x in (queries, gallery))
    cosine = q @ g.T  # m n
    each, group = episode.unique(return_inverse=True)  # e; n: to which of them
    best = cosine.new_full((len(q), len(each)), -torch.inf).scatter_reduce(
        1, group.expand_as(cosine), cosine, "amax"
    )  # m e: the most similar moment of each episode
    chosen = best.topk(min(k, len(each)), dim=1)
    row = torch.where(group == chosen.indices[:, :, None], cosine[:, None], -torch.inf).argmax(dim=2)  # m k
    return Neighbours(row, chosen.values)


def state_distance(queries: Tensor, gallery: Tensor, rows: Tensor) -> float:
    """How far the states `m k` of queries are from those of their nearest neighbours, relative to all of the gallery.

    Of states `m k` and `n k`, and `rows` `m` of the gallery. 0 is the same state, 1 no nearer than by chance. Each
    dimension counts in units of its deviation; NaN where none varies.
    """
    scale = gallery.double().std(dim=0, correction=0)
    varies = scale > 1e-9 * (1e-3 + gallery.double().abs().amax(dim=0))
    q, g = ((x.double() / scale.clamp_min(1e-300))[:, varies] for x in (queries, gallery))
    return ((q - g[rows]).norm(dim=-1).mean() / torch.cdist(q, g).mean()).item()
