"""I-JEPA (arXiv 2301.08243): from a part of a picture, guess what a slower copy of the encoder sees in other parts."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.nn.patches import take
from innerworld.nn.vision import SIZES, ViTConfig, sized
from innerworld.perception.masks import Blocks, BlocksConfig
from innerworld.perception.predictor import Predictor, PredictorConfig
from innerworld.perception.sight import SightConfig
from innerworld.perception.slow_copy import SlowCopy, SlowCopyConfig, spread
from innerworld.types import Clip, Spec


def _vit(size: str, patch: int) -> ViTConfig:
    """Columns come first in I-JEPA's position table; its code undoes the smaller initial weights of later blocks."""
    return sized(size, patch=patch, positions="sincos_2d", order="column_first", rescale=False)


class IJEPAConfig(SlowCopyConfig):
    vit: ViTConfig = Field(default=_vit("tiny", 16), description="the encoder")
    predictor: PredictorConfig = Field(default=PredictorConfig(), description="what guesses from its tokens")
    masks: BlocksConfig = Field(default=BlocksConfig(), description="what is seen and what is guessed")
    flip: bool = Field(default=False, description="mirror half of the windows")


def _published(size: str, patch: int, side: int, depth: int = 12) -> IJEPAConfig:
    """The released trainer's settings, the quirks of its masks included; the momentum rises over 300 epochs of 626."""
    return IJEPAConfig(
        sight=SightConfig(size=side, pixels="imagenet"),
        vit=_vit(size, patch),
        predictor=PredictorConfig(depth=depth, heads=SIZES[size].heads),
        masks=BlocksConfig(truncate="prefix", one_draw=True, spare_edge=True),
        momentum_steps=187_800,
    )


class IJEPA(SlowCopy):
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
        self.masks = Blocks(config.masks)
        self.predictor = Predictor(config.predictor, config.vit)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Smooth L1 between guesses and the slow copy's normed tokens (the code's; the paper's eq. 1 says L2)."""
        x = self.window(self.sight({self.sight.sensor: clip.obs[self.sight.sensor].flatten(0, 1)}))
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
        return loss, {"predict": loss.detach(), "spread": spread(seen)}
