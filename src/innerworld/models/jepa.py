"""A joint-embedding world model trained from scratch: LeWorldModel (arXiv 2603.19312) with PLDM's terms (2502.14819).

An encoder turns what is seen into a latent, a predictor turns a latent and an action into the next latent, and a
regulariser keeps the latents from collapsing. There is no decoder; a goal is compared latent to latent.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld import losses
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.eyes import BorrowConfig, BorrowedEyes, borrow
from innerworld.models.predictors import GRUPredictor, MLPPredictor, Predictor, TransformerPredictor
from innerworld.models.standard import VectorScale
from innerworld.nn.conv import ConvEncoder
from innerworld.nn.impala import ImpalaEncoder
from innerworld.nn.linear import Linear
from innerworld.nn.mlp import maybe_no_inputs
from innerworld.nn.projector import Projector
from innerworld.nn.sensors import image_in
from innerworld.nn.vit import ViT
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, WorldModel, stack


class JEPAConfig(Config):
    encoder: Literal["conv", "vit", "impala"] = Field(default="conv", description="what looks at images")
    image_size: int | None = Field(
        default=None, description="side at which images are seen, pixels (none: as they come)", ge=8
    )
    eyes: BorrowConfig = Field(default=BorrowConfig(), description="an encoder of perception instead of `encoder`")
    standardise: bool = Field(
        default=False,
        description="see each number of a vector by mean and deviation in training, not in symlog (not in the papers)",
    )
    channels: int = Field(default=16, description="conv encoder: channels of the first layer, doubled at each", ge=1)
    patch: int = Field(default=14, description="vit: side of a patch, pixels", ge=1)
    vit_dim: int = Field(default=192, description="vit: width", ge=3)
    vit_depth: int = Field(default=12, description="vit: blocks", ge=1)
    vit_heads: int = Field(default=3, description="vit: attention heads", ge=1)
    latent: int = Field(default=32, description="size of the latent", ge=1)
    norm: bool = Field(default=False, description="LayerNorm of the latents, seen and predicted (PLDM); not for SIGReg")
    projector: int = Field(
        default=0, description="hidden width of the BatchNorm projectors behind encoder and predictor; 0: none"
    )
    predictor: Literal["mlp", "gru", "transformer"] = Field(
        default="mlp", description="what carries the latent through time"
    )
    hidden: int = Field(default=256, description="width of the predictor's hidden layers")
    depth: int = Field(default=2, description="hidden layers or blocks of the predictor", ge=1)
    heads: int = Field(default=16, description="transformer: attention heads", ge=1)
    head_dim: int = Field(default=64, description="transformer: channels of a head, even", ge=2)
    history: int = Field(default=1, description="transformer: steps that it sees, this one included", ge=1)
    dropout: float = Field(default=0.0, description="transformer: share of channels dropped", ge=0, lt=1)
    single: float = Field(default=1.0, description="weight of the loss on single steps from true latents", ge=0)
    rollout: int = Field(
        default=0, description="loss on this many imagined steps in a row; 0: on single steps only", ge=0
    )
    detach: bool = Field(default=False, description="stop the gradient at the target latents")
    sigreg: float = Field(default=0.09, description="weight of SIGReg at each time step", ge=0)
    slices: int = Field(default=1024, description="SIGReg: random directions drawn at each step", ge=1)
    std: float = Field(default=0.0, description="weight of the variance hinge (PLDM)", ge=0)
    cov: float = Field(default=0.0, description="weight of the covariance (PLDM)", ge=0)
    std_time: float = Field(default=0.0, description="weight of the variance hinge along each clip (PLDM)", ge=0)
    spread: Literal["step", "first", "all"] = Field(
        default="step",
        description="what std and cov are taken over: the batch at each step, at the first step, all steps together",
    )
    smooth: float = Field(
        default=0.0, description="weight of the squared change of the latent from step to step (PLDM)", ge=0
    )
    inverse: float = Field(
        default=0.0, description="weight of guessing the action from two latents (PLDM's inverse model)", ge=0
    )
    inverse_depth: int = Field(default=1, description="hidden layers of the inverse model", ge=1)


def _pldm(**terms: Any) -> JEPAConfig:
    """IMPALA's encoder and a GRU of 512, trained on imagined steps alone, without SIGReg."""
    return JEPAConfig(
        encoder="impala", latent=512, norm=True, predictor="gru", hidden=512, single=0.0, sigreg=0.0, inverse_depth=2
    ).model_copy(update=terms)


