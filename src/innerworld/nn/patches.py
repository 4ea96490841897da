"""Pictures and films cut into patches or tubelets, and each of those made a token."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.nn.linear import product


class Patches(nn.Module):
    """A linear map from each `tubelet × patch × patch` block to a token; a picture is a film of one frame.

    It is the strided convolution of a ViT or V-JEPA, its weight in that layout, `d c t y x`, but written as a product:
    so blocks that are masked need not be looked at, and it is faster on a CPU.
    """

    def __init__(self, channels: int, dim: int, patch: int, tubelet: int = 1) -> None:
        super().__init__()
        self.patch, self.tubelet = patch, tubelet
        self.weight = nn.Parameter(torch.empty(dim, channels, tubelet, patch, patch))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def grid(self, x: Tensor) -> tuple[int, int, int]:
        """How many blocks in time, rows and columns: films `b c t y x`. Raises `UserError` where they do not fit."""
        channels, frames, height, width = x.shape[1:]
        if channels != self.weight.shape[1]:
            raise UserError(f"this encoder sees {self.weight.shape[1]} channels, the picture has {channels}")
        if frames < self.tubelet:
            raise UserError(f"a clip of {frames} frames is shorter than a tubelet of {self.tubelet}: give longer clips")
        if frames % self.tubelet:
            raise UserError(f"{frames} frames cannot be cut into tubelets of {self.tubelet}: give a multiple")
        if height % self.patch or width % self.patch:
            raise UserError(
                f"a picture of {height}×{width} cannot be cut into patches of {self.patch}: resize it to a multiple"
            )
        return frames // self.tubelet, height // self.patch, width // self.patch

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Films `b c t y x` → tokens `b s d`, time first; with `keep` `b n` only those, in that order: `b n d`."""
        t, y, x_ = self.grid(x)
        blocks = rearrange(x, "b c (t i) (y j) (x k) -> b (t y x) (c i j k)", t=t, y=y, x=x_)
        if keep is not None:
            blocks = take(blocks, keep)
        return product(blocks, self.weight.flatten(1), self.bias)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Some tokens of each row: `b s d` at `b n` → `b n d`."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
