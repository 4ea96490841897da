"""`SlowCopy`: what I-JEPA and the V-JEPAs share: a ViT that learns, and a moving average of it as its judge."""

from __future__ import annotations

from copy import deepcopy
from typing import cast

import torch
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.nn.schedules import follow_, linear
from innerworld.nn.vision import VisionTransformer, ViTConfig
from innerworld.perception.crops import random_crop
from innerworld.perception.encoder import Encoder
from innerworld.perception.sight import Sight, SightConfig
from innerworld.types import Clip, Obs, Spec


class SlowCopyConfig(Config):
    sight: SightConfig = Field(default=SightConfig(), description="what it looks at")
    vit: ViTConfig = Field(default=ViTConfig(), description="the encoder")
    crop: tuple[float, float] | None = Field(
        default=(0.3, 1.0), description="share of a frame that a random window covers (none: the whole, unmirrored)"
    )
    aspect: tuple[float, float] = Field(default=(3 / 4, 4 / 3), description="the window's width by its height")
    flip: bool = Field(default=True, description="mirror half of the windows; not where left and right matter")
    momentum: tuple[float, float] = Field(default=(0.996, 1.0), description="of the slow copy, first and last step's")
    momentum_steps: int = Field(default=100_000, description="steps over which the momentum changes", ge=1)


class SlowCopy(Encoder):
    """A leaf adds what it hides, what guesses it, and the loss."""

    def __init__(self, config: SlowCopyConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.sight = Sight(config.sight, spec)
        self.online = VisionTransformer(config.vit, self.sight.channels)
        self.target = deepcopy(self.online).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.steps: Tensor

    def encode(self, obs: Obs) -> Tensor:
        """Frames `b y x c` or films `b t y x c` → the slow copy's tokens of its last level `b s d`, time first."""
        return self.target(self.sight(obs))[..., -self.online.config.dim :]

    def vision(self, learning: bool = False) -> tuple[VisionTransformer, SightConfig]:
        return self.online if learning else self.target, self.sight.config

    def after_step(self) -> None:
        config = cast(SlowCopyConfig, self.config)
        momentum = linear(int(self.steps), config.momentum_steps, *config.momentum)
        follow_(self.target.parameters(), self.online.parameters(), momentum)
        self.steps += 1

    def films(self, clip: Clip) -> Tensor:
        """Random windows of a clip's frames, but for those at its end that fill no tubelet: `b c t y x`."""
        frames = clip.obs[self.sight.sensor]
        whole = frames.shape[1] // self.online.config.tubelet * self.online.config.tubelet
        return self.window(self.sight({self.sight.sensor: frames[:, : max(whole, 1)]}))

    def window(self, x: Tensor) -> Tensor:
        """A random window of each picture or film, as large as the whole was."""
        config = cast(SlowCopyConfig, self.config)
        if config.crop is None:
            return x
        return random_crop(x, (x.shape[-2], x.shape[-1]), config.crop, config.aspect, config.flip)


def spread(tokens: Tensor) -> Tensor:
    """Deviation of a channel over pictures or films `b s d`, averaged: near zero when the encoder has collapsed."""
    return tokens.detach().float().mean(dim=1).std(dim=0, correction=0).mean()
