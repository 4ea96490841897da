"""The narrow transformer that guesses hidden tokens from seen ones: I-JEPA's, V-JEPA's and V-JEPA 2's predictor."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.blocks import Block, init_
from innerworld.nn.linear import Linear
from innerworld.nn.patches import take
from innerworld.nn.rotary import turn
from innerworld.nn.vision import Grid, ViTConfig, frozen_table, rope_turn


class PredictorConfig(Config):
    dim: int = Field(default=384, description="width", ge=1)
    depth: int = Field(default=12, description="blocks", ge=1)
    heads: int = Field(default=12, description="attention heads", ge=1)
    mlp: int = Field(default=1536, description="hidden width of a block's MLP", ge=1)
    mask_tokens: int = Field(default=1, description="learned tokens that stand for what is hidden", ge=1)
    zero_tokens: bool = Field(default=False, description="those begin at zero (V-JEPA), not at random (I-JEPA)")


class Predictor(nn.Module):
    """Seen tokens and their places, hidden places → guesses of the hidden tokens.

    Every token carries its own place, so none need be sorted as the published code does. With several levels of the
    encoder (V-JEPA 2.1) all are read and all are guessed, and a mark says whether this is a film or a picture.
    """

    def __init__(self, config: PredictorConfig, vit: ViTConfig, dense: bool = False) -> None:
        super().__init__()
        self.config = config
        self.place = vit.model_copy(update={"rope_grid": None})  # V-JEPA 2.1 stretches the encoder's positions only
        wide = vit.dim * max(1, len(vit.levels))
        self.embed = _embed(wide, vit.dim, config.dim, several=len(vit.levels) > 1)
        self.mask_tokens = nn.Parameter(torch.zeros(config.mask_tokens, config.dim))
        self.marks = nn.Parameter(torch.randn(2, config.dim) * 1e-6) if vit.image_patch else None  # film, picture
        self.blocks = nn.ModuleList([Block(config.dim, config.heads, config.mlp, vit.eps) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.dim, eps=vit.eps)
        self.out = Linear(config.dim, wide)
        self.out_context = Linear(config.dim, wide) if dense else None
        if vit.positions == "rope":
            turn(torch.zeros(1, 3), config.dim // config.heads, vit.pairing)  # refuses narrow heads now, not later
        init_(self, vit.rescale)
        if not config.zero_tokens:
            nn.init.trunc_normal_(self.mask_tokens, std=0.02)

    def forward(
        self, seen: Tensor, at: Tensor, hidden: Tensor, grid: Grid, token: int = 0, picture: bool = False
    ) -> Tensor:
        """Tokens `b n d` seen at `at` `b n` → guesses at `hidden` `b m`: `b m d`; `token` is the mask token's index."""
        return self.out(self._look(seen, at, hidden, grid, token, picture)[:, at.shape[1] :])

    def both(
        self, seen: Tensor, at: Tensor, hidden: Tensor, grid: Grid, token: int = 0, picture: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As above, and guesses at what was seen `b n d` too (V-JEPA 2.1's dense loss; built with `dense`)."""
        assert self.out_context is not None, "this predictor was built without `dense`"
        x = self._look(seen, at, hidden, grid, token, picture)
        return self.out(x[:, at.shape[1] :]), self.out_context(x[:, : at.shape[1]])

    def _look(self, seen: Tensor, at: Tensor, hidden: Tensor, grid: Grid, token: int, picture: bool) -> Tensor:
        if token >= len(self.mask_tokens):
            raise UserError(f"mask token {token} was asked for, the predictor has {len(self.mask_tokens)}")
        x = self.embed(seen)
        guess = self.mask_tokens[token].to(x.dtype).expand(*hidden.shape, -1)
        x = torch.cat([x, guess], dim=1)
        where = torch.cat([at, hidden], dim=1)
        if self.marks is not None:
            x = x + self.marks[1 if picture else 0]
        if self.place.positions == "rope":
            by = rope_turn(self.place, self.config.dim // self.config.heads, grid, where, x)
        else:
            by = None
            x = x + take(frozen_table(self.place, self.config.dim, grid, x).expand(len(x), -1, -1), where)
        for block in self.blocks:
            x = block(x, by)
        return self.norm(x)


def _embed(wide: int, middle: int, narrow: int, several: bool) -> nn.Module:
    if not several:
        return Linear(wide, narrow)
    return nn.Sequential(Linear(wide, middle), nn.GELU(), Linear(middle, narrow))