class JEPA(WorldModel):
    """Encoder → latent; latent and action → next latent; SIGReg or variance and covariance against collapse."""

    Config = JEPAConfig
    card = Card(
        name="LeWorldModel / PLDM",
        predicts="latents",
        decodes=False,
        backbone="MLP, GRU or causal transformer",
        paper="arXiv 2603.19312, 2502.14819",
    )
    presets: ClassVar[dict[str, Config]] = {
        "small": JEPAConfig(image_size=32, rollout=12, sigreg=0.1, slices=128, inverse=1.0),
        # The paper's Table; clips of 4 frames, frame_skip 5, AdamW 5e-5, batch 128 go with it.
        "lewm": JEPAConfig(
            encoder="vit",
            image_size=224,
            latent=192,
            projector=2048,
            predictor="transformer",
            hidden=2048,
            depth=6,
            history=3,
            dropout=0.1,
            sigreg=0.09,
        ),
        # PLDM on Wall, std and cov of the first frames only; Adam 1e-3, batch 64, clips of 16 steps go with it.
        "pldm": _pldm(std=3.98, cov=6.92, std_time=0.245, smooth=0.742, inverse=1.07, spread="first", rollout=16),
        # eb_jepa's Two Rooms (arXiv 2602.03604): AdamW 1e-3, decay 1e-5, gradients clipped at 2, batch 384, 17 frames.
        "eb_jepa": _pldm(std=16.0, cov=8.0, smooth=12.0, inverse=1.0, spread="all", rollout=8),
    }

    def __init__(self, config: JEPAConfig, spec: Spec) -> None:
        found, borrowed = borrow(config.eyes, spec, config.image_size)
        config = config.model_copy(update={"eyes": found})  # what is saved builds the same eyes without their folder
        super().__init__(config, spec)
        self.eyes = _Eyes(config, spec, borrowed)
        with maybe_no_inputs():
            self.predictor = _predictor(config, spec.action)
        self.inverse = _inverse(config, spec.action) if config.inverse and spec.action else None

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        z = self.predictor.norm(self.eyes(obs))
        if state is None or action is None:
            return {"z": z, **self.predictor.blank(z)}
        return {"z": z, **self.predictor.remember(state, action)}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        z, memory = self.predictor.step(state, action)
        return {"z": z, **memory}

    def energy(self, state: State, goal: State) -> Tensor:
        """Mean squared distance of the latents."""
        return (state["z"] - goal["z"]).square().mean(dim=-1)

    def features(self, state: State) -> Tensor:
        return state["z"]

    def imagine(self, state: State, actions: Tensor) -> State:
        """Latents only, `b n h d`: the shared past is neither repeated nor computed again."""
        return {"z": self.predictor.branch(state, actions)}

    def watch(self, clip: Clip) -> State:
        z = self.see(clip)  # b t+1 d
        state = {"z": z[:, 0], **self.predictor.blank(z[:, 0])}
        states = [state]
        for i in range(clip.length):
            state = {"z": z[:, i + 1], **self.predictor.remember(state, clip.action[:, i])}
            states.append(state)
        return stack(states)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """LeWorldModel eq. 1–3: squared error of the predicted latent, plus the weighted terms against collapse."""
        return self.judge(self.see(clip), clip.action)

    def see(self, clip: Clip) -> Tensor:
        """The latents of a clip's moments, each seen alone: `b t+1 d`. In training its vectors are also taken in."""
        if self.training:
            self.eyes.scale.see(clip.obs)
        b, t = clip.action.shape[:2]
        flat = {name: clip.obs[name].flatten(0, 1) for name in self.spec.obs}
        return self.predictor.norm(self.eyes(flat)).unflatten(0, (b, t + 1))

    def judge(self, z: Tensor, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of latents `b t+1 d` that actions `b t a` led through."""
        config = cast(JEPAConfig, self.config)
        target = z.detach() if config.detach else z
        parts = {"predict": (self.predictor(z[:, :-1], action) - target[:, 1:]).square().mean()}
        total = config.single * parts["predict"]
        if config.rollout:
            parts["rollout"] = self._rollout(z[:, 0], action[:, : config.rollout], target[:, 1:])
            total = total + parts["rollout"]
        over_batch = z.transpose(0, 1)  # t+1 b d
        if config.sigreg:
            columns = losses.directions(config.latent, config.slices, like=z)
            parts["sigreg"] = losses.sigreg(over_batch, columns)
            total = total + config.sigreg * parts["sigreg"]
        rows = {"step": over_batch, "first": z[:, 0], "all": z.flatten(0, 1)}[config.spread]
        if config.std:
            parts["std"] = losses.std_hinge(rows)
            total = total + config.std * parts["std"]
        if config.cov:
            parts["cov"] = losses.covariance(rows)
            total = total + config.cov * parts["cov"]
        if config.std_time:
            parts["std_time"] = losses.std_over_time(z)
            total = total + config.std_time * parts["std_time"]
        if config.smooth:
            parts["smooth"] = losses.smoothness(z)
            total = total + config.smooth * parts["smooth"]
        if self.inverse is not None:
            guess = self.inverse(torch.cat([z[:, :-1], z[:, 1:]], dim=-1))
            parts["inverse"] = F.mse_loss(guess, action)
            total = total + config.inverse * parts["inverse"]
        return total, each(Tensor.detach, parts)

    def _rollout(self, z: Tensor, actions: Tensor, target: Tensor) -> Tensor:
        imagined = self.predictor.branch({"z": z, **self.predictor.blank(z)}, actions[:, None])[:, 0]  # b h d
        return (imagined - target[:, : imagined.shape[1]]).square().mean()


class _Eyes(nn.Module):
    """All sensors → one latent `b d`."""

    def __init__(self, config: JEPAConfig, spec: Spec, borrowed: list[BorrowedEyes]) -> None:
        super().__init__()
        self.images, self.vectors = spec.images(), spec.vectors()
        self.size = config.eyes.size if borrowed else config.image_size
        self.image_eyes = nn.ModuleList()  # in the order of `images`: a sensor's name may hold dots, a module's not
        self.vector_eyes = nn.ModuleList()
        self.scale = VectorScale(spec, config.standardise, symlog=not config.standardise)
        width = 0
        for eyes in borrowed:
            self.image_eyes.append(eyes)
            width += eyes.width
        for name in () if borrowed else self.images:
            y, x, c = spec.obs[name]
            size = (config.image_size, config.image_size) if config.image_size else (y, x)
            if config.encoder == "vit":
                if size[0] != size[1]:
                    raise UserError(f"a vit sees squares, sensor {name!r} is {y}×{x}: set image_size, or encoder=conv")
                eye: nn.Module = ViT(c, size[0], config.patch, config.vit_dim, config.vit_depth, config.vit_heads)
                width += config.vit_dim
            else:
                eye = ImpalaEncoder(c, size) if config.encoder == "impala" else ConvEncoder(c, size, config.channels)
                width += eye.width
            self.image_eyes.append(eye)
        for name in self.vectors:
            size_in = spec.obs[name][0]
            self.vector_eyes.append(
                nn.Sequential(Linear(size_in, config.hidden), nn.LayerNorm(config.hidden), nn.SiLU())
            )
            width += config.hidden
        self.out = (
            Projector(width, config.projector, config.latent) if config.projector else Linear(width, config.latent)
        )

    def forward(self, obs: Obs) -> Tensor:
        seen = [eye(image_in(obs[name], self.size)) for name, eye in zip(self.images, self.image_eyes, strict=True)]
        seen += [
            eye(self.scale.squeezed(name, obs[name].float()))
            for name, eye in zip(self.vectors, self.vector_eyes, strict=True)
        ]
        return self.out(torch.cat(seen, dim=-1))


def _predictor(config: JEPAConfig, action: int) -> Predictor:
    if config.predictor == "gru":
        return GRUPredictor(config.latent, action, config.norm)
    if config.norm:
        raise UserError("norm=true goes with predictor=gru: the others add a change to the latent, or end in a norm")
    if config.predictor == "mlp":
        return MLPPredictor(config.latent, action, config.hidden, config.depth)
    return TransformerPredictor(
        config.latent,
        action,
        config.hidden,
        config.depth,
        config.heads,
        config.head_dim,
        config.history,
        config.dropout,
        config.projector,
    )


def _inverse(config: JEPAConfig, action: int) -> nn.Sequential:
    """Two latents → the action between them."""
    layers: list[nn.Module] = []
    for width in (2 * config.latent, *[config.hidden] * (config.inverse_depth - 1)):
        layers += [Linear(width, config.hidden), nn.SiLU()]
    return nn.Sequential(*layers, Linear(config.hidden, action))
