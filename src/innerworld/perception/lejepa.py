"""LeJEPA (arXiv 2511.08544): views of a picture agree, and SIGReg keeps them apart. No teacher, mask or predictor."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld import losses
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.linear import Linear
from innerworld.nn.vision import VisionTransformer, ViTConfig, sized
from innerworld.perception.crops import jitter, random_crop
from innerworld.perception.encoder import Encoder
from innerworld.perception.sight import Sight, SightConfig, normalised
from innerworld.types import Clip, Obs, Spec


class LeJEPAConfig(Config):
    """Windows as the README of the published package has them (rbalestr-lab/lejepa, a0d6745, "GOTO hyperparameters"):
    2 of 224 pixels that cover 0.3 to 1, 6 of 98 (96 here, which patches of 16 tile) that cover 0.05 to 0.3."""

    sight: SightConfig = Field(default=SightConfig(), description="what it looks at")
    vit: ViTConfig = Field(default=ViTConfig(positions="table"), description="the encoder")
    pool: Literal["mean", "class"] = Field(default="mean", description="what of the tokens stands for the view")
    projector: tuple[int, ...] = Field(default=(2048, 2048, 64), description="widths of the projector; the last is z's")
    global_views: int = Field(default=2, description="large windows, whose mean all views must match", ge=1)
    local_views: int = Field(default=6, description="small windows", ge=0)
    global_size: int = Field(default=224, description="side of a large window, pixels", ge=1)
    local_size: int = Field(default=96, description="side of a small window, pixels", ge=1)
    global_scale: tuple[float, float] = Field(default=(0.3, 1.0), description="share of the picture it covers")
    local_scale: tuple[float, float] = Field(default=(0.05, 0.3), description="share of the picture it covers")
    flip: bool = Field(default=True, description="mirror half of the windows")
    colour: float = Field(default=0.4, description="largest change of brightness, contrast and saturation", ge=0)
    gray: float = Field(default=0.2, description="share of windows that lose their colour", ge=0, le=1)
    weight: float = Field(default=0.05, description="λ: SIGReg's share of the loss", ge=0, le=1)
    slices: int = Field(default=1024, description="SIGReg: random directions drawn at each step", ge=1)
    form: losses.SIGReg = Field(default="paper", description="whose normalisation of SIGReg")


class LeJEPA(Encoder):
    """A ViT and a projector; every frame of a clip is a picture, seen through large and small random windows.

    `encode` gives the tokens of the patches, before the projector. Raises `UserError` for windows that patches do not
    tile.
    """

    Config = LeJEPAConfig
    presets: ClassVar[dict[str, Config]] = {
        "tiny": LeJEPAConfig(
            vit=ViTConfig(dim=96, depth=6, heads=3, mlp=384, patch=8, positions="table", table=(4, 4)),
            projector=(256, 32),
            local_views=4,
            global_size=32,
            local_size=16,
            slices=256,
        ),
        # Paper §6 and its listing: 2 + 8 views of 224 and 98 pixels, 17 points on [-5, 5], 1,024 slices, λ = 0.05.
        "vitl14": LeJEPAConfig(
            sight=SightConfig(pixels="imagenet"),
            vit=sized("large", patch=14, positions="table", table=(16, 16), class_token=True),
            pool="class",
            local_views=8,
            local_size=98,
        ),
        "vith14": LeJEPAConfig(
            sight=SightConfig(pixels="imagenet"),
            vit=sized("huge", patch=14, positions="table", table=(16, 16), class_token=True),
            pool="class",
            local_views=8,
            local_size=98,
        ),
    }

    def __init__(self, config: LeJEPAConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        if config.pool == "class" and not config.vit.class_token:
            raise UserError("pool=class needs vit.class_token=true")
        self.sight = Sight(config.sight, spec)
        self.online = VisionTransformer(config.vit, self.sight.channels)
        self.projector = _projector(config.vit.dim, config.projector)

    def encode(self, obs: Obs) -> Tensor:
        """One frame per row → the tokens of its patches `b s d`."""
        return self.online(self.sight(obs))[:, self.online.prefix :]

    def vision(self, learning: bool = False) -> tuple[VisionTransformer, SightConfig]:
        return self.online, self.sight.config

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """(1 − λ) · mean squared distance to the large views' centre + λ · SIGReg of each view (eq. 8)."""
        config = cast(LeJEPAConfig, self.config)
        z = torch.cat([self._project(views) for views in self._views(clip)]).float()  # v b k
        centre = z[: config.global_views].mean(dim=0)
        parts = {
            "agree": (centre - z).square().mean(),
            "sigreg": losses.sigreg(z, losses.directions(z.shape[-1], config.slices, z), config.form),
        }
        loss = (1 - config.weight) * parts["agree"] + config.weight * parts["sigreg"]
        spread = z.detach().float().std(dim=1, correction=0).mean()
        return loss, {name: part.detach() for name, part in parts.items()} | {"spread": spread}

    def _views(self, clip: Clip) -> list[Tensor]:
        """The windows of each frame: large ones and small ones, each `v b c y x`."""
        config = cast(LeJEPAConfig, self.config)
        frames = clip.obs[self.sight.sensor].flatten(0, 1)
        whole = Sight(config.sight.model_copy(update={"pixels": "centred"}), self.spec)({self.sight.sensor: frames})
        kinds = [
            (config.global_views, config.global_size, config.global_scale),
            (config.local_views, config.local_size, config.local_scale),
        ]
        return [self._windows(whole, *kind) for kind in kinds if kind[0]]

    def _windows(self, whole: Tensor, n: int, size: int, scale: tuple[float, float]) -> Tensor:
        config = cast(LeJEPAConfig, self.config)
        views = random_crop(whole.repeat(n, 1, 1, 1), (size, size), scale, flip=config.flip)
        views = jitter((views + 1) / 2, config.colour, config.gray)
        return normalised(views, config.sight.pixels).unflatten(0, (n, -1))

    def _project(self, views: Tensor) -> Tensor:
        tokens = self.online(views.flatten(0, 1))
        pooled = tokens[:, 0] if cast(LeJEPAConfig, self.config).pool == "class" else tokens.mean(dim=1)
        return self.projector(pooled).unflatten(0, views.shape[:2])


def _projector(width: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Linear, BatchNorm and ReLU between each, as LeJEPA's minimal example."""
    layers: list[nn.Module] = []
    for hidden in widths[:-1]:
        layers += [Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, Linear(width, widths[-1]))
