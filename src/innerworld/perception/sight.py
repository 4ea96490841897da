"""From a sensor's frames to what an encoder looks at: which sensor, which size, which scale of brightness."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.sensors import image_in
from innerworld.types import Obs, Spec

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SightConfig(Config):
    sensor: str | None = Field(default=None, description="the image sensor to look through (none: the only one)")
    size: int | None = Field(
        default=None, description="side at which frames are seen, pixels (none: as they come)", ge=1
    )
    pixels: Literal["centred", "imagenet"] = Field(
        default="centred", description="brightness: [-1, 1], or ImageNet's mean and deviation as published weights want"
    )


class Sight:
    """Looks through one sensor of `spec`. Raises `UserError` where it is not plain which one, or what it shows."""

    def __init__(self, config: SightConfig, spec: Spec) -> None:
        self.config = config
        images = spec.images()
        if config.sensor is None and len(images) != 1:
            raise UserError(f"an encoder looks through one image sensor, here are {images}: name one as sight.sensor")
        self.sensor = images[0] if config.sensor is None else config.sensor
        if self.sensor not in images:
            raise UserError(f"no image sensor {self.sensor!r} here. There are: {', '.join(images)}")
        self.channels = spec.obs[self.sensor][2]
        if config.pixels == "imagenet" and self.channels != 3:
            raise UserError(f"sensor {self.sensor!r} has {self.channels} channels, ImageNet's scale 3: use centred")

    def __call__(self, obs: Obs) -> Tensor:
        """The sensor's frames `b y x c` or `b t y x c` → `b c y x` or `b c t y x`."""
        frames = obs[self.sensor]
        if frames.ndim not in (4, 5):
            raise UserError(f"sensor {self.sensor!r}: frames are b y x c, films b t y x c, this has {frames.ndim} axes")
        x = normalised(image_in(frames, self.config.size), self.config.pixels)
        return x if frames.ndim == 4 else x.unflatten(0, frames.shape[:2]).transpose(1, 2)


def normalised(x: Tensor, pixels: str) -> Tensor:
    """Pictures `b c y x` in [0, 1] on the scale that an encoder wants."""
    if pixels == "centred":
        return 2 * x - 1
    mean, std = (torch.tensor(value, device=x.device, dtype=x.dtype)[:, None, None] for value in IMAGENET)
    return (x - mean) / std
