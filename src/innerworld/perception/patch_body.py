"""The two halves of a learned tokenizer: patches that see each other → a few numbers each, and back to pictures."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld.config import Config
from innerworld.nn.blocks import Block, init_
from innerworld.nn.linear import Linear
from innerworld.nn.sincos import sincos_2d
from innerworld.perception.pca import principal
from innerworld.perception.tokenizer import cut, paste

RIDGE = 1e-4  # of the least squares that begin the way back, relative to the tokens' own squares


class BodyConfig(Config):
    dim: int = Field(default=64, description="width of the transformers, 4 divides it", ge=4)
    depth: int = Field(default=2, description="blocks of each half", ge=1)
    heads: int = Field(default=4, description="attention heads", ge=1)
    mlp: int = Field(default=256, description="hidden width of a block's MLP", ge=1)
    begin: Literal["principal", "random"] = Field(
        default="principal",
        description="a linear way beside the transformers, begun at the main directions of patches; or none",
    )


class Half(nn.Module):
    """Tokens `b s i` → `b s o`: a transformer over the patches of a picture, and beside it a linear way.

    With the linear way the transformer begins as nothing, so that what was found in closed form is where it starts.
    """

    def __init__(self, config: BodyConfig, grid: tuple[int, int], inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = Linear(inputs, outputs) if config.begin == "principal" else None
        self.inwards = Linear(inputs, config.dim)
        self.blocks = nn.ModuleList([Block(config.dim, config.heads, config.mlp) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.dim)
        self.outwards = Linear(config.dim, outputs)
        self.place: Tensor
        self.register_buffer("place", sincos_2d(config.dim, *grid, order="row_first").float(), persistent=False)
        init_(self.inwards, rescale=False)
        init_(self.blocks, rescale=False)
        if self.linear is not None:  # else torch's own: what comes out must spread, or all tokens are one level
            nn.init.zeros_(self.outwards.weight)
            nn.init.zeros_(self.outwards.bias)

    def forward(self, x: Tensor) -> Tensor:
        z = self.inwards(x) + self.place.to(x.dtype)
        for block in self.blocks:
            z = block(z)
        z = self.outwards(self.norm(z))
        return z if self.linear is None else z + self.linear(x)


class PatchBody(nn.Module):
    """Pictures `b c y x` in [0, 1] ↔ `width` numbers for each patch. Both halves see the whole picture."""

    def __init__(self, config: BodyConfig, channels: int, patch: int, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.patch, self.grid = patch, grid
        numbers = channels * patch**2
        self.see = Half(config, grid, numbers, width)
        self.draw = Half(config, grid, width, numbers)

    def patches(self, x: Tensor) -> Tensor:
        """`b c y x` → `b s p`, centred: in [-1, 1]."""
        return cut(2 * x - 1, self.patch)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures → numbers `b s d`."""
        return self.see(self.patches(x))

    def paint(self, tokens: Tensor) -> Tensor:
        """Tokens `b s d` → pictures, not clipped."""
        return (paste(self.draw(tokens), self.grid, self.patch) + 1) / 2

    @torch.no_grad()
    def begin_seeing(self, x: Tensor, deviation: float, each: bool = True) -> None:
        """Begin the linear way in at the main directions of these pictures, brought to that deviation, each or all
        alike: then distances of numbers are those of pictures."""
        if self.see.linear is None:
            return
        layer, patches = self.see.linear, self.patches(x).flatten(0, 1)
        k = min(layer.weight.shape)  # a token may have more numbers than a patch
        basis, mean, scale = principal(patches, k)
        scale = scale if each else scale.square().mean().sqrt().expand(k)
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[:k] = basis * (deviation / scale[:, None])
        layer.bias[:k] = -(layer.weight[:k] @ mean)

    @torch.no_grad()
    def begin_drawing(self, tokens: Tensor, x: Tensor) -> None:
        """Begin the linear way back at the least squares from the tokens `b s d` to the patches that they stand for."""
        if self.draw.linear is None:
            return
        layer, patches = self.draw.linear, self.patches(x).flatten(0, 1).double()
        rows = tokens.flatten(0, 1).double()
        middle, mean = rows.mean(dim=0), patches.mean(dim=0)
        apart = rows - middle
        square = apart.mT @ apart
        square.diagonal().mul_(1 + RIDGE).add_(1e-8)
        weight = torch.linalg.solve(square, apart.mT @ (patches - mean)).mT  # p d
        layer.weight.copy_(weight)
        layer.bias.copy_(mean - weight @ middle)
