"""I-JEPA (arXiv 2301.08243): from a part of a picture, guess what a slower copy of the encoder sees in other parts."""

from __future__ import annotations

from copy import deepcopy
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.nn.patches import take
from innerworld.nn.schedules import follow_, linear
from innerworld.nn.vision import SIZES, VisionTransformer, ViTConfig, sized
from innerworld.perception.crops import random_crop
from innerworld.perception.encoder import Encoder
from innerworld.perception.masks import Blocks, BlocksConfig
from innerworld.perception.predictor import Predictor, PredictorConfig
from innerworld.perception.sight import Sight, SightConfig
from innerworld.types import Clip, Obs, Spec


def _vit(size: str, patch: int) -> ViTConfig:
    """Columns come first in I-JEPA's position table; its code undoes the smaller initial weights of later blocks."""
    return sized(size, patch=patch, positions="sincos_2d", order="column_first", rescale=False)


class IJEPAConfig(Config):
    sight: SightConfig = Field(default=SightConfig(), description="what it looks at")
    vit: ViTConfig = Field(default=_vit("tiny", 16), description="the encoder")
    predictor: PredictorConfig = Field(default=PredictorConfig(), description="what guesses from its tokens")
    masks: BlocksConfig = Field(default=BlocksConfig(), description="what is seen and what is guessed")
    crop: tuple[float, float] | None = Field(
        default=(0.3, 1.0), description="share of a picture that a random window covers (none: the whole, unmirrored)"
    )
    flip: bool = Field(default=False, description="mirror half of the windows")
    momentum: tuple[float, float] = Field(default=(0.996, 1.0), description="of the slow copy, first and last step's")
    momentum_steps: int = Field(default=100_000, description="steps over which the momentum rises", ge=1)


def _published(size: str, patch: int, side: int, depth: int = 12) -> IJEPAConfig:
    """The released trainer's settings, the quirks of its masks included; the momentum rises over 300 epochs of 626."""
    return IJEPAConfig(
        sight=SightConfig(size=side, pixels="imagenet"),
        vit=_vit(size, patch),
        predictor=PredictorConfig(depth=depth, heads=SIZES[size].heads),
        masks=BlocksConfig(truncate="prefix", one_draw=True, spare_edge=True),
        momentum_steps=187_800,
    )


class IJEPA(Encoder):
    """A ViT that sees a context, a predictor that guesses blocks, a slow copy of the ViT that says what they are.

    Every frame of a clip is a picture. `encode` gives the slow copy's tokens, as the paper evaluates. Raises
    `UserError` for pictures that patches do not tile and masks that leave no context.
    """

    Config = IJEPAConfig
    presets: ClassVar[dict[str, Config]] = {
        "tiny": IJEPAConfig(
            vit=_vit("tiny", 8).model_copy(update={"dim": 96, "depth": 6, "heads": 3, "mlp": 384}),
            predictor=PredictorConfig(dim=48, depth=3, heads=3, mlp=192),
            masks=BlocksConfig(min_keep=0),
            momentum=(0.99, 1.0),
            momentum_steps=5_000,
        ),
        "vitb16": _published("base", 16, 224, depth=6),
        "vitl16": _published("large", 16, 224),
        "vith14": _published("huge", 14, 224),
        "vith16-448": _published("huge", 16, 448),
        "vitg16": _published("giant", 16, 224, depth=16),
    }

    def __init__(self, config: IJEPAConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.sight = Sight(config.sight, spec)
        self.masks = Blocks(config.masks)
        self.online = VisionTransformer(config.vit, self.sight.channels)
        self.target = deepcopy(self.online).requires_grad_(False)
        self.predictor = Predictor(config.predictor, config.vit)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.steps: Tensor

    def encode(self, obs: Obs) -> Tensor:
        """One frame per row → the tokens of its patches `b s d`."""
        return self.target(self.sight(obs))

    def vision(self, learning: bool = False) -> tuple[VisionTransformer, SightConfig]:
        return self.online if learning else self.target, self.sight.config

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Smooth L1 between guesses and the slow copy's normed tokens (the code's; the paper's eq. 1 says L2)."""
        x = self._pictures(clip)
        grid = self.online.grid(x)
        mask = self.masks(len(x), *grid[1:])
        context, targets = mask.context.to(x.device), [target.to(x.device) for target in mask.targets]
        with torch.no_grad():
            truth = self.target(x).float()
            truth = F.layer_norm(truth, truth.shape[-1:])
            truth = torch.cat([take(truth, target) for target in targets])  # (targets b) m d
        seen = self.online(x, context)
        n = len(targets)
        guess = self.predictor(seen.repeat(n, 1, 1), context.repeat(n, 1), torch.cat(targets), grid)
        loss = F.smooth_l1_loss(guess, truth)
        return loss, {"predict": loss.detach(), "spread": _spread(seen)}

    def after_step(self) -> None:
        config = cast(IJEPAConfig, self.config)
        momentum = linear(int(self.steps), config.momentum_steps, *config.momentum)
        follow_(self.target.parameters(), self.online.parameters(), momentum)
        self.steps += 1

    def _pictures(self, clip: Clip) -> Tensor:
        config = cast(IJEPAConfig, self.config)
        x = self.sight({self.sight.sensor: clip.obs[self.sight.sensor].flatten(0, 1)})
        if config.crop is None:
            return x
        return random_crop(x, (x.shape[-2], x.shape[-1]), config.crop, flip=config.flip)


def _spread(tokens: Tensor) -> Tensor:
    """Deviation of a channel over pictures, averaged: near zero when the encoder has collapsed."""
    return tokens.detach().float().mean(dim=1).std(dim=0, correction=0).mean()
