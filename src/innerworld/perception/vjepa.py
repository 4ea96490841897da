"""V-JEPA (arXiv 2404.08471): I-JEPA for films. Tubes through time are hidden, and places are a frozen table."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.nn.patches import take
from innerworld.nn.vision import SIZES, ViTConfig, sized
from innerworld.perception.masks import Tubes, TubesConfig
from innerworld.perception.predictor import Predictor, PredictorConfig
from innerworld.perception.sight import SightConfig
from innerworld.perception.slow_copy import SlowCopy, SlowCopyConfig, spread
from innerworld.types import Clip, Spec


def _vit(size: str, patch: int = 16) -> ViTConfig:
    return sized(size, patch=patch, tubelet=2, positions="sincos_3d", rescale=False)


SHORT, LONG = TubesConfig(blocks=8, scale=(0.15, 0.15)), TubesConfig(blocks=2, scale=(0.7, 0.7))


class VJEPAConfig(SlowCopyConfig):
    vit: ViTConfig = Field(default=_vit("tiny"), description="the encoder")
    predictor: PredictorConfig = Field(
        default=PredictorConfig(mask_tokens=2, zero_tokens=True), description="what guesses from its tokens"
    )
    masks: tuple[TubesConfig, ...] = Field(
        default=(SHORT, LONG), description="each hides its own part of every film and has its own mask token"
    )
    aspect: tuple[float, float] = Field(default=(0.75, 1.35), description="the window's width by its height")
    power: float = Field(default=1.0, description="of the error: 1 is L1", gt=0)
    variance: float = Field(default=0.0, description="weight of a hinge on the spread of the guesses", ge=0)
    momentum: tuple[float, float] = Field(default=(0.998, 1.0), description="of the slow copy, first and last step's")
    momentum_steps: int = Field(default=112_500, description="steps over which the momentum rises", ge=1)


def _published(size: str, side: int) -> VJEPAConfig:
    """The released recipe: 90,000 steps of schedules stretched by 1.25; masks cut as the released trainer does."""
    return VJEPAConfig(
        sight=SightConfig(size=side, pixels="imagenet"),
        vit=_vit(size),
        predictor=PredictorConfig(heads=SIZES[size].heads, mask_tokens=2, zero_tokens=True),
        masks=tuple(mask.model_copy(update={"truncate": "prefix"}) for mask in (SHORT, LONG)),
    )


class VJEPA(SlowCopy):
    """A video ViT that sees what no tube hides, a predictor that guesses the tubes, a slow copy of the ViT as judge.

    `encode` takes frames (each shown as a still film) or films, and gives the slow copy's tokens. Frames at a clip's
    end that fill no tubelet are not looked at. Raises `UserError` for clips shorter than a tubelet, pictures that
    patches do not tile and masks that leave no context.
    """

    Config = VJEPAConfig
    presets: ClassVar[dict[str, Config]] = {
        "tiny": VJEPAConfig(
            vit=_vit("tiny", 8).model_copy(update={"dim": 96, "depth": 6, "heads": 3, "mlp": 384}),
            predictor=PredictorConfig(dim=48, depth=3, heads=3, mlp=192, mask_tokens=2, zero_tokens=True),
            momentum=(0.99, 1.0),
            momentum_steps=5_000,
        ),
        "vitl16": _published("large", 224),
        "vith16": _published("huge", 224),
        "vith16-384": _published("huge", 384),
    }

    def __init__(self, config: VJEPAConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.masks = [Tubes(mask) for mask in config.masks]
        self.predictor = Predictor(config.predictor, config.vit)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean |guess − normed token|^p / p over hidden tokens, averaged over the masks (eq. 2; p = 1)."""
        config = cast(VJEPAConfig, self.config)
        x = self.films(clip)
        grid = self.online.grid(x)
        with torch.no_grad():
            truth = self.target(x).float()
            truth = F.layer_norm(truth, truth.shape[-1:])
        errors, hinges, seen = [], [], truth
        for i, masks in enumerate(self.masks):
            mask = masks(len(x), *grid)
            context, hidden = mask.context.to(x.device), mask.targets[0].to(x.device)
            seen = self.online(x, context)
            guess = self.predictor(seen, context, hidden, grid, token=i)
            errors.append((guess - take(truth, hidden)).abs().pow(config.power).mean() / config.power)
            hinges.append(F.relu(1 - (guess.var(dim=1) + 1e-4).sqrt()).mean())
        parts = {"predict": torch.stack(errors).mean(), "variance": torch.stack(hinges).mean()}
        loss = parts["predict"] + config.variance * parts["variance"]
        return loss, {name: part.detach() for name, part in parts.items()} | {"spread": spread(seen)}
