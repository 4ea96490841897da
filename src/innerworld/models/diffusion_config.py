"""The settings of the diffusion family: those for a laptop's processor, and DIAMOND's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from innerworld.config import Config
from innerworld.errors import UserError


class EndsConfig(Config):
    hidden: int = Field(default=128, description="size of the LSTM's memory", ge=1)
    steer: int = Field(default=64, description="numbers that stand for an action", ge=1)
    channels: tuple[int, ...] = Field(default=(16, 24, 32), description="channels, each at half the side before")
    depths: tuple[int, ...] = Field(default=(1, 1, 1), description="residual blocks at each of those sides")
    head: Literal["twohot", "sign"] = Field(
        default="twohot", description="of the reward: two-hot bins, or which of -1, 0, 1 its sign is (DIAMOND)"
    )
    bins: int = Field(default=255, description="two-hot bins of the reward, odd", ge=3)


class DiffusionConfig(Config):
    image_size: int | None = Field(
        default=32, description="side of the pictures that are imagined, pixels; null: as they come", ge=4
    )
    patch: int = Field(
        default=1, description="side of the squares of pixels that the U-Net sees as one; larger is faster", ge=1
    )
    history: int = Field(default=4, description="frames that the next is drawn from, this one included", ge=1)
    steps: int = Field(default=3, description="denoising steps for a frame", ge=1)
    # the denoiser
    steer: int = Field(default=128, description="numbers that stand for noise level and actions, even", ge=2)
    channels: tuple[int, ...] = Field(default=(24, 32, 48), description="channels, each at half the side before")
    depths: tuple[int, ...] = Field(default=(2, 2, 2), description="residual blocks at each of those sides")
    attention: tuple[bool, ...] = Field(
        default=(), description="at which of those sides pixels attend to each other; the smallest always does"
    )
    rounding: Literal["nearest", "down"] = Field(
        default="nearest", description="how a frame becomes 8 bit: nearest, or down (DIAMOND)"
    )
    # how it learns
    windows: int = Field(default=1, description="stretches of each clip that teach the denoiser", ge=1)
    rollout: int = Field(default=1, description="frames of a stretch that follow what was denoised before", ge=0)
    level_mean: float = Field(default=-0.4, description="mean of a noise level's logarithm")
    level_std: float = Field(default=1.2, description="deviation of a noise level's logarithm", gt=0)
    level_low: float = Field(default=2e-3, description="smallest noise level", gt=0)
    level_high: float = Field(default=20.0, description="largest noise level that is learnt", gt=0)
    sigma_data: float = Field(default=0.5, description="deviation of pictures in [-1, 1]", gt=0)
    offset: float = Field(default=0.3, description="deviation of the noise that a whole channel shares", ge=0)
    # how it samples
    start: float = Field(default=5.0, description="noise level that a sample begins at", gt=0)
    rho: float = Field(default=7.0, description="how a sample's noise levels are spaced", gt=0)
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="what imagined frames are computed in; some processors are faster in bfloat16",
    )
    # reward and end
    reward: float = Field(default=1.0, description="weight of the reward's loss; 0 leaves it out", ge=0)
    continues: float = Field(default=1.0, description="weight of the end's loss; 0 leaves it out", ge=0)
    ends: EndsConfig = Field(default=EndsConfig(), description="the network that tells reward and end")


def check(config: DiffusionConfig) -> None:
    """Raise `UserError` for settings that do not fit together."""
    for where, of in (("", config), ("ends.", config.ends)):
        if not of.channels or len(of.channels) != len(of.depths):
            raise UserError(
                f"{where}channels has {len(of.channels)} entries, {where}depths {len(of.depths)}: one each for a side"
            )
    if config.attention and len(config.attention) != len(config.channels):
        raise UserError(
            f"attention has {len(config.attention)} entries, channels {len(config.channels)}: one for a side"
        )
    if config.steer % 2 or config.steer % config.history:
        raise UserError(
            f"steer={config.steer}: choose an even number that history={config.history} divides, for what was done at "
            "each frame has an equal share of it"
        )
    if config.ends.bins % 2 == 0:
        raise UserError(f"ends.bins={config.ends.bins}: choose an odd number, so that one of them is 0")


DIAMOND = DiffusionConfig(
    # eloialonso/diamond 5bcd159, config/agent/default.yaml and config/trainer.yaml
    image_size=64,
    steer=256,
    channels=(64, 64, 64, 64),
    depths=(2, 2, 2, 2),
    rounding="down",
    ends=EndsConfig(hidden=512, steer=128, channels=(32, 32, 32, 32), depths=(2, 2, 2, 2), head="sign"),
)

# 64×64 on a processor in an hour or two. A frame is learnt from nearly nothing but what was before and what was done,
# and drawn in one step.
SMALL_64 = DiffusionConfig(
    image_size=64,
    patch=2,
    channels=(32, 64, 96),
    steps=1,
    level_mean=1.6,
    level_std=0.5,
    ends=EndsConfig(channels=(16, 24, 32, 32), depths=(1, 1, 1, 1)),
)

PRESETS: dict[str, Config] = {"small": DiffusionConfig(), "small-64": SMALL_64, "diamond": DIAMOND}
