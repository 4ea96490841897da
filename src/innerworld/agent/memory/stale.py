"""What was remembered with other eyes: which features those are, and how they are believed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from innerworld.agent.modules import Believed


def stale(columns: Mapping[str, Tensor], version: int) -> Tensor:
    """Moments, of whatever leading axes `columns` have, whose features are of another version."""
    cost = columns["cost"]
    return columns["version"] != version if "version" in columns else torch.ones_like(cost, dtype=torch.bool)


def renewed(parts: Sequence[Mapping[str, Tensor]], version: int, again: Believed) -> list[dict[str, Tensor]]:
    """What changes of each part's columns: where features are stale, those of the sights as `again` gives them, NaN
    where a sight is forgotten or never was; there nothing is known of what was pursued."""
    old = [stale(columns, version) if columns else torch.zeros(0, dtype=torch.bool) for columns in parts]
    known = [
        where & columns["sight"].isfinite() if "sight" in columns else torch.zeros_like(where)
        for where, columns in zip(old, parts, strict=True)
    ]
    asked = [columns["sight"][where].long() for where, columns in zip(known, parts, strict=True) if "sight" in columns]
    given = iter(again(torch.cat(asked)).split([len(sights) for sights in asked]) if asked else ())
    found = []
    for columns, where, seen in zip(parts, old, known, strict=True):
        new: dict[str, Tensor] = {}
        if columns:
            features = columns["features"].masked_fill(where[..., None], torch.nan)
            if "sight" in columns:
                features[seen] = next(given).to(features)
            new = {"features": features, "version": torch.full_like(columns["cost"], version)}
            if "goal" in columns:
                new["goal"] = columns["goal"].masked_fill(where[..., None], torch.nan)
        found.append(new)
    return found
