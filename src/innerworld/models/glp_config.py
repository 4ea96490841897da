"""The settings of GLP: the dial between latent and generative loss, and its ends by name."""

from __future__ import annotations

from typing import Literal, cast

from pydantic import Field

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.codec import CodecConfig
from innerworld.models.jepa import JEPA, JEPAConfig


class FlowDecoderConfig(Config):
    """g: from a latent to a frame, by flow matching over the codec's tokens."""

    kind: Literal["frame", "window"] = Field(
        default="frame",
        description="frame: each is drawn from its latent alone; window: PAN's, after one clean frame, two at a time",
    )
    dim: int = Field(default=64, description="channels of a token within", ge=2)
    depth: int = Field(default=2, description="blocks", ge=1)
    heads: int = Field(default=4, description="attention heads; they divide dim", ge=1)
    steer: int = Field(default=64, description="width of the vector that steers the blocks: latent and noise", ge=1)
    steps: int = Field(default=4, description="of denoising a frame; window: even, half of them beside the next", ge=1)
    predicts: Literal["x", "v"] = Field(
        default="x", description="what the network gives: the clean frame, or the way to it (PAN)"
    )
    frames: int = Field(default=256, description="drawn in a training step, at random; window: windows; 0: all", ge=0)
    still: float = Field(default=0.055, description="window: share of noise in the frame before (PAN)", ge=0, lt=1)


class GLPConfig(Config):
    """L = `latent` · L_latent + `generative` · L_gen + what keeps latents apart, weighted in `jepa`."""

    latent: float = Field(default=1.0, description="weight of the latent loss; 0: PAN's objective", ge=0)
    generative: float = Field(default=1.0, description="weight of the generative loss; 0: a JEPA", ge=0)
    jepa: JEPAConfig = Field(
        default=JEPAConfig(), description="h and f, what L_latent is made of, and the terms against collapse"
    )
    codec: CodecConfig = Field(default=CodecConfig(), description="what frames are as tokens")
    decoder: FlowDecoderConfig = Field(default=FlowDecoderConfig(), description="g")
    beside: bool = Field(
        default=False, description="g learns from latents that do not feel it, whatever `generative` is: only to look"
    )
    reencode: bool = Field(
        default=False, description="closed loop: an imagined belief goes on from h of what g drew (PAN)"
    )
    reward: float = Field(default=1.0, description="weight of the reward's loss; 0 leaves its head out", ge=0)
    continues: float = Field(default=1.0, description="weight of the continuation's loss; 0 leaves its head out", ge=0)
    units: int = Field(default=128, description="width of the one hidden layer of these heads", ge=1)
    bins: int = Field(default=255, description="two-hot bins of the reward, odd", ge=3)


def check(config: GLPConfig) -> None:
    """Raise `UserError` for settings that do not fit together."""
    decoder, drawn = config.decoder, bool(config.generative) or config.beside
    if config.bins % 2 == 0:
        raise UserError(f"bins={config.bins}: choose an odd number, so that one of them is 0")
    if config.generative and config.beside:
        raise UserError("beside=true is for generative=0: with a generative loss the latents feel g")
    if not (config.latent or config.generative):
        raise UserError("latent=0 and generative=0 leave nothing to learn: set one of them")
    if config.reencode and not drawn:
        raise UserError("reencode needs g to draw what is looked at again: set generative above 0, or beside=true")
    if decoder.kind == "window" and decoder.steps % 2:
        raise UserError(
            f"decoder.steps={decoder.steps}: a window's frames are clean after two halves, choose an even one"
        )
    if not (config.jepa.single or config.jepa.rollout):
        raise UserError("jepa.single=0 and jepa.rollout=0 leave no step to learn from: set one of them")


SMALL = cast(JEPAConfig, JEPA.presets["small"])
FREE = SMALL.model_copy(update={"sigreg": 0.0, "inverse": 0.0})  # nothing keeps latents apart but the loss
CODEC = CodecConfig(image_size=32)
PURE = {"codec": CODEC, "reward": 0.0, "continues": 0.0}

PRESETS: dict[str, Config] = {
    "small": GLPConfig(jepa=SMALL, codec=CODEC),
    # One end of the dial: family jepa's `small`, term by term.
    "jepa": GLPConfig(generative=0.0, jepa=SMALL).model_copy(update=PURE),
    # The other: PAN's objective, window and closed loop (arXiv 2511.09057), at the size of a laptop.
    "pan": GLPConfig(
        latent=0.0,
        jepa=FREE.model_copy(update={"rollout": 0}),
        decoder=FlowDecoderConfig(kind="window", predicts="v", frames=128),
        reencode=True,
    ).model_copy(update=PURE),
    # Both losses and nothing against collapse: what GLP's authors hold to be enough.
    "glp": GLPConfig(jepa=FREE).model_copy(update=PURE),
}
