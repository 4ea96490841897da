"""A masked autoencoder as tokenizer (p-doom/jasmine, after Dreamer 4): patches are hidden, latents squeezed by tanh.

Hidden patches must be told by the latents of those around them, which makes the latents smooth to predict.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld.config import Config
from innerworld.perception.patch_body import BodyConfig, PatchBody
from innerworld.perception.tokenizer import Tokenizer, TokenizerConfig
from innerworld.types import Clip, Spec

TINY = BodyConfig(dim=32, depth=1, heads=2, mlp=128)


class MAEConfig(TokenizerConfig):
    width: int = Field(default=16, description="numbers of a token", ge=1)
    hide: float = Field(
        default=0.9, description="each picture hides a share of its patches, drawn between 0 and this", ge=0, le=1
    )
    body: BodyConfig = Field(default=BodyConfig(), description="the two transformers")


class MAE(Tokenizer):
    """Patches, some of them hidden in training, → numbers in (-1, 1) → the whole picture."""

    Config = MAEConfig
    presets: ClassVar[dict[str, Config]] = {
        "tiny": MAEConfig(hide=0.5, body=TINY),
        "small": MAEConfig(hide=0.5),
        # p-doom/jasmine (420859b), 64×64: patches of 16 in 32 numbers, 4 + 4 blocks of 512.
        "jasmine": MAEConfig(patch=16, width=32, body=BodyConfig(dim=512, depth=4, heads=8, mlp=2048, begin="random")),
    }

    def __init__(self, config: MAEConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.width = config.width
        self.body = PatchBody(config.body, self.channels, self.patch, self.grid, self.width)
        self.hidden = nn.Parameter(torch.zeros(self.channels * self.patch**2))  # what stands for a patch that is hidden

    def code(self, x: Tensor) -> Tensor:
        return self.body(x).tanh()

    def paint(self, tokens: Tensor) -> Tensor:
        return self.body.paint(tokens)

    def terms(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Squared error of the whole picture."""
        patches = self.body.patches(x)
        if self.training:
            share = torch.rand(len(x), 1, 1, device=x.device) * cast(MAEConfig, self.config).hide
            hide = torch.rand(*patches.shape[:2], 1, device=x.device) < share
            patches = torch.where(hide, self.hidden.to(patches.dtype), patches)
        tokens = self.body.see(patches).tanh()
        return tokens, {"pixels": (self.body.paint(tokens) - x).square().mean()}, {}

    @torch.no_grad()
    def prepare(self, clip: Clip) -> None:
        x = self.pictures(clip.obs[self.sight.sensor])
        self.body.begin_seeing(x, 0.2)  # nearly linear in tanh, also for rare patches, which lie many deviations away
        self.body.begin_drawing(self.code(x), x)
