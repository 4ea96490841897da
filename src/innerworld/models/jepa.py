"""A joint-embedding world model trained from scratch: LeWorldModel (arXiv 2603.19312) with PLDM's terms (2502.14819).

An encoder turns what is seen into a latent, a predictor turns a latent and an action into the next latent, and a
regulariser keeps the latents from collapsing. There is no decoder; a goal is compared latent to latent.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld import losses
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.eyes import BorrowConfig, BorrowedEyes, borrow
from innerworld.nn.conv import ConvEncoder
from innerworld.nn.mlp import maybe_no_inputs
from innerworld.nn.sensors import image_in, symlog
from innerworld.nn.transformer import SteeredTransformer
from innerworld.nn.vit import ViT
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, WorldModel, stack


class JEPAConfig(Config):
    encoder: Literal["conv", "vit"] = Field(default="conv", description="what looks at images")
    image_size: int | None = Field(
        default=None, description="side at which images are seen, pixels (none: as they come)", ge=8
    )
    eyes: BorrowConfig = Field(default=BorrowConfig(), description="an encoder of perception instead of `encoder`")
    channels: int = Field(default=16, description="conv encoder: channels of the first layer, doubled at each", ge=1)
    patch: int = Field(default=14, description="vit: side of a patch, pixels", ge=1)
    vit_dim: int = Field(default=192, description="vit: width", ge=3)
    vit_depth: int = Field(default=12, description="vit: blocks", ge=1)
    vit_heads: int = Field(default=3, description="vit: attention heads", ge=1)
    latent: int = Field(default=32, description="size of the latent", ge=1)
    projector: int = Field(
        default=0, description="hidden width of the BatchNorm projectors behind encoder and predictor; 0: none"
    )
    predictor: Literal["mlp", "transformer"] = Field(default="mlp", description="what carries the latent through time")
    hidden: int = Field(default=256, description="width of the predictor's hidden layers")
    depth: int = Field(default=2, description="hidden layers or blocks of the predictor", ge=1)
    heads: int = Field(default=16, description="transformer: attention heads", ge=1)
    head_dim: int = Field(default=64, description="transformer: channels of a head, even", ge=2)
    history: int = Field(default=1, description="transformer: steps that it sees, this one included", ge=1)
    dropout: float = Field(default=0.0, description="transformer: share of channels dropped", ge=0, lt=1)
    rollout: int = Field(
        default=0, description="loss on this many imagined steps in a row; 0: on single steps only", ge=0
    )
    detach: bool = Field(default=False, description="stop the gradient at the target latents")
    sigreg: float = Field(default=0.09, description="weight of SIGReg at each time step", ge=0)
    slices: int = Field(default=1024, description="SIGReg: random directions drawn at each step", ge=1)
    std: float = Field(default=0.0, description="weight of the variance hinge (PLDM)", ge=0)
    cov: float = Field(default=0.0, description="weight of the covariance (PLDM)", ge=0)
    smooth: float = Field(
        default=0.0, description="weight of the squared change of the latent from step to step (PLDM)", ge=0
    )
    inverse: float = Field(
        default=0.0, description="weight of guessing the action from two latents (PLDM's inverse model)", ge=0
    )


class JEPA(WorldModel):
    """Encoder → latent; latent and action → next latent; SIGReg or variance and covariance against collapse."""

    Config = JEPAConfig
    card = Card(
        name="LeWorldModel / PLDM",
        predicts="latents",
        decodes=False,
        backbone="MLP or causal transformer",
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
    }

    def __init__(self, config: JEPAConfig, spec: Spec) -> None:
        found, borrowed = borrow(config.eyes, spec, config.image_size)
        config = config.model_copy(update={"eyes": found})  # what is saved builds the same eyes without their folder
        super().__init__(config, spec)
        self.eyes = _Eyes(config, spec, borrowed)
        predictor = _MLPPredictor if config.predictor == "mlp" else _TransformerPredictor
        with maybe_no_inputs():
            self.predictor = predictor(config, spec.action)
        self.inverse = nn.Sequential(
            nn.Linear(2 * config.latent, config.hidden), nn.SiLU(), nn.Linear(config.hidden, spec.action)
        ) if config.inverse and spec.action else None  # fmt: skip

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        z = self.eyes(obs)
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
        z = self._see(clip)  # b t+1 d
        state = {"z": z[:, 0], **self.predictor.blank(z[:, 0])}
        states = [state]
        for i in range(clip.length):
            state = {"z": z[:, i + 1], **self.predictor.remember(state, clip.action[:, i])}
            states.append(state)
        return stack(states)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """LeWorldModel eq. 1–3: squared error of the predicted latent, plus the weighted terms against collapse."""
        config = cast(JEPAConfig, self.config)
        z = self._see(clip)  # b t+1 d
        target = z.detach() if config.detach else z
        parts = {"predict": (self.predictor(z[:, :-1], clip.action) - target[:, 1:]).square().mean()}
        total = parts["predict"]
        if config.rollout:
            parts["rollout"] = self._rollout(z[:, 0], clip.action[:, : config.rollout], target[:, 1:])
            total = total + parts["rollout"]
        over_batch = z.transpose(0, 1)  # t+1 b d
        if config.sigreg:
            columns = losses.directions(config.latent, config.slices, like=z)
            parts["sigreg"] = losses.sigreg(over_batch, columns)
            total = total + config.sigreg * parts["sigreg"]
        if config.std:
            parts["std"] = losses.std_hinge(over_batch)
            total = total + config.std * parts["std"]
        if config.cov:
            parts["cov"] = losses.covariance(over_batch)
            total = total + config.cov * parts["cov"]
        if config.smooth:
            parts["smooth"] = (z[:, 1:] - z[:, :-1]).square().mean()
            total = total + config.smooth * parts["smooth"]
        if self.inverse is not None:
            guess = self.inverse(torch.cat([z[:, :-1], z[:, 1:]], dim=-1))
            parts["inverse"] = F.mse_loss(guess, clip.action)
            total = total + config.inverse * parts["inverse"]
        return total, each(Tensor.detach, parts)

    def _see(self, clip: Clip) -> Tensor:
        b, t = clip.action.shape[:2]
        flat = {name: clip.obs[name].flatten(0, 1) for name in self.spec.obs}
        return self.eyes(flat).unflatten(0, (b, t + 1))

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
                eye = ConvEncoder(c, size, config.channels)
                width += eye.width
            self.image_eyes.append(eye)
        for name in self.vectors:
            size_in = spec.obs[name][0]
            self.vector_eyes.append(
                nn.Sequential(nn.Linear(size_in, config.hidden), nn.LayerNorm(config.hidden), nn.SiLU())
            )
            width += config.hidden
        self.out = (
            _projector(width, config.projector, config.latent) if config.projector else nn.Linear(width, config.latent)
        )

    def forward(self, obs: Obs) -> Tensor:
        seen = [eye(image_in(obs[name], self.size)) for name, eye in zip(self.images, self.image_eyes, strict=True)]
        seen += [eye(symlog(obs[name].float())) for name, eye in zip(self.vectors, self.vector_eyes, strict=True)]
        return self.out(torch.cat(seen, dim=-1))


class _MLPPredictor(nn.Module):
    """The next latent is this one plus a change that depends on both latent and action. It has no memory."""

    def __init__(self, config: JEPAConfig, action: int) -> None:
        super().__init__()
        self.z_in = nn.Linear(config.latent, config.hidden)
        self.action_in = nn.Linear(action, config.hidden, bias=False)
        body: list[nn.Module] = [nn.LayerNorm(config.hidden), nn.SiLU()]
        for _ in range(config.depth - 1):
            body += [nn.Linear(config.hidden, config.hidden), nn.LayerNorm(config.hidden), nn.SiLU()]
        self.body = nn.Sequential(*body, nn.Linear(config.hidden, config.latent))

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        """Latents `... d`, actions `... a` → next latents `... d`."""
        return z + self.body(self.z_in(z) + self.action_in(action))

    def blank(self, z: Tensor) -> State:
        return {}

    def remember(self, state: State, action: Tensor) -> State:
        return {}

    def step(self, state: State, action: Tensor) -> tuple[Tensor, State]:
        return self(state["z"], action), {}

    def branch(self, state: State, actions: Tensor) -> Tensor:
        """`z` `b d` and candidates `b n h a` → latents `b n h d`."""
        moves = self.action_in(actions)
        z = state["z"][:, None].expand(-1, actions.shape[1], -1)
        imagined = []
        for h in range(actions.shape[2]):
            z = z + self.body(self.z_in(z) + moves[:, :, h])
            imagined.append(z)
        return torch.stack(imagined, dim=2)


class _TransformerPredictor(nn.Module):
    """LeWorldModel's predictor: a causal transformer over latents, steered by the embedded actions."""

    def __init__(self, config: JEPAConfig, action: int) -> None:
        super().__init__()
        d = config.latent
        self.mix = nn.Linear(action, action)  # LeWorldModel's 1-wide convolution over the action block
        self.embed = nn.Sequential(nn.Linear(action, 4 * d), nn.SiLU(), nn.Linear(4 * d, d))
        self.body = SteeredTransformer(
            d, config.depth, config.heads, config.head_dim, config.hidden, config.history, config.dropout
        )
        self.out = _projector(d, config.projector, d) if config.projector else nn.Linear(d, d)

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        """Latents `b t d`, actions `b t a` → next latents `b t d`, each from the true latents before it."""
        return self.out(self.body(z, self.embed(self.mix(action))))

    def blank(self, z: Tensor) -> State:
        keys, values = self.body.blank(z.shape[0], z)
        return {"keys": keys, "values": values, "time": z.new_zeros(z.shape[0], dtype=torch.long)}

    def remember(self, state: State, action: Tensor) -> State:
        """The memory after acting, for a belief whose latent comes from looking."""
        return self.step(state, action)[1]

    def step(self, state: State, action: Tensor) -> tuple[Tensor, State]:
        past = state["keys"], state["values"]
        x, (keys, values) = self.body.step(state["z"], self.embed(self.mix(action)), past, state["time"])
        return self.out(x), {"keys": keys, "values": values, "time": state["time"] + 1}

    def branch(self, state: State, actions: Tensor) -> Tensor:
        """`z` `b d` with its memory and candidates `b n h a` → latents `b n h d`; one token per candidate and step."""
        n, h = actions.shape[1:3]
        moves = self.embed(self.mix(actions))
        z = state["z"][:, None].expand(-1, n, -1)
        own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.body.blocks]
        imagined = []
        for i in range(h):
            z = self.out(self.body.branch(z, moves[:, :, i], (state["keys"], state["values"]), own, state["time"], i))
            imagined.append(z)
        return torch.stack(imagined, dim=2)


def _projector(width: int, hidden: int, out: int) -> nn.Module:
    """LeWorldModel's projector. BatchNorm, because the LayerNorm that ends a ViT would stand in SIGReg's way."""
    return _OverLeadingAxes(
        nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, out))
    )


class _OverLeadingAxes(nn.Module):
    """BatchNorm over every leading axis: `... d` → `... d`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])
