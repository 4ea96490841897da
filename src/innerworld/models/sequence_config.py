"""The settings of a sequence model, and those of the papers by name: TransDreamer, STORM, DRAMA, S4WM, and a hybrid."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from innerworld.config import Config
from innerworld.models.latent_world import LatentWorldConfig
from innerworld.nn.backbone.mamba2 import Mamba2Config
from innerworld.nn.mlp import Activation, Norm

Kind = Literal["attention", "mamba2", "s4", "s4d", "s5", "gru", "hybrid"]
Positions = Literal["rotary", "relative", "learned", "sines"]


class BackboneConfig(Config):
    kind: Kind = Field(default="attention", description="the substrate; hybrid: Mamba-2 with attention in between")
    dim: int = Field(default=128, description="width of a token", ge=1)
    layers: int = Field(default=2, description="layers", ge=1)
    norm: Norm = Field(default="none", description="after the last layer")
    dropout: float = Field(default=0.0, description="share dropped in training; of attention, S4 and S5", ge=0, lt=1)
    feed: int = Field(default=0, description="width of a feed-forward layer beside all but attention; 0: none", ge=0)
    feed_every: int = Field(default=1, description="layers before each feed-forward layer", ge=1)
    # attention
    heads: int = Field(default=4, description="attention: heads", ge=1)
    head_dim: int | None = Field(default=None, description="attention: width of a head (none: dim / heads)", ge=1)
    mlp: int = Field(default=256, description="attention: hidden width of its MLP", ge=1)
    window: int = Field(default=64, description="attention: tokens that are seen, itself among them", ge=1)
    positions: Positions = Field(
        default="rotary", description="attention: rotary, relative (XL); learned, sines: absolute, up to `window`"
    )
    context: int = Field(default=16, description="absolute positions: tokens read anew at every real look", ge=1)
    norms: Literal["pre", "post"] = Field(default="pre", description="attention: norms before or after each part")
    activation: Activation = Field(default="silu", description="attention: of its MLP")
    eps: float = Field(default=1e-6, description="attention: what its norms add to what they divide by", gt=0)
    every: bool = Field(default=False, description="absolute positions: the outputs of all layers side by side")
    attention_every: int = Field(default=8, description="hybrid: each so-many-th layer is attention", ge=1)
    # state spaces
    mamba2: Mamba2Config = Field(default=Mamba2Config(), description="Mamba-2")
    state: int = Field(default=64, description="S4, S5: real numbers of the state, of each channel or of all", ge=2)


class SequenceConfig(LatentWorldConfig):
    backbone: BackboneConfig = Field(default=BackboneConfig(), description="what carries tokens through time")
    posterior_units: int = Field(default=64, description="width inside the posterior", ge=1)
    prior_units: int = Field(default=64, description="width inside the prior", ge=1)
    posterior_layers: int = Field(default=1, description="hidden layers of the posterior, which sees no memory", ge=0)
    prior_layers: int = Field(default=1, description="hidden layers of the prior", ge=0)
    stem_layers: int = Field(default=1, description="layers that make a token of latent and action", ge=1)
    stem_out: Literal["none", "linear", "norm"] = Field(
        default="none", description="after them: nothing, a linear map, or one with a norm"
    )
    recompute: bool = Field(
        default=False, description="in training, compute what is within a layer twice instead of keeping it"
    )
    dense_bias: bool = Field(default=True, description="stem and heads: have layers before a norm a bias (STORM: no)")
    painted: Literal["belief", "latent"] = Field(
        default="belief", description="what is decoded: memory and latent, or the latent alone (STORM, DRAMA)"
    )
    judged: Literal["belief", "memory"] = Field(
        default="belief", description="what tells reward and end: memory and latent, or the memory alone (STORM, DRAMA)"
    )


STORM = SequenceConfig(
    # weipu-zhang/STORM, config_files/STORM.yaml and sub_models; 16.51 M with 64x64 pictures
    image="strided",
    depth=32,
    mults=(1, 2, 4, 8),
    kernel=4,
    image_norm="batch",
    image_bias=False,
    image_activation="relu",
    decoder="linear",
    output="linear",
    norm="layer",
    activation="relu",
    units=512,
    dense_bias=False,
    stoch=32,
    classes=32,
    posterior_layers=0,
    prior_layers=0,
    stem_layers=1,
    stem_out="norm",
    painted="latent",
    judged="memory",
    head="symlog",
    reward_layers=2,
    continues_layers=2,
    horizon=1 / (1 - 0.985),
    free="mean",
    dyn=0.5,
    rep=0.1,
    backbone=BackboneConfig(
        kind="attention",
        positions="learned",
        dim=512,
        layers=2,
        heads=8,
        mlp=1024,
        window=64,
        context=16,
        norms="post",
        activation="relu",
        dropout=0.1,
    ),
)
DRAMA = SequenceConfig(
    # realwenlongwang/drama, config_files/train.yaml; 7.16 M
    image="strided",
    depth=16,
    mults=(1, 2, 3, 4, 4),
    kernel=5,
    image_norm="batch",
    image_stem=True,
    decoder="linear",
    units=256,
    stoch=32,
    classes=32,
    posterior_layers=0,
    prior_layers=0,
    painted="latent",
    judged="memory",
    head="symlog",
    horizon=1 / (1 - 0.985),
    free="mean",
    backbone=BackboneConfig(
        kind="mamba2", dim=512, layers=2, norm="rms", mamba2=Mamba2Config(state=16, head=64, expand=2, width=4)
    ),
)
TRANSDREAMER = SequenceConfig(
    # changchencc/TransDreamer, configs.py beneath config_files/configs_atari.py; 41.03 M with grey pictures.
    # Its pictures are normals of deviation 0.3, ours of 1: its other weights, 1, 5, 0.08 and 0.02, are times 0.3² here.
    image="valid",
    depth=48,
    mults=(1, 2, 4, 8),
    kernel=4,
    image_activation="elu",
    image_size=64,
    decoder="dense",
    norm="none",
    activation="elu",
    symlog=False,
    error="normal",
    units=400,
    stoch=32,
    classes=32,
    unimix=0.0,
    posterior_units=600,
    prior_units=600,
    reward=0.09,
    head="normal",
    tanh_reward=True,
    reward_layers=4,
    continues=0.45,
    continues_layers=4,
    horizon=1000.0,
    free_nats=0.0,
    dyn=0.0072,
    rep=0.0018,
    backbone=BackboneConfig(
        kind="attention",
        positions="sines",
        dim=600,
        layers=6,
        heads=8,
        head_dim=64,
        mlp=1024,
        window=128,
        context=48,
        eps=1e-5,
        activation="relu",
        dropout=0.1,
        every=True,
    ),
)
S4WM = SequenceConfig(
    # Mskogli/S4WM, s4wm/nn/train_cfg.yaml: its sequence model, heads of latents and loss; senses and the heads of
    # reward and end are ours, for its pictures are depth images of 135x240 and nobody acts there
    image="strided",
    depth=16,
    mults=(1, 2, 3, 4),
    kernel=4,
    norm="none",
    units=256,
    latent="gaussian",
    stoch=128,
    posterior_units=256,
    prior_units=512,
    prior_layers=2,
    stem_out="linear",
    dyn=0.32,
    rep=0.08,
    backbone=BackboneConfig(kind="s4", dim=512, layers=6, state=100, feed=512, feed_every=2, dropout=0.1),
)


def _small(kind: Kind, **backbone: Any) -> SequenceConfig:
    """For a laptop's processor, all of about as many parameters, so that substrates can be compared."""
    return SequenceConfig(
        image="strided",
        depth=8,
        mults=(1, 2, 4),
        kernel=4,
        image_size=32,
        output="linear",
        units=128,
        stoch=32,
        classes=8,
        posterior_units=128,
        prior_units=128,
        soften=1000,
        backbone=BackboneConfig(kind=kind, **{"dim": 128, "norm": "rms"} | backbone),
    )


PRESETS: dict[str, Config] = {
    "small": _small("attention"),
    "small-mamba2": _small("mamba2", feed=104),
    "small-s4": _small("s4d", layers=4, feed=128, feed_every=2),
    "small-s5": _small("s5", layers=4, feed=128),
    "small-gru": _small("gru", feed=128),
    "small-hybrid": _small("hybrid", attention_every=2, feed=104),
    "transdreamer": TRANSDREAMER,
    "storm": STORM,
    "drama": DRAMA,
    "s4wm": S4WM,
    # Attention in every eighth layer among Mamba-2, as hybrids of language models have it; sizes are ours.
    "hybrid": DRAMA.model_copy(
        update={
            "backbone": BackboneConfig(
                kind="hybrid",
                dim=512,
                layers=8,
                norm="rms",
                heads=8,
                mlp=1024,
                window=256,
                mamba2=Mamba2Config(state=16),
            )
        }
    ),
}
