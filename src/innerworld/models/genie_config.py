"""The settings of `Genie`: its tokenizer, its latent action model, its dynamics, and how real actions become codes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.codec_config import CodecConfig
from innerworld.nn.space_time import SpaceTimeConfig
from innerworld.perception.patch_body import BodyConfig
from innerworld.perception.quantise import BookConfig
from innerworld.perception.vq import FSQConfig, VQConfig


class LatentActionConfig(Config):
    book: BookConfig = Field(
        default=BookConfig(codes=6, decay=0.97, dead=1.0), description="the codebook; its codes are the latent actions"
    )
    width: int = Field(default=8, description="numbers of a latent action, before it is made a code", ge=1)
    patch: int = Field(default=8, description="side of the squares in which it sees pictures, pixels", ge=1)
    pixels: int = Field(default=32, description="main directions along which the pixels of a patch are seen", ge=1)
    image_size: int | None = Field(default=None, description="side at which pictures are seen (none: own)", ge=1)
    backbone: SpaceTimeConfig = Field(
        default=SpaceTimeConfig(dim=64, depth=2, mlp=2.0, steering="none"),
        description="of the encoder and, another one, of the decoder",
    )
    motion: bool = Field(
        default=True, description="let the encoder begin with what moves in each patch; else with pixels alone (Genie)"
    )
    keep: float = Field(
        default=1.0,
        description="share of the patches of a clip's later frames that the decoder sees: 1 all (Genie), 0 only the "
        "first frame's (tinyworlds)",
        ge=0,
        le=1,
    )
    skip: int = Field(
        default=0,
        description="first steps of an episode that do not count, for what moves is not known there yet; their code is "
        "unknown",
        ge=0,
    )
    spread: float = Field(
        default=0.01, description="variance over a batch below which latents are too alike; 0: none", ge=0
    )
    spreads: float = Field(default=100.0, description="weight of what is missing to that variance", ge=0)
    steps: int = Field(
        default=0, description="updates that teach it before it is held still and dynamics begin; 0: taught along", ge=0
    )


class MaskGITConfig(Config):
    backbone: SpaceTimeConfig = Field(
        default=SpaceTimeConfig(steering="token"),
        description="how an action comes in is its `steering`: token, before the others; adaln; or none, added to each",
    )
    masks: Literal["clip", "frame"] = Field(
        default="clip",
        description="share of words that are masked: one for a clip's frames (Genie), or each frame its own, and half "
        "of them whole, as those before a frame are when it is imagined",
    )
    least: float = Field(default=0.5, description="least share that is masked; the most is 1", ge=0, le=1)
    drop: float = Field(default=0.1, description="share of frames whose action is not told", ge=0, lt=1)
    steps: int = Field(default=6, description="looks at a frame while it is filled in", ge=1)
    temperature: float = Field(default=1.0, description="of what is drawn; below 1: more likely words", gt=0)


class LabelsConfig(Config):
    count: int = Field(default=200, description="transitions whose real action is known, of the first batch", ge=1)
    length: int = Field(default=8, description="transitions of one piece of them, seen together", ge=1)


class GenieConfig(Config):
    codec: CodecConfig = Field(default=CodecConfig(), description="what makes tokens of pictures; not mae")
    levels: int = Field(
        default=16, description="codec.kind=pca: words, one for each number of a token, of so many levels", ge=2
    )
    actions: LatentActionConfig = Field(default=LatentActionConfig(), description="the latent action model")
    dynamics: MaskGITConfig = Field(default=MaskGITConfig(), description="what fills in the next frame")
    labels: LabelsConfig = Field(default=LabelsConfig(), description="from which real actions are mapped to codes")
    played: Literal["actions", "codes"] = Field(
        default="actions", description="what an action of this model is: a real one, mapped to a code, or a code"
    )
    reward: float = Field(default=0.0, description="weight of the reward's loss; 0 leaves its head out", ge=0)
    continues: float = Field(default=0.0, description="weight of the continuation's loss; 0 leaves its head out", ge=0)
    units: int = Field(default=256, description="hidden width of those heads", ge=1)
    bins: int = Field(default=255, description="two-hot bins of the reward, odd", ge=3)


def check(config: GenieConfig) -> None:
    """Raise `UserError` for settings that do not fit together."""
    if config.codec.kind == "mae":
        raise UserError("codec.kind=mae gives numbers, genie guesses words: choose pca, vq or fsq")
    if config.actions.backbone.steering != "none":
        raise UserError("actions.backbone.steering: latent actions are added to tokens, leave it at none")
    if not (config.actions.backbone.causal and config.dynamics.backbone.causal):
        raise UserError("genie goes frame by frame: leave backbone.causal=true, of its actions and of its dynamics")
    if config.bins % 2 == 0:
        raise UserError(f"bins={config.bins}: choose an odd number, so that one of them is 0")


def _wide(depth: int, steering: Literal["token", "none"] = "none") -> SpaceTimeConfig:
    """A transformer of 512 channels, as CoinRun's are."""
    return SpaceTimeConfig(dim=512, depth=depth, heads=8, window=16, steering=steering)


