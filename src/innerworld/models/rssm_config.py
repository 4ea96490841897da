"""The settings of an RSSM, and those of the papers by name: PlaNet, Dreamer v1, v2 and v3."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from innerworld.config import Config
from innerworld.models.latent_world import LatentWorldConfig


class RSSMConfig(LatentWorldConfig):
    cell: Literal["block", "gru", "norm-gru"] = Field(
        default="block", description="memory: block GRU (V3), torch's GRU (v1), or a layer-normed GRU (v2)"
    )
    deter: int = Field(default=512, description="size of the deterministic memory", ge=1)
    hidden: int = Field(default=64, description="width inside the cell, the prior and the posterior", ge=1)
    prior_layers: int = Field(default=2, description="hidden layers of the prior", ge=1)
    blocks: int = Field(default=8, description="blocks of the memory; must divide `deter`", ge=1)


V1 = RSSMConfig(
    # danijar/dreamer, `define_config` and models.py. It sees pictures only: `layers`, for vectors, is ours.
    cell="gru",
    deter=200,
    hidden=200,
    prior_layers=1,
    latent="gaussian",
    stoch=30,
    norm="none",
    activation="elu",
    units=400,
    symlog=False,
    error="normal",
    image="valid",
    image_activation="relu",
    image_size=64,
    depth=32,
    mults=(1, 2, 4, 8),
    kernel=4,
    decoder="dense",
    free_nats=3.0,
    free="mean",
    dyn=1.0,  # both 1: the gradient of one KL to either side
    rep=1.0,
    head="normal",
    reward_layers=2,
    continues=0.0,  # `pcont=False`; else 10
    continues_layers=3,
    horizon=100.0,
)
V2 = V1.model_copy(
    # danijar/dreamerv2, configs.yaml: defaults and `atari`; dyn and rep are kl · balance and kl · (1 - balance).
    update={
        "cell": "norm-gru",
        "deter": 600,
        "hidden": 600,
        "latent": "categorical",
        "stoch": 32,
        "classes": 32,
        "unimix": 0.0,
        "layers": 4,
        "image_activation": "elu",
        "depth": 48,
        "free_nats": 0.0,
        "dyn": 0.08,
        "rep": 0.02,
        "reward_layers": 4,
        "tanh_reward": True,
        "continues": 5.0,
        "continues_layers": 4,
        "horizon": 1000.0,
    }
)

PRESETS: dict[str, Config] = {
    # DreamerV3's sizes (`configs.yaml`); their other settings are the defaults above.
    "1m": RSSMConfig(),
    "12m": RSSMConfig(deter=2048, hidden=256, classes=16, depth=16, units=256),
    "25m": RSSMConfig(deter=3072, hidden=384, classes=24, depth=24, units=384),
    "50m": RSSMConfig(deter=4096, hidden=512, classes=32, depth=32, units=512),
    "100m": RSSMConfig(deter=6144, hidden=768, classes=48, depth=48, units=768),
    "200m": RSSMConfig(deter=8192, hidden=1024, classes=64, depth=64, units=1024),
    "400m": RSSMConfig(deter=12288, hidden=1536, classes=96, depth=96, units=1536),
    "1m-strided": RSSMConfig(image="strided"),  # upstream's flag `strided`
    # For a laptop's processor: 64×64 pictures seen at half size; AdamW 2e-3, 16 clips of 16 steps.
    "small": RSSMConfig(
        deter=256,
        hidden=128,
        classes=8,
        depth=8,
        units=128,
        image="strided",
        output="linear",
        mults=(1, 2, 4),
        kernel=4,
        image_size=32,
        soften=1000,
    ),
    # google-research/planet, configs.py: v1's networks but for these; nats are counted above 3, belief by belief.
    "planet": V1.model_copy(
        update={"activation": "relu", "units": 300, "reward_layers": 3, "reward": 10.0, "free": "each"}
    ),
    "v1": V1,
    "v2": V2,
    "v2-dmc": V2.model_copy(
        # `dmc_vision` and `dmc_proprio`: kl 1 with the same balance.
        update={
            "deter": 200,
            "hidden": 200,
            "free_nats": 1.0,
            "dyn": 0.8,
            "rep": 0.2,
            "tanh_reward": False,
            "continues": 0.0,
            "horizon": 100.0,
        }
    ),
}
