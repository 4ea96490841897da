"""The settings of `Video`: Diffusion Forcing, Oasis, toy-wm, Sora, Astra and Cosmos-Transfer are values of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.codec_config import CodecConfig
from innerworld.nn.flow import Prediction, Schedule
from innerworld.nn.space_time import SpaceTimeConfig


class ControlConfig(Config):
    """What is read from the run `trunk` is written into the model's other fields, and its weights belong to the model
    from then on: a saved model needs no other folder."""

    kind: Literal["none", "edges", "map"] = Field(
        default="none",
        description="what frames may be told by a side branch: edges (found in the frames themselves), or a picture"
        " sensor that is a map (segmentation, depth), which is then not predicted",
    )
    sensor: str = Field(default="", description="edges: the picture that has them (none: the first); map: its sensor")
    threshold: float = Field(
        default=0.1, description="edges: contrast above which there is one, in [0, 1]; 0: contrast itself", ge=0, lt=1
    )
    copies: int = Field(default=2, description="blocks of the trunk that the branch copies, evenly spread", ge=1)
    late: float = Field(
        default=0.5,
        description="share of clips that are shown their maps from a random moment on only, as after frames that were"
        " seen; the others all of them",
        ge=0,
        le=1,
    )
    trunk: str | None = Field(
        default=None, description="the run of a trained video model to begin from; it says all settings but control"
    )
    train_trunk: bool = Field(default=True, description="does the trunk learn, too? Transfer teaches its branch only")
    origin: str = Field(default="", description="where a borrowed trunk came from; only told")


class VideoConfig(Config):
    codec: CodecConfig = Field(default=CodecConfig(), description="what makes tokens of what is seen")
    backbone: SpaceTimeConfig = Field(default=SpaceTimeConfig(), description="the transformer that takes noise away")
    control: ControlConfig = Field(default=ControlConfig(), description="what frames are told beside actions")
    prompt: str = Field(
        default="",
        description="vector sensor that says what the whole film is about, as a sentence's numbers: told with every"
        " frame, not predicted; none: nothing is said",
    )
    noise: Literal["per_frame", "history", "shared"] = Field(
        default="per_frame",
        description="levels in training: each frame its own (Diffusion Forcing), frames before some moment little noise"
        " (Astra), or one for all frames (Sora; needs backbone.causal=false)",
    )
    schedule: Schedule = Field(default="linear", description="from noise to clean: a straight line, or Oasis' sigmoid")
    prediction: Prediction = Field(default="x", description="what the network says: the clean frame, or the velocity")
    ramp: float = Field(
        default=0.9,
        description="prediction=x: how much less an error weighs at nothing but noise (Dreamer 4: 0.9; 0: as much)",
        ge=0,
        le=1,
    )
    steps: int = Field(default=4, description="denoising steps of an imagined frame", ge=1)
    context: float = Field(
        default=0.9,
        description="level at which frames are remembered, 1: clean; below, errors harm less",
        gt=0,
        le=1,
    )
    renoise: float = Field(
        default=0.0,
        description="share of that level's noise that is really added where chance is drawn; 0: it is only said to be",
        ge=0,
        le=1,
    )
    augment: float = Field(
        default=0.5, description="noise=history: most noise of what came before, as 1 - level", ge=0, lt=1
    )
    blank: float = Field(
        default=0.1,
        description="share of frames guessed from nothing, without noise: what is expected",
        ge=0,
        le=1,
    )
    action_dropout: float = Field(
        default=0.0, description="share of the frames whose action and prompt are not told", ge=0, lt=1
    )
    guidance: float = Field(
        default=1.0, description="how much more than without its action and prompt a frame changes; 1: as it is", ge=0
    )
    experts: int = Field(default=1, description="networks that read the action, softly chosen by it (Astra)", ge=1)
    reward: float = Field(default=0.1, description="weight of the reward's loss; 0 leaves its head out", ge=0)
    continues: float = Field(default=0.1, description="weight of the continuation's loss; 0 leaves its head out", ge=0)
    units: int = Field(default=256, description="hidden width of those heads", ge=1)
    bins: int = Field(default=255, description="two-hot bins of the reward, odd", ge=3)


def check(config: VideoConfig) -> None:
    """Raise `UserError` for settings that do not fit together."""
    backbone, control = config.backbone, config.control
    begun = control.trunk is not None or control.origin
    if control.kind == "none" and begun:
        raise UserError("control.trunk is what a control branch is put on: choose control.kind=edges or map")
    if not control.train_trunk and not begun:
        raise UserError(
            "control.train_trunk=false holds a trunk still that was never taught: name its run, control.trunk"
        )
    if backbone.steering == "none":
        raise UserError("backbone.steering=none: noise and action come in by it, choose adaln or token")
    if backbone.causal == (config.noise == "shared"):
        raise UserError(
            f"noise={config.noise} with backbone.causal={str(backbone.causal).lower()}: frames that have one level see "
            "each other both ways (shared, not causal), frames with their own see those before them"
        )
    if config.noise == "shared" and config.blank:
        raise UserError(
            f"noise=shared with blank={config.blank:g}: a frame guessed from nothing would know nothing of those "
            "before, which have its level: set blank=0"
        )
    if not backbone.causal and backbone.window < 2:
        raise UserError("a window of 1 frame has no room for a past: set backbone.window=2 or more")
    if config.guidance != 1 and not config.action_dropout:
        raise UserError(f"guidance={config.guidance} compares with frames whose action is not told: set action_dropout")
    if config.bins % 2 == 0:
        raise UserError(f"bins={config.bins}: choose an odd number, so that one of them is 0")


PRESETS: dict[str, Config] = {
    "small": VideoConfig(reward=0, continues=0),
    # Oasis 500M: etched-ai/open-oasis, dit.py and generate.py. Its VAE has 16 channels on 18×32 places, of which its
    # transformer takes 2×2 together: the 64 numbers of a 40×40 patch of 360×640 pixels.
    "oasis": VideoConfig(
        codec=CodecConfig(patch=40, width=64),
        backbone=SpaceTimeConfig(dim=1024, depth=16, heads=16, window=32, places="rotary", feeds="each"),
        schedule="sigmoid",
        prediction="v",
        steps=10,
        context=0.985,
        blank=0.0,
        reward=0,
        continues=0,
    ),
    # wendlerc/toy-wm: Pong at 24×24, patches of 3.
    "toy_wm": VideoConfig(
        codec=CodecConfig(patch=3, width=27),
        backbone=SpaceTimeConfig(dim=320, depth=8, heads=20, window=30, places="rotary"),
        prediction="v",
        steps=8,
        context=1.0,
        blank=0.0,
        action_dropout=0.2,
        guidance=1.5,
        reward=0,
        continues=0,
    ),
    "sora": VideoConfig(
        noise="shared",
        backbone=SpaceTimeConfig(causal=False, window=13),
        steps=8,
        blank=0.0,
        reward=0,
        continues=0,
    ),
    # Cosmos-Transfer's branch on the smallest trunk; with control.trunk and control.train_trunk=false on a trained one.
    "transfer": VideoConfig(control=ControlConfig(kind="edges"), reward=0, continues=0),
    "astra": VideoConfig(noise="history", experts=3, action_dropout=0.1, guidance=1.5, reward=0, continues=0),
}