def _narrow(depth: int) -> SpaceTimeConfig:
    return SpaceTimeConfig(dim=32, depth=depth, heads=8, window=4, steering="none")


PRESETS: dict[str, Config] = {
    # 32×32 on a CPU in minutes.
    "small": GenieConfig(actions=LatentActionConfig(skip=1, steps=400), dynamics=MaskGITConfig(masks="frame")),
    # The same, to act in: reward and end are told.
    "acting": GenieConfig(
        actions=LatentActionConfig(skip=1, steps=400), dynamics=MaskGITConfig(masks="frame"), reward=0.1, continues=0.1
    ),
    # Genie, App. F: CoinRun at 64×64, clips of 16 frames. 8 + 8 layers, 1,024 codes of 32, patches of 4; 6 latent
    # actions; 12 layers; 25 looks. Patches of the latent action model: those of the paper's large one.
    "coinrun": GenieConfig(
        codec=CodecConfig(
            kind="vq",
            patch=4,
            width=32,
            steps=300_000,
            vq=VQConfig(
                book=BookConfig(codes=1024, follow="loss", dead=0.0),
                body=BodyConfig(dim=512, depth=8, heads=8, mlp=2048, begin="random"),
            ),
        ),
        actions=LatentActionConfig(
            book=BookConfig(codes=6, follow="loss", dead=0.0),
            width=32,
            patch=16,
            pixels=256,
            backbone=_wide(8),
            motion=False,
            spreads=0.0,
        ),
        dynamics=MaskGITConfig(backbone=_wide(12), drop=0.0, steps=25),
    ),
    # p-doom/jasmine (420859b), train_tokenizer_vqvae.py, train_lam.py, train_dynamics_maskgit.py: CoinRun at 64×64.
    "jasmine": GenieConfig(
        codec=CodecConfig(
            kind="vq",
            patch=16,
            width=32,
            steps=300_000,
            vq=VQConfig(
                book=BookConfig(codes=1024, follow="loss", dead=0.0),
                body=BodyConfig(dim=512, depth=4, heads=8, mlp=2048, begin="random"),
            ),
        ),
        actions=LatentActionConfig(
            book=BookConfig(codes=6, follow="loss", dead=1.0),
            width=32,
            patch=16,
            pixels=256,
            backbone=_wide(4),
            motion=False,
            spreads=0.0,
            steps=200_000,
        ),
        dynamics=MaskGITConfig(backbone=_wide(6, steering="token"), drop=0.0, steps=25),
    ),
    # AlmondGod/tinyworlds (a99f3a8), configs/*.yaml: 64×64, context of 4 frames. Its latent actions are FSQ,
    # 2 numbers of 2 levels; here a codebook of as many.
    "tinyworlds": GenieConfig(
        codec=CodecConfig(
            kind="fsq",
            patch=4,
            steps=40_000,
            fsq=FSQConfig(levels=(4, 4, 4, 4, 4), body=BodyConfig(dim=32, depth=4, heads=8, mlp=128, begin="random")),
        ),
        actions=LatentActionConfig(
            book=BookConfig(codes=4), width=2, patch=4, backbone=_narrow(2), motion=False, keep=0.0, steps=10_000
        ),
        dynamics=MaskGITConfig(
            backbone=_narrow(8).model_copy(update={"steering": "adaln"}), drop=0.0, steps=10, temperature=0.5
        ),
    ),
}
