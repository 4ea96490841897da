"""How much of a vocabulary is used."""

from __future__ import annotations

import torch
from torch import Tensor


def usage(indices: Tensor, codes: int) -> dict[str, Tensor]:
    """Of the vocabulary: the share that these indices use, and how many entries an even use of as much variety has."""
    share = torch.bincount(indices.flatten(), minlength=codes) / indices.numel()
    entropy = -(share * share.clamp(min=1e-12).log()).sum()
    return {"usage": (share > 0).float().mean(), "perplexity": entropy.exp()}
