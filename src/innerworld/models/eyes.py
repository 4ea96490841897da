"""Eyes that a world model borrows: an encoder's vision transformer, fresh, trained or published, and a pooling."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld import checkpoint
from innerworld.config import Config
from innerworld.errors import UserError, choose
from innerworld.models.tokens import fingerprint
from innerworld.nn.probe import AttentiveProbe
from innerworld.nn.vision import VisionTransformer, ViTConfig
from innerworld.perception import ENCODERS, Encoder, pretrained
from innerworld.perception.sight import SightConfig, normalised
from innerworld.types import Spec


class BorrowConfig(Config):
    """Whose eyes. What is read from `checkpoint` is written into `vit`, `size` and `pixels`, and its weights belong to
    the model from then on: a saved model needs no other folder."""

    family: str | None = Field(default=None, description="an encoder, fresh, instead of the model's own for images")
    preset: str | None = Field(default=None, description="its settings (none: tiny)")
    checkpoint: str | None = Field(
        default=None, description="its weights: the folder of a run, or whatever perception.pretrained takes"
    )
    frozen: bool = Field(default=True, description="they do not learn with the model")
    pool: Literal["mean", "attentive"] = Field(default="mean", description="how tokens become one vector")
    vit: ViTConfig | None = Field(default=None, description="the vision transformer, found by the above")
    size: int | None = Field(default=None, description="side at which it sees, pixels (none: image_size)", ge=1)
    pixels: Literal["centred", "imagenet"] = Field(default="centred", description="brightness as it is used to")
    origin: str = Field(default="", description="where its weights came from; only told")
    fingerprint: str = Field(default="", description="of frozen weights that were read; tokens in a store are named so")


class BorrowedEyes(nn.Module):
    """A vision transformer that learns along or does not, and a pooling that does: pictures in [0, 1] → `b d`."""

    def __init__(self, config: BorrowConfig, vit: VisionTransformer) -> None:
        super().__init__()
        self.frozen, self.pixels, self.size = config.frozen, config.pixels, config.size
        self.fingerprint = config.fingerprint
        self.vit = vit.requires_grad_(not config.frozen)
        self.width = vit.config.dim
        self.pool = (
            AttentiveProbe(self.width, self.width, vit.config.heads, blocks=1) if config.pool == "attentive" else None
        )
        self.train()

    def train(self, mode: bool = True) -> BorrowedEyes:
        super().train(mode)
        self.vit.train(mode and not self.frozen)
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(self.tokens(x))

    def tokens(self, x: Tensor) -> Tensor:
        """Pictures in [0, 1] `b c y x` → the tokens of their patches `b s d`."""
        with torch.no_grad() if self.frozen else nullcontext():
            return self.vit(normalised(x, self.pixels))[:, self.vit.prefix :, -self.width :]

    def pooled(self, tokens: Tensor) -> Tensor:
        """Tokens `b s d` → one vector `b d`."""
        return tokens.mean(dim=1) if self.pool is None else self.pool(tokens)


def borrow(config: BorrowConfig, spec: Spec, size: int | None) -> tuple[BorrowConfig, list[BorrowedEyes]]:
    """Eyes for each image sensor of `spec`, and the configuration that builds them again without `checkpoint`.

    `size` is the side at which pictures are seen where `config` says none. Empty where nothing is borrowed. Raises
    `UserError` for settings that contradict each other, a checkpoint that is no encoder's, and pictures that the eyes
    cannot see.
    """
    found, vit = _find(config, spec, size)
    if found.vit is None:
        return found, []
    eyes = []
    for sensor in spec.images():
        y, x, c = spec.obs[sensor]
        if found.pixels == "imagenet" and c != 3:
            raise UserError(
                f"sensor {sensor!r} has {c} channels, these eyes see 3: choose another sensor or other eyes"
            )
        own = VisionTransformer(found.vit, c) if vit is None else deepcopy(vit)
        y, x = (found.size, found.size) if found.size else (y, x)
        own.grid(torch.empty(1, c, y, x, device="meta"))  # refuses now, not at the first look
        eyes.append(BorrowedEyes(found, own))
    return found, eyes


def _find(config: BorrowConfig, spec: Spec, size: int | None) -> tuple[BorrowConfig, VisionTransformer | None]:
    """The configuration with what `family` or `checkpoint` says written out, and the weights of the latter."""
    if config.checkpoint is not None and (config.family or config.preset or config.vit):
        raise UserError("eyes.checkpoint says whose eyes they are: leave out eyes.family, eyes.preset and eyes.vit")
    if config.preset is not None and config.family is None:
        raise UserError("eyes.preset is a preset of eyes.family: give both, or eyes.checkpoint alone")
    if not (config.checkpoint or config.family or config.vit):
        return config, None
    if not spec.images():
        raise UserError(f"eyes need an image to see, here are {spec.vectors()}: choose other sensors, or no eyes")
    if config.checkpoint is not None:
        encoder = lender(config.checkpoint, spec, config.size or size)
        vit, sight = encoder.vision(learning=not config.frozen)
        told = {"vit": vit.config, "checkpoint": None, "origin": config.checkpoint}
        found = config.model_copy(update=told | _shown(config, sight, size))
        own = fingerprint(vit, found.size, found.pixels) if config.frozen else ""
        return found.model_copy(update={"fingerprint": own}), vit
    if config.family is not None and config.vit is None:
        kind = choose("eyes", config.family, ENCODERS)
        preset = choose(f"preset of {config.family}", config.preset or "tiny", kind.presets)
        with torch.device("meta"):
            vit, sight = kind(preset, spec.only(spec.images()[0])).vision()
        return config.model_copy(update={"vit": vit.config} | _shown(config, sight, size)), None
    return config.model_copy(update={"size": config.size or size}), None


def _shown(config: BorrowConfig, sight: SightConfig, size: int | None) -> dict[str, object]:
    return {"size": config.size or size or sight.size, "pixels": sight.pixels}


def lender(source: str, spec: Spec | None = None, size: int | None = None) -> Encoder:
    """The encoder of a run's folder, or the one that `pretrained` finds under that name. Raises `UserError`."""
    if checkpoint.exists(source) or checkpoint.is_checkpoint(Path(source)):
        return checkpoint.load(source, kind=Encoder)
    return pretrained(source, spec.only(spec.images()[0]) if spec is not None else None, size)
